import errno
import json
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
