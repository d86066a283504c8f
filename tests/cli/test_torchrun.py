"""``torchrun -m umbel pretrain``, as a user types it."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

from toys import toy_run

from umbel.config import ParallelConfig, to_dict
from umbel.train.pretrain import pretrain
from umbel.train.state import read_metrics


def n_told(folder):
    path = folder / "metrics.jsonl"
    return path.read_text().count('"kind": "train"') if path.exists() else 0


def test_two_processes_stop_at_a_signal_and_go_on(toy_corpus, tmp_path):
    run = toy_run(steps=40, eval_every_steps=20, save_every_steps=30)
    recipe, folder = tmp_path / "toy.json", tmp_path / "run"
    recipe.write_text(json.dumps(to_dict(run)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "umbel", "pretrain", str(recipe), "--corpus", str(toy_corpus.path), "--out", str(folder)]
    command += ["--set", "parallel.kind=fsdp", "--threads", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while process.poll() is None and n_told(folder) < 5 and time.monotonic() < end:
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=120)[1]
    assert process.returncode != 0, told
    stopped_at = n_told(folder)
    assert 5 <= stopped_at < 40
    assert [path.name for path in (folder / "state").iterdir()] == [f"step-{stopped_at:09d}"], "a whole state, no other"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr.count(f"continuing after step {stopped_at}") == 1, "one process speaks"
    assert done.stderr.count("a step is 4 windows: 2 processes x 1 pass x 2 rows of") == 1
    assert done.stdout.count("checkpoint ") == 1
    alone = tmp_path / "alone"
    pretrain(run, toy_corpus.path, alone)
    losses = [
        [record["loss"] for record in read_metrics(place / "metrics.jsonl") if record["kind"] == "train"]
        for place in (folder, alone)
    ]
    assert max(abs(a / b - 1) for a, b in zip(*losses, strict=True)) < 1e-6


def test_processes_that_cannot_share_a_step_say_so(toy_corpus, tmp_path):
    recipe = tmp_path / "toy.json"
    recipe.write_text(json.dumps(to_dict(replace(toy_run(), parallel=ParallelConfig("ddp")))))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3"]
    command += [
        "-m",
        "umbel",
        "pretrain",
        str(recipe),
        "--corpus",
        str(toy_corpus.path),
        "--out",
        str(tmp_path / "run"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "train.batch_windows is 4, which 3 processes cannot share evenly" in done.stderr
    assert "--set train.batch_windows=6" in done.stderr
    assert not (tmp_path / "run").exists()
