import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from umbel.errors import OutputError, RunError
from umbel.progress import Reporter
from umbel.train.state import load_newest_state, read_metrics, rewind_metrics, save_state

CPU, SILENT = torch.device("cpu"), Reporter(quiet=True)


def test_newest_states_are_kept_and_loaded(tmp_path):
    for step in (5, 10, 15):
        save_state(tmp_path, step, {"x": torch.full((2,), step)}, keep=2)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-000000010.pt", "step-000000015.pt"]
    assert load_newest_state(tmp_path, CPU, SILENT)["x"].tolist() == [15, 15]
    assert load_newest_state(tmp_path / "none", CPU, SILENT) is None


def test_a_full_disk_leaves_the_earlier_states(tmp_path, monkeypatch):
    save_state(tmp_path, 5, {"x": 1}, keep=1)

    def full(content, path):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match="the disk is full: free some space"):
        save_state(tmp_path, 10, {"x": 2}, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000005.pt"]
    assert load_newest_state(tmp_path, CPU, SILENT)["x"] == 1


def test_metrics_are_rewound_to_the_state(tmp_path):
    path = tmp_path / "metrics.jsonl"
    records = [{"kind": "train", "step": step} for step in (1, 2, 3)]
    path.write_text("".join(json.dumps(r) + "\n" for r in records) + '{"kind": "tr')
    assert rewind_metrics(path, 2) == records[:2]
    assert read_metrics(path) == records[:2]


def test_a_damaged_line_in_the_middle_is_an_error(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(RunError, match=r"metrics.jsonl, line 2: not JSON"):
        read_metrics(path)


CHILD = """
import resource, signal, sys, torch
from pathlib import Path
from toys import toy_run
from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import hf_tokenizer
from umbel.errors import OutputError
from umbel.model.checkpoint import save_checkpoint
from umbel.model.hf import new_model
from umbel.train.state import save_state

folder, model = Path(sys.argv[1]), new_model(toy_run().model, 256, 0)
save_state(folder / "state", 5, {"x": 1}, keep=1)
save_checkpoint(folder / "checkpoint", model, hf_tokenizer(KmerTokens(1), 256))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for save in (
    lambda: save_state(folder / "state", 10, {"x": torch.zeros(100_000)}, keep=1),
    lambda: save_checkpoint(folder / "checkpoint", model, hf_tokenizer(KmerTokens(1), 256)),
):
    try:
        save()
    except OutputError as error:
        print(error)
"""


def test_a_disk_that_really_refuses_is_told_though_torch_and_safetensors_hide_it(tmp_path):
    """A limit on file size stands for the full disk: both writers fail midway, with errors of their own."""
    here = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *here])}
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 2, done.stderr
    assert all("is larger than this system allows" in line and "Earlier output is untouched" in line for line in lines)
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["step-000000005.pt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "state"]
    assert (tmp_path / "checkpoint" / "model.safetensors").stat().st_size > 20_000
