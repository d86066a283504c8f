"""What a pass takes against what a process is seen to take, and batches that follow from it."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import toy_run

from umbel.data.kmers import KmerTokens
from umbel.errors import ConfigError
from umbel.model.hf import new_model
from umbel.ops import devices
from umbel.predict import memory
from umbel.predict.batches import padding_share, similar_lengths
from umbel.predict.memory import Budget, PassBytes
from umbel.predict.predictor import Predictor

CPU = torch.device("cpu")

PEAK = """
import ctypes, json, sys, torch
from pathlib import Path
from umbel.config import ModelConfig
from umbel.model.backbone import Backbone
from umbel.model.int8 import round_backbone
from umbel.predict.memory import pass_bytes

def kilobytes(field):
    return int(next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field)).split()[1])

torch.set_num_threads(1)
for shape, rows, width, precision in json.loads(sys.argv[1]):
    backbone = Backbone(ModelConfig(**shape)).eval()
    if precision == "int8":
        round_backbone(backbone)
    estimate = pass_bytes(backbone, torch.device("cpu")).of(rows, width)
    with torch.inference_mode():
        backbone(torch.full((1, 64), 7))
        ids = torch.randint(7, 11, (rows, width))
        # What earlier passes have left would be used again.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = kilobytes("VmRSS")
        backbone(ids)
        print((kilobytes("VmHWM") - before) * 1024, estimate)
"""
# In 8 bits first: its many short-lived buffers fall into holes that others leave.
SHAPES = {
    "in 8 bits": ({"n_layers": 2, "d_model": 256, "ffn_hidden": 704}, 2, 4000, "int8"),
    "published": ({"n_layers": 2, "d_model": 256, "ffn_hidden": 704}, 1, 6000, "fp32"),
    "published, many rows": ({"n_layers": 2, "d_model": 256, "ffn_hidden": 704}, 64, 600, "fp32"),
    "many experts": ({"pattern": "Me", "n_layers": 2, "d_model": 128, "n_experts": 32, "top_k": 2}, 16, 1024, "fp32"),
    "attention": ({"pattern": "Hd Ae", "n_layers": 2, "d_model": 256, "ffn_hidden": 688}, 8, 1024, "fp32"),
}


def test_bytes_are_those_of_a_process():
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    shapes = json.dumps(list(SHAPES.values()))
    done = subprocess.run([sys.executable, "-c", PEAK, shapes], capture_output=True, text=True)
    if "clear_refs" in done.stderr or "malloc_trim" in done.stderr:
        pytest.skip("the peak cannot be set back here")
    for name, line in zip(SHAPES, done.stdout.splitlines(), strict=True):
        measured, estimate = map(int, line.split())
        assert measured > 1e7
        assert estimate == pytest.approx(measured, rel=0.25), name


def tiny(pattern="Md Me", k=1):
    config = replace(toy_run().model, pattern=pattern, vocab_size=KmerTokens(k).size)
    return Predictor(new_model(config, 256, 0), "toy", CPU, KmerTokens(k))


@pytest.mark.parametrize("pattern", ["Md Me", "Hd Ae", "Hd Md"])
def test_results_do_not_depend_on_free_memory(pattern, monkeypatch):
    predictor, rng = tiny(pattern), np.random.default_rng(0)
    codes = [rng.integers(0, 4, n).astype(np.uint8) for n in (50, 9, 120, 80, 81, 30)]
    hidden = [sequence == 2 for sequence in codes]
    wanted = predictor.embed(codes), np.concatenate(predictor.masked_log_probs(codes, hidden))
    needs = predictor.budget().cost
    sizes = []
    for rows in (1, 2, 100):
        free = 2 * needs.of(rows, 122) + 1000
        monkeypatch.setattr(memory, "available_bytes", lambda device, free=free: free)
        sizes.append(predictor.budget().rows_of(122))
        np.testing.assert_allclose(predictor.embed(codes), wanted[0], atol=1e-5)
        logs = np.concatenate(predictor.masked_log_probs(codes, hidden))
        np.testing.assert_allclose(logs, wanted[1], atol=1e-5)
    assert sizes == [1, 2, 100]


def test_what_does_not_fit_is_refused_before_anything_is_computed(monkeypatch):
    predictor = tiny()
    codes = [np.zeros(50, np.uint8), np.zeros(4000, np.uint8)]
    free = 2 * predictor.budget().cost.of(1, 3000)
    monkeypatch.setattr(memory, "available_bytes", lambda device: free)
    longest = predictor.budget().cost.longest(free / 2)
    assert 2998 <= longest <= 3000
    monkeypatch.setattr(type(predictor.backbone), "forward", lambda *a, **k: pytest.fail("computed"))
    text = (
        rf"a sequence of 4,002 tokens takes about \d+ MB in one pass, and \d+ MB may be used \(50% of what is free on "
        rf"cpu\): cut it into windows of {longest:,} tokens or fewer, or free memory"
    )
    with pytest.raises(ConfigError, match=text):
        predictor.embed(codes)


def test_rows_of_a_pass():
    cost = PassBytes(fixed=100, piece=4, along_row=10, each=2)
    assert cost.of(3, 5) == 100 + 4 * 5 + 10 * 5 + 2 * 3 * 5
    assert Budget(cost, CPU, tokens=100).rows_of(30) == 3
    assert Budget(cost, CPU, tokens=100).rows_of(300) == 1
    for free in (10_000, 1e6, 3e7):
        longest = cost.longest(free)
        assert cost.of(1, longest) <= free < cost.of(1, longest + 2)


def test_little_is_padding():
    rng = np.random.default_rng(0)
    lengths = np.exp(rng.uniform(np.log(20), np.log(20_000), 400)).astype(int).tolist()
    groups = similar_lengths(lengths, lambda width: max(1, 16_384 // width))
    assert sorted(i for group in groups for i in group) == list(range(400))
    assert padding_share(lengths, groups) < 0.08
    for group in groups:
        assert len(group) * max(lengths[i] for i in group) <= max(16_384, max(lengths))


def test_limits_of_a_control_group_count(tmp_path):
    assert devices._group_bytes(tmp_path) == []
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 50\n")
    assert devices._group_bytes(tmp_path) == []
    (tmp_path / "memory.max").write_text("1000\n")
    assert devices._group_bytes(tmp_path) == [350]
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  4 kB\n")
    assert devices._machine_bytes(tmp_path / "meminfo") == 4096
    assert devices._machine_bytes(tmp_path / "nothing") is None
