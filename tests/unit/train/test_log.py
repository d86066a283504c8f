import io
import itertools
import json
import os
import time
from types import SimpleNamespace

import pytest
from toys import toy_run

from umbel.errors import OutputError
from umbel.progress import Reporter
from umbel.train import log as log_module
from umbel.train.log import RunLog
from umbel.train.state import read_metrics

SILENT = Reporter(quiet=True)
LAYER = {"layer": 1, "max_over_mean": 1.5, "cv": 0.3, "n_dead": 0, "entropy": 0.9, "routing_entropy": 0.8}


def train(step, **more):
    speed = {"lr": 1e-3 * step, "grad_norm": 1.0, "tokens_per_s": 1000.0 * step, "seconds": 0.5 * step}
    return {"kind": "train", "step": step, "loss": 2.0 - 0.1 * step, "accuracy": 0.25, **speed, **more}


def valid(step):
    return {"kind": "valid", "step": step, "loss": 1.9, "accuracy": 0.3, "experts": [{**LAYER, "load": [0.5, 0.5]}]}


def run_from(folder, first, last, every=4, **more):
    """What a loop writes from one step to another: a train line each, and a valid line now and then."""
    with RunLog(folder, toy_run(), first, SILENT) as log:
        if first:
            log.event(first, "resumed", "by the same command")
        for step in range(first + 1, last + 1):
            log(train(step, **more))
            if step % every == 0:
                log(valid(step))


def board(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return found


def lines_of(folder, *kinds):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [line for line in lines if json.loads(line)["kind"] in kinds]


def test_records_are_lines_in_their_order_and_the_newest_of_each_kind_is_at_hand(tmp_path):
    records = [train(1), valid(1), {"kind": "event", "step": 1, "event": "saved", "text": "x"}, train(2)]
    with RunLog(tmp_path, toy_run(), 0, SILENT) as log:
        for record in records:
            log(record)
            assert read_metrics(tmp_path / "metrics.jsonl")[-1] == record
        assert log.last == {"train": records[3], "valid": records[1], "event": records[2]}
    assert read_metrics(tmp_path / "metrics.jsonl") == records


def test_a_stopped_run_tells_what_an_unbroken_one_tells(tmp_path):
    """Stopped in step 7, and again in step 11, with states after steps 5 and 10."""
    for name, ends in (("whole", [(0, 12)]), ("stopped", [(0, 7), (5, 11), (10, 12)])):
        (tmp_path / name).mkdir()
        for first, last in ends:
            run_from(tmp_path / name, first, last)
    whole, stopped = (lines_of(tmp_path / name, "train", "valid") for name in ("whole", "stopped"))
    assert stopped == whole and len(whole) == 15
    assert [json.loads(line)["step"] for line in lines_of(tmp_path / "stopped", "event")] == [5, 10]


def test_a_rollback_takes_its_lines_back_and_its_event_stays(tmp_path, monkeypatch):
    from tensorboard.summary.writer import event_file_writer

    # Its files are read in the order of their names: the second, and a number without noughts in front. Of a training,
    # unlike here, no two are of the same second.
    seconds = itertools.count(int(time.time()))
    monkeypatch.setattr(event_file_writer, "time", SimpleNamespace(time=lambda: next(seconds)))
    with RunLog(tmp_path, toy_run(), 0, SILENT) as log:
        for step in range(1, 8):
            log(train(step))
        log(valid(7))
        log.event(7, "skipped", "the loss is nan")
        log.roll_back(8, 5, "the loss is inf")
        assert log.last["train"]["step"] == 5 and "valid" not in log.last
        for step in range(6, 9):
            log(train(step, loss=9.0))
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [(r["kind"], r["step"]) for r in records] == [
        *(("train", step) for step in range(1, 6)),
        ("event", 5),
        *(("train", step) for step in range(6, 9)),
    ]
    told = {"kind": "event", "step": 5, "event": "rolled back", "text": "the loss is inf", "from_step": 8}
    assert records[5] == told
    run_from(tmp_path, 6, 7)
    assert told in read_metrics(tmp_path / "metrics.jsonl")
    assert [(event.step, event.value) for event in board(tmp_path).Scalars("train/loss")] == [
        *((step, pytest.approx(2.0 - 0.1 * step)) for step in range(1, 6)),
        (6, 9.0),
        (7, pytest.approx(1.3)),
    ]


def test_tensorboard_has_every_float_the_experts_of_each_layer_and_the_events(tmp_path):
    with RunLog(tmp_path, toy_run(), 0, SILENT) as log:
        log(train(1, mfu=0.4, n_unplaced=3, experts=[LAYER, {**LAYER, "layer": 3, "n_dead": 2}]))
        log(valid(1))
        log.event(1, "skipped", "the loss is nan")
    found = board(tmp_path)
    measured = {"loss", "accuracy", "lr", "grad_norm", "tokens_per_s", "seconds", "mfu"}
    names = ("max_over_mean", "cv", "n_dead", "entropy", "routing_entropy")
    assert set(found.Tags()["scalars"]) == {
        *(f"train/{name}" for name in measured),
        "valid/loss",
        "valid/accuracy",
        *(f"experts_train/layer_{layer}/{name}" for layer in (1, 3) for name in names),
        *(f"experts_valid/layer_1/{name}" for name in names),
    }
    assert [event.value for event in found.Scalars("experts_train/layer_3/n_dead")] == [2.0]
    (text,) = found.Tensors("events/text_summary")
    assert text.tensor_proto.string_val == [b"skipped: the loss is nan"]


def test_the_bar_shows_loss_speed_and_validation_and_goes_back_with_a_rollback(tmp_path):
    shown = io.StringIO()
    with RunLog(tmp_path, toy_run(), 4, Reporter(stream=shown, every_s=0.0)) as log:
        log(valid(4))
        log(train(5, placement_loss=1.0, placement_accuracy=0.5))
        log(train(6))
        log.roll_back(7, 5, "the loss is nan")
        log({"kind": "train", "step": 6, "placement_loss": 1.0, "placement_accuracy": 0.25, "tokens_per_s": 7.0})
    lines = shown.getvalue().strip().splitlines()
    assert "training toy" in lines[0] and " 4/12 " in lines[0]
    assert any(" 5/12 " in x and "loss 1.500 acc 0.250 placed 0.500 5,000 tok/s" in x for x in lines)
    assert " 6/12 " in lines[-1] and "placed 0.250 7 tok/s" in lines[-1]


def test_without_tensorboard_it_says_so_and_writes_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(log_module, "find_spec", lambda name: None)
    shown = io.StringIO()
    with RunLog(tmp_path, toy_run(), 0, Reporter(stream=shown)) as log:
        log(train(1))
    assert "tensorboard is not installed (pip install 'umbel[train]'): curves go to metrics.jsonl" in shown.getvalue()
    assert not (tmp_path / "tensorboard").exists() and len(read_metrics(tmp_path / "metrics.jsonl")) == 1


def test_a_full_disk_is_told_and_the_lines_before_are_whole(tmp_path):
    refused = pytest.raises(OutputError, match=r"metrics\.jsonl: could not be written, the disk is full")
    with refused, RunLog(tmp_path, toy_run(), 0, SILENT) as log:
        log(train(1))
        with open("/dev/full", "wb") as full:
            os.dup2(full.fileno(), log._file.fileno())
        log(train(2))
    run_from(tmp_path, 1, 3)
    assert [json.loads(line)["step"] for line in lines_of(tmp_path, "train")] == [1, 2, 3]
