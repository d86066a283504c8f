import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toys import toy_placement_run, toy_run

from umbel.config import ModelConfig, RunConfig, apply_settings
from umbel.data.kmers import KmerTokens
from umbel.errors import ConfigError
from umbel.ops.devices import available_bytes
from umbel.train.memory import count_kinds, disk_bytes, find_remedies, training_memory
from umbel.train.optim import is_orthogonalised
from umbel.train.pretrain import untrained_model
from umbel.train.recipes import hyenamoe_tiny, plantbimoe, tiny
from umbel.train.state import saved_shapes
from umbel.train.workload import share_of, window_tokens, workload

CPU = torch.device("cpu")


@pytest.mark.parametrize("run", [toy_run(), toy_placement_run(), hyenamoe_tiny()], ids=lambda run: run.name)
def test_parameters_are_those_of_the_model_that_is_trained(run):
    model = untrained_model(run, KmerTokens(run.tokens.k))
    named = dict(model.named_parameters())
    found = count_kinds(run)
    assert found.total == sum(p.numel() for p in named.values())
    assert found.matrices == sum(p.numel() for name, p in named.items() if is_orthogonalised(name, p))
    experts = [m for m in model.modules() if type(m).__name__ == "MoE"]
    assert found.experts == sum(m.gate.numel() + m.up.numel() + m.down.numel() for m in experts)
    assert found.largest_block == max(sum(p.numel() for p in b.parameters()) for b in model.backbone.layers)


def test_a_state_on_disk_is_as_large_as_told(toy_training):
    run = toy_run()
    n_bytes = sum(file.stat().st_size for file in max((toy_training / "state").iterdir()).iterdir())
    told = disk_bytes(run).states / (run.train.keep_states + 1)
    # Each tensor is an archive of its own, which counts in a network as small as this.
    n_tensors = len(saved_shapes(max((toy_training / "state").iterdir())))
    assert told < n_bytes < told + 3_000 * n_tensors
    assert disk_bytes(replace(run, train=replace(run.train, ema_decay=0.9))).states == 4 / 3 * disk_bytes(run).states


def settings(*texts):
    run = plantbimoe()
    run = replace(run, corpus=replace(run.corpus, window_bp=1_024))
    return apply_settings(run, texts)


def test_fsdp_divides_by_closed_form():
    run, n = settings("parallel.kind=fsdp", "optim.kind=muon", "train.ema_decay=0.9"), 8
    parts, found = count_kinds(run), training_memory(run, n, CPU)
    assert (found.weights, found.gradients, found.ema) == (parts.total // n * 4,) * 3
    assert found.optimizer == 4 * (2 * parts.total - parts.matrices) // n
    assert found.gathered == 3 * 4 * parts.largest_block
    shared = training_memory(settings("parallel.kind=fsdp", "parallel.expert_processes=2"), n, CPU)
    assert shared.gathered == found.gathered - 3 * 4 * parts.largest_block_experts // 2


def test_ddp_divides_experts_alone():
    plain, shared = (training_memory(settings(f"parallel.expert_processes={n}"), 8, CPU) for n in (1, 4))
    parts = count_kinds(settings())
    assert plain.weights == 4 * parts.total
    assert plain.gathered == 0
    assert plain.weights - shared.weights == 4 * parts.experts * 3 // 4
    assert shared.optimizer == 2 * shared.weights


def test_what_is_kept_follows_rows_length_and_checkpointing():
    one, four = (training_memory(settings(f"train.micro_batch_windows={n}"), 1, CPU) for n in (1, 4))
    longer = training_memory(settings("train.micro_batch_windows=1", "corpus.window_bp=4096"), 1, CPU)
    assert four.activations == pytest.approx(4 * one.activations, rel=0.02)
    assert longer.activations == pytest.approx(four.activations, rel=0.01)
    less = training_memory(settings("parallel.activation_checkpointing=true"), 1, CPU)
    layer = 2 * 4 * 1_026 * 512 * 4
    assert less.activations == pytest.approx(16 * layer + four.activations / 16, rel=0.05)
    # More devices than needed for one row each: a forward pass has fewer rows.
    assert training_memory(settings(), 128, CPU).activations == pytest.approx(2 * one.activations, rel=0.02)


def test_the_remedies_save_what_they_say():
    run = settings()
    found = {remedy.setting: remedy.total for remedy in find_remedies(run, 4, CPU)}
    assert list(found) == [
        "--set parallel.kind=fsdp",
        "--set parallel.activation_checkpointing=true",
        "--set train.micro_batch_windows=1",
        "all of them",
    ]
    for name in list(found)[:3]:
        changed = training_memory(apply_settings(run, [name.removeprefix("--set ")]), 4, CPU).total
        # The process itself grows a little from one estimate to the next.
        assert found[name] == pytest.approx(changed, abs=2e7)
    assert found["all of them"] < min(list(found.values())[:3]) < training_memory(run, 4, CPU).total
    assert (
        find_remedies(settings("parallel.activation_checkpointing=true", "train.micro_batch_windows=1"), 1, CPU) == ()
    )


def test_devices_that_cannot_share_a_step_are_refused():
    with pytest.raises(
        ConfigError, match=r"batch_windows is 8, which 9 processes cannot share evenly: .*train\.batch_windows=9"
    ):
        share_of(tiny(), 9)
    with pytest.raises(ConfigError, match=r"3 devices are no whole groups of 2, and so many share experts"):
        share_of(apply_settings(tiny(), ["parallel.expert_processes=2", "train.batch_windows=24"]), 3)


def test_stages_cover_the_run():
    run = apply_settings(
        RunConfig("stages", model=ModelConfig(pattern="Ad", n_layers=2, d_model=32, ffn_hidden=64)),
        ["train.steps=100", 'train.length_stages=[{"window_bp": 1024, "steps": 70}, {"window_bp": 4096, "steps": 20}]'],
    )
    found, plain = workload(run), workload(apply_settings(run, ["train.length_stages=[]"]))
    assert [(s.steps, s.sequence_tokens) for s in found.stages] == [(70, 1_026), (20, 4_098), (10, 32_770)]
    assert (found.tokens, found.bases) == (plain.tokens, plain.bases)
    # Attention alone is cheaper while sequences are short.
    per_token_and_length = 3 * 4 * 32 * 2
    saved = found.tokens_per_step * per_token_and_length * (70 * (32_770 - 1_026) + 20 * (32_770 - 4_098))
    assert plain.train_flops - found.train_flops == saved
    shorter = apply_settings(run, ["train.steps=80"])
    assert [s.steps for s in workload(shorter).stages] == [70, 10]


def test_windows_in_tokens():
    three = apply_settings(tiny(), ["tokens.k=3", "model.vocab_size=92"])
    assert window_tokens(three) == 171 + 2
    assert window_tokens(apply_settings(three, ["tokens.overlapping=true"])) == 510 + 2
    assert window_tokens(tiny(), 100) == 102


def test_memory_that_is_free():
    free = available_bytes(CPU)
    if free is None:
        pytest.skip("reads /proc")
    assert 1e7 < free < 1e14


PEAK = """
import sys, torch
from umbel.config import apply_settings
from umbel.model.heads import label_losses
from umbel.model.hf import new_model
from umbel.train.memory import training_memory
from umbel.train.optim import make_optimizers
from umbel.train.recipes import plantbimoe
from umbel.train.speed import process_bytes
torch.set_num_threads(1)
cpu = torch.device("cpu")
run = apply_settings(plantbimoe(), [
    "corpus.window_bp=1022", "model.n_layers=4", "model.d_model=256", "model.ffn_hidden=704",
    f"model.pattern={sys.argv[1]}", "train.micro_batch_windows=4",
])
model = new_model(run.model, 1022, 0)
(optimizer,) = make_optimizers(model, run.optim)
def step(rows, length):
    ids = torch.randint(7, 11, (rows, length))
    label_losses(model(input_ids=ids).logits, ids).sum().backward()
    optimizer.step()
    # Gradients stay where they are, as from one micro-batch to the next.
    optimizer.zero_grad(set_to_none=False)
step(1, 64)
estimate = training_memory(run, 1, cpu)
before = process_bytes("VmRSS")
step(4, 1024)
grown = process_bytes("VmHWM") - before
print(grown, estimate.activations + estimate.logits + estimate.working)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("pattern", ["Md Me", pytest.param("Hd Ae", marks=pytest.mark.slow)])
def test_a_real_step_grows_the_process_as_told(pattern):
    words = [sys.executable, "-c", PEAK, pattern]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    grown, told = map(int, done.stdout.split())
    assert grown > 3e8
    assert told == pytest.approx(grown, rel=0.25), (grown / 1e6, told / 1e6)
