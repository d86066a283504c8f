import pytest
import torch

from umbel.errors import BackendError
from umbel.ops import backends
from umbel.ops.causal_conv import causal_conv, offered


def test_auto_takes_the_first_that_can_run():
    assert backends.choose("scan", "auto", {"a": "is broken", "b": None, "c": None}) == "b"


def test_a_backend_that_cannot_run_says_why_and_what_can():
    with pytest.raises(BackendError) as caught:
        backends.choose("scan", "a", {"a": "takes tensors on a CUDA device, and got cpu", "b": None, "c": None})
    assert str(caught.value) == (
        "scan: backend 'a' takes tensors on a CUDA device, and got cpu. Here backend='auto' or b or c can run."
    )


def test_without_numba_the_plain_torch_twin_runs(monkeypatch):
    x = torch.ones(1, 3, 2)
    assert offered(x)["cpu"] is None
    monkeypatch.setitem(backends.INSTALLED, "numba", False)
    assert backends.choose("causal_conv", "auto", offered(x)) == "shifted"
    assert causal_conv(x, torch.ones(2, 4), torch.zeros(2)).shape == x.shape
    with pytest.raises(BackendError, match=r"backend 'cpu' needs numba, which is not installed \(pip install numba\)"):
        causal_conv(x, torch.ones(2, 4), torch.zeros(2), backend="cpu")


def test_triton_is_for_gpus_and_for_checks_by_its_interpreter(monkeypatch):
    monkeypatch.setitem(backends.INSTALLED, "triton", True)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert backends.why_not_triton(torch.ones(1)) == "takes tensors on a CUDA device, and got cpu"
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert backends.why_not_triton(torch.ones(1)) is None
    assert backends.choose("scan", "auto", {"triton": None, "chunked": None}) == "chunked"
    assert backends.choose("scan", "triton", {"triton": None, "chunked": None}) == "triton"
    assert "takes float32, bfloat16 and float16" in backends.why_not_triton(torch.ones(1).double())
    monkeypatch.setitem(backends.INSTALLED, "triton", False)
    assert "needs triton" in backends.why_not_triton(torch.ones(1))
