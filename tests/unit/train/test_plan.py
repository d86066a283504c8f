import json
import statistics
from dataclasses import asdict, replace

import pytest
import torch
from toys import toy_packed_run, toy_run

from umbel.config import apply_settings
from umbel.errors import BackendError, ConfigError, InputError
from umbel.model.flops import count_flops
from umbel.train import memory, trial
from umbel.train.announcement import announcement
from umbel.train.measured import read_throughput
from umbel.train.memory import count_kinds
from umbel.train.plan import estimate_duration, plan
from umbel.train.plan_lines import plan_lines
from umbel.train.recipes import hyenamoe_fast, plantbimoe, tiny
from umbel.train.trial import Throughput, measure_throughput
from umbel.train.workload import workload

CPU = torch.device("cpu")
BY_HAND = Throughput("by hand", "cpu", "float32", 2, 1e9, 8e8, 1.25e9, 0.5, 4e9, "three steps")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A plan of the toy run, and the file of it."""
    found = plan(toy_run(), n_devices=2, device="cpu")
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    path.write_text(json.dumps(found.as_dict()))
    return found, path


def test_hours_are_operations_over_speed():
    run = apply_settings(tiny(), ["train.steps=1000", "train.eval_every_steps=300"])
    per_token = 3 * count_flops(run.model, 514).total
    training = 1_000 * 8 * 514 * per_token
    validation = 4 * 64 * 514 * per_token / 3
    updates = 1_000 * 0.5 * count_kinds(run).total / 1e6
    found = estimate_duration(run, workload(run), BY_HAND, 4, 0.5)
    assert found.hours * 3_600 == pytest.approx((training + validation) / 2e9 + updates)
    assert found.shortest_hours * 3_600 == pytest.approx((training + validation) / 2.5e9 + updates)
    assert found.longest_hours * 3_600 == pytest.approx((training + validation) / 1.6e9 + updates)
    assert found.device_hours == 4 * found.hours
    assert found.tokens_per_s == pytest.approx(8 * 514 / (training / 1_000 / 2e9 + updates / 1_000))
    sharded = apply_settings(run, ["parallel.kind=fsdp"])
    saved = found.hours - estimate_duration(sharded, workload(sharded), BY_HAND, 4, 0.5).hours
    assert saved * 3_600 == pytest.approx(updates * 3 / 4)


def test_a_plan_holds_together(measured):
    found, _ = measured
    assert (found.run, found.n_devices, found.efficiency) == ("toy", 2, 1.0)
    assert (found.share.rows, found.share.micro_rows, found.share.accumulation) == (2, 2, 1)
    assert found.memory.total < found.memory_free
    assert found.remedies == ()
    assert found.duration == estimate_duration(toy_run(), found.work, found.throughput, 2)
    speed = found.throughput
    assert 0 < speed.slowest <= speed.flops_per_s <= speed.fastest
    assert 0 < speed.mfu < 1
    assert (speed.device, speed.precision, speed.threads) == ("cpu", "float32", torch.get_num_threads())
    assert "steps of 2 x 258 tokens through Md Me" in speed.note
    assert "too much" not in speed.note


def test_what_was_measured_there_is_used_here(measured):
    found, path = measured
    again = plan(toy_run(), n_devices=2, device="cpu", measured=path)
    assert again.throughput == replace(found.throughput, source=str(path))
    assert again.duration == found.duration


def test_the_speed_of_a_run_is_that_of_its_last_half(toy_training):
    found = read_throughput(toy_training)
    rates = [
        json.loads(line)["tokens_per_s"]
        for line in (toy_training / "metrics.jsonl").read_text().splitlines()
        if '"train"' in line
    ]
    assert len(rates) == 12
    per_token = 3 * count_flops(toy_run().model, 258).total
    assert found.flops_per_s == pytest.approx(statistics.median(rates[6:]) * per_token)
    assert found.slowest <= found.flops_per_s <= found.fastest
    assert (found.device, found.optimizer_s) == ("cpu", 0.0)
    assert "last 6 of 12 steps on 1 processes" in found.note


def test_a_run_of_several_processes_is_divided_by_them(toy_training, tmp_path):
    facts = json.loads((toy_training / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(facts | {"processes": 4}))
    lines = [{"kind": "train", "step": n, "tokens_per_s": 1_000.0, "mfu": 0.25} for n in range(1, 11)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = read_throughput(tmp_path)
    assert found.flops_per_s == pytest.approx(250 * 3 * count_flops(toy_run().model, 258).total)
    assert found.mfu == pytest.approx(0.25)


def test_what_cannot_be_read_is_refused(toy_training, tmp_path):
    with pytest.raises(InputError, match=r"plan\.json: no such file; give what umbel plan --json printed"):
        read_throughput(tmp_path / "plan.json")
    with pytest.raises(InputError, match=r"run\.json: no such file; give a run folder"):
        read_throughput(tmp_path)
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(InputError, match="not readable as JSON"):
        read_throughput(broken)
    broken.write_text("[1]")
    with pytest.raises(InputError, match="no JSON object"):
        read_throughput(broken)
    broken.write_text('{"throughput": {"mfu": 1}}')
    with pytest.raises(InputError, match="has no throughput as umbel plan --json tells it"):
        read_throughput(broken)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match="not a run that this umbel knows"):
        read_throughput(tmp_path)
    (tmp_path / "run.json").write_text((toy_training / "run.json").read_text())
    (tmp_path / "metrics.jsonl").write_text('{"kind": "train", "step": 1, "tokens_per_s": 1.0}\n')
    with pytest.raises(InputError, match="has 1 steps, too few to tell its speed"):
        read_throughput(tmp_path)


def test_what_makes_no_sense_is_refused():
    for wrong in (0.0, 1.5):
        with pytest.raises(ConfigError, match="above 0 and up to 1"):
            plan(toy_run(), device="cpu", efficiency=wrong)
    with pytest.raises(ConfigError, match="0 devices: give 1 or more"):
        plan(toy_run(), n_devices=0, device="cpu")
    with pytest.raises(ConfigError, match="batch_windows is 4, which 5 processes cannot share evenly"):
        plan(toy_run(), n_devices=5, device="cpu")
    with pytest.raises(ConfigError, match=r"model\.vocab_size=92"):
        plan(apply_settings(toy_run(), ["tokens.k=3"]), device="cpu")
    with pytest.raises(BackendError, match="no such device"):
        plan(toy_run(), device="abacus")


def test_a_trial_that_would_not_fit_is_smaller_and_says_so(monkeypatch):
    run = apply_settings(toy_run(), ["corpus.window_bp=4096", "train.micro_batch_windows=4"])
    whole = measure_throughput(run, CPU, None, seconds=60).note
    assert "of 4 x 4,098 tokens" in whole
    shorter = measure_throughput(run, CPU, None, seconds=1e-3).note
    assert shorter.endswith(
        "of 1 x 512 tokens through Md Me, scaled by operations; the run has 4 x 4,098, too much for a trial here"
    )
    monkeypatch.setattr(trial, "available_bytes", lambda device: 30_000_000)
    narrow = measure_throughput(run, CPU, None, seconds=60).note
    assert "the run has 4 x 4,098" in narrow
    assert "of 4 x 4,098" not in narrow


def test_rows_of_several_sequences_are_tried_as_such():
    found = measure_throughput(toy_packed_run(), CPU, None, seconds=0.5)
    assert "of 2 x 100 tokens through Md Me" in found.note


def test_lines_have_every_number_and_what_would_help(measured, monkeypatch):
    found, path = measured
    text = "\n".join(plan_lines(found))
    assert f"{found.parameters:,} parameters, of which a token meets {found.active_parameters:,}" in text
    assert "1,032 tokens, 1,024 bases: 2 devices x 1 pass x 2 rows of 258 tokens" in text
    assert "2 devices count as 2: ideal scaling was assumed (--efficiency)" in text
    assert "measured here" in text
    assert "warning" not in text
    monkeypatch.setattr("umbel.train.plan.available_bytes", lambda device: 1_000_000)
    tight = plan(toy_run(), n_devices=2, device="cpu", measured=path, efficiency=0.9)
    lines = plan_lines(tight)
    assert any("2 devices count as 1.8: 90% of ideal scaling" in line for line in lines)
    (start,) = (i for i, line in enumerate(lines) if line.startswith("warning: "))
    assert "is more than the 1 MB that are free on cpu here" in lines[start]
    assert [line.split("with ")[1] for line in lines[start + 1 :]] == [
        "--set parallel.kind=fsdp",
        "--set parallel.activation_checkpointing=true",
        "--set train.micro_batch_windows=1",
        "all of them",
    ]


def test_length_stages_are_in_the_lines(measured):
    run = apply_settings(toy_run(), ['train.length_stages=[{"window_bp": 64, "steps": 5}]'])
    found = plan(run, device="cpu", measured=measured[1])
    assert any("5 steps of 66 tokens, 7 steps of 258 tokens" in line for line in plan_lines(found))


def test_an_announcement_follows_the_settings():
    run = apply_settings(
        plantbimoe(),
        [
            "corpus.window_bp=1024",
            "parallel.kind=fsdp",
            "parallel.expert_processes=2",
            "parallel.activation_checkpointing=true",
            "parallel.compile=true",
            "optim.kind=muon",
            "optim.schedule=wsd",
            "optim.final_lr_frac=0.1",
            "train.steps=1000",
            "health.on_bad_step=skip",
            "health.spike_sigmas=6",
        ],
    )
    text = "\n".join(announcement(run, n_processes=8, device=CPU))
    for part in (
        "plantbimoe: 115,612,160 parameters, of which a token meets 63,707,648",
        "256 windows: 8 processes x 8 passes x 4 rows of 1,026 tokens",
        "on 8 x cpu in float32; weights, gradients and optimizer cut up among processes (fsdp)",
        "; experts shared by 2 processes; activations computed again in the backward pass; blocks compiled",
        "Muon for matrices and AdamW for the rest, rate 0.008: 1,000 steps of warm-up, no change until the last 200",
        "then a fall to 0.0008",
        "loss 6 robust sigmas above the 100 before) leaves the weights as they are",
        "10 with no good one between end the run",
    ):
        assert part in text
    packed = announcement(hyenamoe_fast(), n_processes=1, device=CPU)
    assert "256 packed rows: 1 process x 16 passes x 16 rows of 1,024 tokens" in packed[2]
    assert "cut up" not in packed[3]


def test_an_announcement_tells_the_memory_of_a_plan():
    run = toy_run()
    told = memory.training_memory(run, 2, CPU)
    text = "\n".join(announcement(run, n_processes=2, device=CPU))
    for name, value in asdict(told).items():
        if value and name != "program":
            assert f"{name} {value / 1e6:,.0f} MB" in text
