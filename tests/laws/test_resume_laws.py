"""A run that was killed and continued is the run that never stopped, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file
from toys import toy_packed_run, toy_placement_run, toy_run

from umbel.config import ModelConfig, to_dict
from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import hf_tokenizer
from umbel.model.checkpoint import save_checkpoint
from umbel.model.hf import new_model
from umbel.train.pretrain import pretrain
from umbel.train.state import read_metrics

TIMES = ("tokens_per_s", "seconds", "mfu", "data_wait_frac", "peak_memory_gb")


def told(folder):
    records = [record for record in read_metrics(folder / "metrics.jsonl") if record["kind"] != "event"]
    return [{k: v for k, v in record.items() if k not in TIMES} for record in records]


def same_weights(a, b):
    return (a / "checkpoint" / "model.safetensors").read_bytes() == (
        b / "checkpoint" / "model.safetensors"
    ).read_bytes()


RUNS = {
    "toy": (toy_run(), "toy_training"),
    "packed": (toy_packed_run(), "toy_packed_training"),
    "placement": (toy_placement_run(), "toy_placement_training"),
}


@pytest.mark.parametrize(
    ("run", "training"),
    [pytest.param(*RUNS["toy"], id="toy"), pytest.param(*RUNS["packed"], id="packed", marks=pytest.mark.slow)],
)
def test_kill_9_at_any_step_changes_nothing(run, training, toy_corpus, tmp_path, request):
    """Killed three times at moments drawn by chance, restarted each time with the same command."""
    whole = request.getfixturevalue(training)
    recipe = tmp_path / "toy.json"
    recipe.write_text(json.dumps(to_dict(run)))
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "umbel", "pretrain", str(recipe), "--corpus", str(toy_corpus.path)]
    command += ["--out", str(folder), "--threads", "1", "--quiet"]
    rng, kills = random.Random(1), 0
    for target in (rng.randint(1, 4), rng.randint(6, 9), 11):
        process = subprocess.Popen(command)
        while process.poll() is None and len(told_so_far(folder)) < target:
            time.sleep(0.002)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills >= 1
    subprocess.run(command, check=True)
    assert told(folder) == told(whole)
    assert same_weights(folder, whole)


def told_so_far(folder):
    path = folder / "metrics.jsonl"
    return [line for line in path.read_text().splitlines() if '"train"' in line] if path.exists() else []


@pytest.mark.parametrize("stop_after", [1, 5, 7])
@pytest.mark.parametrize("kind", RUNS)
def test_an_exception_at_a_step_changes_nothing(stop_after, kind, toy_corpus, tmp_path, monkeypatch, request):
    from umbel.train import loop

    whole, run, never_stopped = loop.train_step, RUNS[kind][0], request.getfixturevalue(RUNS[kind][1])

    def failing(learner, batches, **more):
        if learner.step == stop_after:
            raise MemoryError
        return whole(learner, batches, **more)

    monkeypatch.setattr(loop, "train_step", failing)
    with pytest.raises(MemoryError):
        pretrain(run, toy_corpus.path, tmp_path / "run")
    monkeypatch.undo()
    pretrain(run, toy_corpus.path, tmp_path / "run")
    assert told(tmp_path / "run") == told(never_stopped)
    assert same_weights(tmp_path / "run", never_stopped)


def test_a_damaged_state_is_named_and_the_one_before_it_used(toy_corpus, toy_training, tmp_path, capsys):
    from umbel.progress import Reporter
    from umbel.train import loop

    run = toy_run()
    folder = tmp_path / "run"
    whole = loop.train_step

    def failing(learner, batches, **more):
        if learner.step == 11:
            raise MemoryError
        return whole(learner, batches, **more)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(loop, "train_step", failing)
        pretrain(run, toy_corpus.path, folder)
    newest = sorted((folder / "state").glob("step-*"))[-1]
    shard = newest / "__0_0.distcp"
    shard.write_bytes(shard.read_bytes()[:1000])
    pretrain(run, toy_corpus.path, folder, reporter=Reporter(stream=sys.stderr))
    error = capsys.readouterr().err
    assert f"{newest.name} is damaged" in error
    assert "continuing after step 5" in error
    assert same_weights(folder, toy_training)


def test_the_weights_did_move(toy_training):
    from umbel.model.hf import new_model

    before = new_model(toy_run().model, 256, 0).state_dict()
    after = load_file(toy_training / "checkpoint" / "model.safetensors")
    moved = [key for key in after if not (before[key] == after[key]).all()]
    assert len(moved) == len(after)


def test_kill_9_at_any_window_of_a_scan_changes_nothing(tmp_path):
    """Killed twice while parts appear, restarted each time with the same command."""
    config = ModelConfig(pattern="Hd Ae", n_layers=4, d_model=16, d_state=4, n_heads=2, ffn_hidden=24, n_experts=3)
    save_checkpoint(tmp_path / "model", new_model(config, 256, 0), hf_tokenizer(KmerTokens(1), 256))
    rng = random.Random(0)
    fasta = tmp_path / "in.fa"
    fasta.write_text("".join(f">{name}\n{''.join(rng.choices('ACGTN', k=9_000))}\n" for name in "abc"))
    command = [sys.executable, "-m", "umbel", "scan", str(tmp_path / "model"), str(fasta), "--threads", "1", "-q"]
    command += ["--track", "embeddings", "--chunk-tokens", "64", "--overlap-tokens", "16", "--bin-bp", "100", "-o"]
    subprocess.run([*command, str(tmp_path / "whole.parquet")], check=True)
    out, kills = tmp_path / "out.parquet", 0
    for target in (rng.randint(1, 5), rng.randint(8, 16)):
        process = subprocess.Popen([*command, str(out)])
        while process.poll() is None and len(list(tmp_path.glob("out.parquet.parts/part-*"))) < target:
            time.sleep(0.002)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills >= 1
    subprocess.run([*command, str(out)], check=True)
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
