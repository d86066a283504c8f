"""A process of several is killed, the disk fails, the number of processes changes: the run ends as if nothing was."""

import json
import random
import shutil
import sys
import time
from dataclasses import replace

import pytest
import torch
from ranks import Ranks, run_ranks
from safetensors.torch import load_file
from toys import toy_run

from umbel.config import ParallelConfig
from umbel.progress import Reporter
from umbel.train.pretrain import pretrain
from umbel.train.state import read_metrics

TIMES = ("tokens_per_s", "seconds", "mfu", "data_wait_frac", "peak_memory_gb")
LONG = toy_run(steps=40, save_every_steps=3, batch_windows=4, micro_batch_windows=1, eval_every_steps=20, ema_decay=0.9)


def train(run, corpus, folder, is_told=False):
    torch.use_deterministic_algorithms(True)
    pretrain(run, corpus, folder, device="cpu", reporter=Reporter(stream=sys.stderr) if is_told else None)


def told(folder):
    records = [record for record in read_metrics(folder / "metrics.jsonl") if record["kind"] != "event"]
    return [{k: v for k, v in record.items() if k not in TIMES} for record in records]


def n_told(folder):
    path = folder / "metrics.jsonl"
    return path.read_text().count('"kind": "train"') if path.exists() else 0


def files_of(folder):
    names = ("checkpoint", "checkpoint_ema", "best")
    return {name: (folder / name / "model.safetensors").read_bytes() for name in names}


@pytest.fixture(scope="module", params=["ddp", "fsdp"])
def unbroken(request, toy_corpus, tmp_path_factory):
    """A run of 40 steps of two processes that nothing happened to."""
    run = replace(LONG, parallel=ParallelConfig(kind=request.param))
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    run_ranks(train, 2, run, toy_corpus.path, folder)
    return run, folder


@pytest.mark.parametrize("n_kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_kills_of_a_process_change_nothing(n_kills, unbroken, toy_corpus, tmp_path):
    run, whole = unbroken
    folder, rng, kills, at = tmp_path / "run", random.Random(2), 0, []
    while kills < n_kills:
        ranks = Ranks(train, 2, run, toy_corpus.path, folder)
        wanted, end = n_told(folder) + rng.randint(0, 5), time.monotonic() + 60
        while ranks.are_running and n_told(folder) < wanted and time.monotonic() < end:
            time.sleep(0.001)
        time.sleep(rng.random() * 0.03)
        if not ranks.are_running:
            # It came to the end before its kill: from here on only the last steps are done again.
            ranks.results()
            shutil.rmtree(sorted((folder / "state").glob("step-*"))[-1])
            shutil.rmtree(folder / "checkpoint")
            continue
        ranks.kill(rng.randrange(2))
        at.append(n_told(folder))
        kills += 1
    run_ranks(train, 2, run, toy_corpus.path, folder)
    assert len(set(at)) > n_kills / 3, "kills should fall on many steps"
    assert told(folder) == told(whole)
    assert files_of(folder) == files_of(whole)
    assert not list((folder / "state").glob(".step-*"))


@pytest.mark.parametrize("sizes", [(2, 1), (1, 4), pytest.param((4, 2), marks=pytest.mark.slow)])
def test_a_run_goes_on_with_another_number_of_processes(sizes, unbroken, toy_corpus, tmp_path):
    run, whole = unbroken
    folder = tmp_path / "run"
    ranks = Ranks(train, sizes[0], run, toy_corpus.path, folder)
    while ranks.are_running and n_told(folder) < 20:
        time.sleep(0.001)
    ranks.kill(0)
    assert 20 <= n_told(folder) < 40
    run_ranks(train, sizes[1], run, toy_corpus.path, folder)
    mine, theirs = told(folder), told(whole)
    assert [record["step"] for record in mine] == [record["step"] for record in theirs]
    for a, b in zip(mine, theirs, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-6), a["step"]
    weights, wanted = (load_file(place / "checkpoint" / "model.safetensors") for place in (folder, whole))
    assert max(float((weights[name] - wanted[name]).abs().max()) for name in wanted) < 1e-4
    facts = json.loads((folder / "run.json").read_text())
    assert facts["processes"] == sizes[1]
