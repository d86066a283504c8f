"""Kernels on torch's threads: every task once, torch's setting untouched, and a twin where OpenMP is missing."""

import ctypes
import subprocess
import sys

import pytest
import torch

from umbel.ops import threads
from umbel.ops.grouped_mlp.cpu import swiglu
from umbel.ops.threads import load_kernels


@pytest.fixture
def two_threads():
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.parametrize("openmp", [True, False])
def test_every_task_runs_once(two_threads, monkeypatch, openmp):
    if not openmp:
        monkeypatch.setattr(threads, "_openmp", lambda: None)
    gated, upped = torch.randn(200_000), torch.randn(200_000)
    out = swiglu(gated, upped, torch.empty(200_000))
    torch.testing.assert_close(out, torch.nn.functional.silu(gated) * upped)


def test_threads_are_no_more_than_torch_is_set_to_use(two_threads, monkeypatch):
    asked, openmp = [], threads._openmp()
    if openmp is None:
        pytest.skip("torch came without libgomp here")
    monkeypatch.setattr(threads, "_openmp", lambda: lambda *a: asked.append(a[2]) or openmp(*a))
    many = torch.ones(200_000)
    swiglu(many, many, many.clone())
    torch.set_num_threads(1)
    swiglu(many, many, many.clone())
    torch.set_num_threads(2)
    assert asked == [2]


def test_torchs_number_of_threads_stays_as_it_is():
    """In a fresh process: importing and running the kernels sets nothing."""
    code = "import torch; torch.set_num_threads(1)\n"
    code += "from umbel.ops.rms_norm import add_rms_norm\n"
    code += "add_rms_norm(torch.ones(4, 8), None, torch.ones(8), 1e-5, backend='cpu'); print(torch.get_num_threads())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_floats_travel_in_integers():
    for value in (1e-5, -0.0, 3.25):
        packed = ctypes.c_int64(threads.float_argument(value))
        assert ctypes.c_double.from_buffer(packed).value == value


def test_compiling_is_announced_when_it_takes_long(monkeypatch):
    said = []
    monkeypatch.setattr(threads.logger, "info", said.append)
    monkeypatch.setattr(threads, "NOTICE_AFTER_S", 0.01)
    monkeypatch.setattr(threads.importlib, "import_module", lambda name: threads.threading.Event().wait(0.3) or name)
    load_kernels.__wrapped__("umbel.ops.some_kernels")
    assert said == ["compiling some_kernels for this processor (some seconds, once after installation)"]
