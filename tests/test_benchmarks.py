"""The benchmarks that train: what they keep, repeat and tell; and the pages' tables of results that may not exist."""

import gzip
import importlib
import json
import lzma
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import toy_run

from umbel.config import ModelConfig, apply_settings, to_dict
from umbel.data.corpus.build import build_corpus
from umbel.train.ablations import moe_arms, objective_arms

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def load(name):
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


def hybrid_run(steps=2):
    run = toy_run(steps=steps, eval_every_steps=1)
    return replace(run, model=replace(run.model, pattern="Hd Ae", n_heads=2, gating="normalised", top_k=2))


@pytest.fixture(scope="module")
def ablation():
    return load("ablation")


@pytest.fixture(scope="module")
def trained(ablation, toy_corpus, tmp_path_factory):
    """Two arms with two seeds, trained one after the other in this process."""
    runs = tmp_path_factory.mktemp("ablation")
    arms = {name: arm for name, arm in moe_arms(hybrid_run(), (2,), (4,)).items() if name[:4] in ("norm", "swit")}
    jobs = ablation.plan(arms, 2, runs)
    for job in jobs:
        ablation.one(job, str(toy_corpus.path), "cpu", None, "abc")
    return arms, jobs


def test_a_plan_has_every_arm_with_every_seed_in_a_folder_of_its_own(trained):
    arms, jobs = trained
    assert {(job.arm, job.seed) for job in jobs} == {(arm, seed) for arm in arms for seed in (0, 1)}
    assert len({job.folder for job in jobs}) == 4
    assert all(job.run.train.seed == job.seed for job in jobs)
    assert [job.seed for job in jobs] == [0, 0, 1, 1]


def test_finished_runs_are_over_and_leave_their_measurements(trained):
    _, jobs = trained
    for job in jobs:
        assert job.is_over()
        assert job.steps() == 2
        assert {path.name for path in job.folder.iterdir()} >= {"run.json", "metrics.jsonl", "checkpoint"}
        assert not (job.folder / "state").exists()


def test_what_is_collected_is_what_the_runs_measured(ablation, trained):
    arms, jobs = trained
    told = ablation.collect(jobs)
    assert list(told) == list(arms)
    for name, arm in told.items():
        ours = [job for job in jobs if job.arm == name]
        lasts = [
            [json.loads(line) for line in (job.folder / "metrics.jsonl").read_text().splitlines()][-1] for job in ours
        ]
        assert arm["loss"]["seeds"] == pytest.approx([last["loss"] for last in lasts], abs=1e-5)
        assert arm["loss"]["mean"] == pytest.approx(sum(last["loss"] for last in lasts) / 2, abs=1e-5)
        assert arm["dead"]["seeds"] == [sum(layer["n_dead"] for layer in last["experts"]) for last in lasts]
        assert arm["curve"]["step"] == [0, 1, 2]
        assert arm["curve"]["max_over_mean"][-1] == pytest.approx(arm["max_over_mean"]["mean"], abs=1e-4)
        assert arm["seeds"] == [0, 1]


def test_arms_of_objectives_are_asked_the_same_and_tell_how_they_place(ablation, toy_corpus, tmp_path):
    run = toy_run(steps=2, eval_every_steps=1)
    jobs = ablation.plan(objective_arms(run), 1, tmp_path)
    for job in jobs:
        ablation.one(job, str(toy_corpus.path), "cpu", None, "abc")
    told = ablation.collect(jobs)
    assert {name: arm["objectives"]["placement"] for name, arm in told.items()} == {
        "uniform": 0.0,
        "spans": 0.0,
        "uniform and placement": 1.0,
        "all three": 1.0,
    }
    # One untrained network, and one question.
    assert len({arm["curve"]["loss"][0] for arm in told.values()}) == 1
    for name, arm in told.items():
        assert (
            ("placement_accuracy" in arm)
            == ("placement_loss" in arm)
            == (name in ("uniform and placement", "all three"))
        )
        if "placement_loss" in arm:
            assert len(arm["curve"]["placement_loss"]) == 3
            assert arm["curve"]["placement_loss"][0] == pytest.approx(1.386, abs=0.1)


def test_a_run_whose_loss_explodes_is_told_as_failed(ablation, toy_corpus, tmp_path):
    run = apply_settings(hybrid_run(), ["optim.lr=1e30", "optim.clip_norm=1e30", "optim.warmup_steps=0"])
    jobs = ablation.plan({"wild": replace(run, train=replace(run.train, steps=12))}, 1, tmp_path)
    ablation.one(jobs[0], str(toy_corpus.path), "cpu", None, "abc")
    assert jobs[0].is_over()
    assert "step 2: the gradient norm is nan" in ablation.collect(jobs)["wild"]["failed"][0]


def test_a_folder_with_other_settings_is_refused(ablation, toy_corpus, tmp_path):
    jobs = ablation.plan({"arm": hybrid_run()}, 1, tmp_path)
    jobs[0].folder.mkdir()
    (jobs[0].folder / "run.json").write_text(json.dumps({"config": to_dict(hybrid_run(steps=3))}))
    with pytest.raises(SystemExit, match="other settings"):
        ablation.train_all(jobs, str(toy_corpus.path), "cpu", 1, 1, tmp_path, "abc")


def test_a_folder_of_the_same_settings_goes_on(ablation, trained, toy_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(ablation.signal, "signal", lambda *_: None)
    ablation.train_all(trained[1], str(toy_corpus.path), "cpu", 0, 1, tmp_path, "abc")


def test_starving_experts_have_less_than_a_twentieth_of_an_even_load(ablation):
    layer = {"load": [0.98, 0.012, 0.008, 0.0], "max_over_mean": 3.92, "cv": 1.7, "n_dead": 1, "entropy": 0.1}
    found = ablation.summary({"loss": 1.0, "accuracy": 0.5, "experts": [layer, {**layer, "max_over_mean": 1.92}]})
    assert found["starving"] == 2 * 3
    assert found["dead"] == 2
    assert found["max_over_mean"] == pytest.approx(2.92)


def test_seconds_add_up_over_continued_runs(ablation):
    records = [{"kind": "train", "seconds": s} for s in (1.0, 2.0, 0.5, 3.0)]
    assert ablation.seconds_of(records) == pytest.approx(5.0)


def test_the_baseline_is_the_entropy_of_tokens(ablation, toy_corpus):
    found = ablation.baseline(toy_run(), toy_corpus, 2)
    # Single bases of a genome drawn with shares 0.32, 0.18, 0.18, 0.32, apart from a motif.
    assert found["loss"]["mean"] == pytest.approx(1.34, abs=0.04)
    assert found["accuracy"]["mean"] == pytest.approx(0.32, abs=0.06)


def test_a_bias_that_stands_still_stops_everything(ablation, toy_corpus, monkeypatch):
    arms = moe_arms(hybrid_run(), (2,), (4,))
    assert ablation.gate(arms, toy_corpus) == {"bias after one step": pytest.approx(1e-3)}
    monkeypatch.setattr("umbel.train.step.follow_load", lambda *_: None)
    with pytest.raises(SystemExit, match="nothing is trained"):
        ablation.gate(arms, toy_corpus)


def test_networks_are_as_wide_and_deep_as_published_and_take_any_length():
    networks = load("architectures").NETWORKS
    assert len(networks) == 6
    for config in networks.values():
        assert (config.n_layers, config.d_model, config.max_tokens) == (12, 768, 0)
        # Layers are timed by the period, which must fit into it.
        assert 4 % len(config.pattern.split()) == 0


def test_passes_that_would_take_too_long_are_told_not_run():
    architectures = load("architectures")
    small = ModelConfig(pattern="Ad", n_layers=1, d_model=16, n_heads=2, ffn_hidden=16, vocab_size=92)
    networks = {architectures.DENSE: architectures.Backbone(small).eval()}
    clock = architectures.Clock(networks, torch.device("cpu"), rounds=2, pass_s=100.0)
    assert clock.row(1, 16)["networks"][architectures.DENSE]["times_as_fast"]["median"] == 1
    clock.pass_s = 0.0
    (found,) = clock.row(1, 4096)["networks"].values()
    assert found["not_run"].startswith("would take about")


STAGES = ["pack", "pack", "sketch", "sketch", "join", "mask", "mask", "cut", "build"]


def test_the_stages_are_right_before_they_are_timed(monkeypatch):
    corpus = load("corpus")
    found = corpus.run(2_000_000, 1, 1.0, None)
    assert set(found["gate"]) == {"containment_error", "repeats_missed", "others_masked"}
    assert [each["stage"] for each in found["rows"]] == STAGES
    assert all(each["mbp_per_s"]["median"] > 0 for each in found["rows"])
    monkeypatch.setattr(corpus, "MIN_COPIES", 200)
    with pytest.raises(SystemExit, match=r"a stage is wrong, so nothing is timed: \{'repeats_missed'"):
        corpus.run(1_000_000, 1, 1.0, None)


def test_rows_are_lines(tmp_path):
    results = {"date": "today", "rows": [{"a": 1, "b": [1, 2]}, {"a": 2}], "arms": {"x": {"y": 1}}, "few": {"n": 1}}
    load("measure").write_rows(tmp_path / "x.json", results)
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text) == results
    assert len(text.splitlines()) == 2 + 2 + 4 + 3


@pytest.fixture(scope="module")
def breadth():
    return load("breadth")


def small_genomes(folder, n_species=6):
    """A folder of plastomes as small as the experiment takes them: six trained, one valid, one of each test group."""
    rng = np.random.default_rng(0)
    place = folder / "plastomes"
    place.mkdir(parents=True)
    families = (
        [f"A{number}aceae" for number in range(n_species - 2)]
        + ["Baceae"] * 2
        + ["Rosaceae", "Poaceae", "Fabaceae", "Solanaceae"]
    )
    families += ["Nymphaeaceae", "Funariaceae"]
    rows, records = ["accession\torganism\tfamily\tlength"], []
    for number, family in enumerate(families):
        letters = "".join(rng.choice(list("ACGT"), 4_100 - number))
        rows.append(f"X{number}.1\tPlanta {number}\t{family}\t{len(letters)}")
        records.append(f">X{number}.1 and more\n{letters}\n")
    with gzip.open(place / "plastome_metadata.tsv.gz", "wt") as handle:
        handle.write("\n".join(rows) + "\n")
    with lzma.open(place / "angiosperm_plastomes_729sp.fa.xz", "wt") as handle:
        handle.write("".join(records))
    return folder


@pytest.fixture
def small(breadth, tmp_path, monkeypatch):
    monkeypatch.setattr(breadth, "DEEP_BP", (4_000, 4_200))
    monkeypatch.setattr(breadth, "SHALLOW_BP", 2_000)
    monkeypatch.setattr(breadth, "N_DEEP", 2)
    return breadth.plastomes(small_genomes(tmp_path), 0)


def test_few_plastomes_are_whole_and_test_families_are_in_neither_arm(breadth, small, tmp_path):
    lengths = {source.name: len(*source.contigs.values()) for source in small.sources if source.role == "train"}
    assert sorted(lengths.values())[:4] == [2_000] * 4 and min(sorted(lengths.values())[4:]) > 4_000
    # Relatives are never deep: they may be copies of each other.
    assert not {"Planta 4", "Planta 5"} & set(small.deep)
    assert sorted(small.deep) == sorted(s.species for s in small.sources if lengths.get(s.name, 0) > 2_000)
    assert [s.role for s in small.sources].count("test") == 5 and [s.role for s in small.sources].count("valid") == 1
    other = breadth.plastomes(tmp_path, 3)
    assert {s.name: s.contigs for s in other.sources if s.role == "test"} == {
        s.name: s.contigs for s in small.sources if s.role == "test"
    }
    assert other.deep != small.deep


def test_both_arms_have_the_pool_of_the_deep_species_and_are_asked_the_same(breadth, small, tmp_path, monkeypatch):
    tiny_run = toy_run(steps=2)
    for name in ("breadth", "depth"):
        run = getattr(breadth, name)()
        run = replace(run, model=tiny_run.model, corpus=replace(run.corpus, window_bp=256, min_n50_bp=0))
        run = replace(run, train=replace(tiny_run.train, steps=2), optim=tiny_run.optim)
        monkeypatch.setattr(breadth, name, lambda run=run: run)
    manifest = breadth.write_project(tmp_path / "project", small.sources)
    corpus = build_corpus(manifest, tmp_path / "corpus", breadth.depth().corpus)
    arms = breadth.arms_of(small, corpus, 4, 2)
    assert arms["depth"].balance.pool_bp == arms["breadth"].balance.pool_bp < 9_000
    found = {name: [breadth.one(run, corpus, small.groups, tmp_path / name, 3, "cpu")] for name, run in arms.items()}
    deep, broad = found["depth"][0], found["breadth"][0]
    assert (deep["species"], broad["species"]) == (2, 6)
    assert abs(deep["pool_bp"] - broad["pool_bp"]) <= 256
    told = breadth.collect(found, list(small.groups))
    for row in ("model", "untrained", "Markov", "composition"):
        for group in small.groups:
            difference = broad["loss"][row][group] - deep["loss"][row][group]
            assert told["breadth minus depth"][row][group]["seeds"] == [pytest.approx(difference, abs=1e-5)]
            assert 1 < deep["loss"][row][group] < 2
    # The same network before training, asked about the same hidden bases.
    assert deep["loss"]["untrained"] == broad["loss"]["untrained"]
    assert deep["loss"]["composition"] != broad["loss"]["composition"]
    monkeypatch.setattr(breadth, "pretrain", None)
    assert breadth.one(arms["depth"], corpus, small.groups, tmp_path / "depth", 3, "cpu") == deep


def test_intervals_over_seeds_by_hand(breadth):
    found = breadth.over_seeds([1.0, 2.0, 4.0])
    # Student's t with two degrees of freedom: 4.302653; standard deviation sqrt(7 / 3).
    half = 4.302653 * (7 / 3) ** 0.5 / 3**0.5
    assert found["low"] == pytest.approx(7 / 3 - half, abs=1e-4) and found["high"] == pytest.approx(
        7 / 3 + half, abs=1e-4
    )
    assert breadth.over_seeds([1.5]) == {"mean": 1.5, "low": None, "high": None, "seeds": [1.5]}


def test_a_stretch_is_read_in_pieces_with_its_repeats(breadth, tmp_path):
    (tmp_path / "a.fa").write_text(">one\nACGTacgtNN\n>two x\nggCC\n")
    assert breadth.stretch(tmp_path / "a.fa", "one", 2, 9) == "GTacgtN"
    assert breadth.stretch(tmp_path / "a.fa", "two", 0, 4) == "ggCC"
    with pytest.raises(SystemExit, match="contig two has no bases 1 to 9"):
        breadth.stretch(tmp_path / "a.fa", "two", 1, 9)
