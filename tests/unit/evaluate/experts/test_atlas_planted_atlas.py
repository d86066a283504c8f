"""The atlas of a planted model on a planted genome: every table says what was planted."""

import numpy as np
import pytest
from planted_experts import (
    CODON_EXPERTS,
    DEAD,
    N_EXPERTS,
    REPEAT_EXPERT,
    planted_genome,
    planted_model,
    planted_routes,
    planted_scores,
)

from umbel.evaluate.experts.accumulator import TOP_BP
from umbel.evaluate.experts.causal.ablation import ablate_all
from umbel.evaluate.experts.causal.settings import CausalSettings
from umbel.evaluate.experts.ours import OurModel
from umbel.evaluate.experts.recording import RecordSettings, record
from umbel.evaluate.experts.sources.making import genome_source
from umbel.evaluate.experts.tables import make_tables
from umbel.predict.predictor import Predictor

STRETCH_BP, N_SHIFTS = 2_000, 199


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The tables as rows, what was planted, and the letters and planted routes of every stretch."""
    folder = tmp_path_factory.mktemp("planted")
    fasta, gff3, truth = planted_genome(folder)
    predictor = Predictor.load(planted_model(folder / "model"), "cpu")
    with genome_source(fasta, gff3, stretch_bp=STRETCH_BP, n_stretches=1_000) as source:
        recording = record(OurModel(predictor), source, folder / "recording", RecordSettings(n_shifts=N_SHIFTS))
        with genome_source(fasta, gff3, stretch_bp=predictor.window_bp, n_stretches=2) as windows:
            knocked = ablate_all(predictor, windows, folder / "knocked", settings=CausalSettings(n_draws=100)).rows()
        tables = make_tables(recording, source, knocked, n_draws=100)
        stretches = [source.stretch(i) for i in range(len(source))]
    letters = [truth.letters[each.name][each.start : each.start + len(each.content)] for each in stretches]
    return (
        {name: table.to_pylist() for name, table in tables.items()},
        truth,
        letters,
        [planted_routes(x) for x in letters],
    )


def test_every_base_is_counted_once(made):
    tables, truth, letters, _ = made
    assert sum(map(len, letters)) == sum(map(len, truth.letters.values()))
    bases = sum(len(x) - x.count("N") for x in truth.letters.values())
    assert [row["n_items"] for row in tables["layers"]] == [bases, bases]


def test_choices_and_the_dead_are_those_of_plain_loops(made):
    tables, _, letters, routes = made
    for row in tables["experts"]:
        n = sum(
            int((chosen[row["site"], np.array(list(x)) != "N"] == row["expert"]).sum())
            for x, chosen in zip(letters, routes, strict=True)
        )
        assert row["n_choices"] == n
        assert row["is_dead"] == (row["expert"] in DEAD[row["site"]])
    assert [row["n_dead"] for row in tables["layers"]] == [len(dead) for dead in DEAD]


def test_scores_are_those_of_the_closed_form(made):
    for row in made[0]["layers"]:
        assert (row["router_entropy"], row["margin"]) == pytest.approx(planted_scores(), rel=1e-4)


def test_planted_classes_are_found_with_their_experts(made):
    rows = [row for row in made[0]["enrichment"] if row["site"] == 0]
    planted = {("repeat", "soft-masked"): REPEAT_EXPERT}
    planted |= {("codon position", f"{n + 1} of {strand}"): CODON_EXPERTS[n] for n in range(3) for strand in "+-"}
    for (labelling, name), expert in planted.items():
        some = [row for row in rows if (row["labelling"], row["class"]) == (labelling, name)]
        best = max((row for row in some if row["log2_odds"] is not None), key=lambda row: row["log2_odds"])
        assert len(some) == N_EXPERTS and best["expert"] == expert
        assert best["share_in_class"] > 0.98 and best["low"] > 3
        assert best["p"] == pytest.approx(2 / (1 + N_SHIFTS)) and best["q"] < 0.05
    dead = [row for row in rows if row["expert"] in DEAD[0]]
    assert all(row["p"] is None and row["q"] is None and row["n_joint"] == 0 for row in dead)


def test_codon_positions_share_no_expert_and_strands_share_all(made):
    rows = {
        (row["class_a"], row["class_b"]): row
        for row in made[0]["divergence"]
        if row["labelling"] == "codon position" and row["site"] == 0
    }
    apart, alike = rows["1 of +", "2 of +"], rows["1 of +", "1 of -"]
    assert apart["js_share"] > 0.95 and apart["js"] > 20 * apart["floor"]
    assert alike["js"] < 0.02


def test_the_base_alone_explains_the_second_layer_and_not_the_first(made):
    rows = {(row["labelling"], row["site"]): row for row in made[0]["information"]}
    second = rows["codon position", 1]
    assert second["context_base"] == pytest.approx(1, abs=0.01)
    assert rows["codon position", 0]["context_base"] < 0.7 < rows["codon position", 0]["context_6mer"]
    assert rows["codon position", 0]["mi_share"] > 0.5 and rows["codon position", 0]["chance"] < 0.2


def test_paths_follow_the_plan(made):
    tables, _, letters, routes = made
    table = np.zeros((N_EXPERTS, N_EXPERTS), int)
    for x, chosen in zip(letters, routes, strict=True):
        used = np.array(list(x)) != "N"
        np.add.at(table, (chosen[0, used, 0], chosen[1, used, 0]), 1)
    found = {(row["expert_before"], row["expert"]): row["n"] for row in tables["paths"]}
    assert found == {(int(a), int(b)): int(table[a, b]) for a, b in np.argwhere(table)}


def test_top_windows_of_the_repeat_expert_lie_in_repeats(made):
    tables, truth, _, _ = made
    rows = [row for row in tables["top_windows"] if (row["site"], row["expert"]) == (0, REPEAT_EXPERT)]
    assert rows and rows[0]["share"] == 1
    for row in rows:
        overlap = sum(
            max(0, min(row["end"], end) - max(row["start"], start))
            for contig, start, end, _ in truth.repeats
            if contig == row["contig"]
        )
        # The last word of a stretch stands for five bases more.
        assert abs(overlap / TOP_BP - row["share"]) <= 0.05
    assert "repeat=soft-masked" in rows[0]["classes"]
    assert not [row for row in tables["top_windows"] if row["site"] == 0 and row["expert"] in DEAD[0]]


def test_logos_count_the_letters_around(made):
    tables, _, letters, routes = made
    rows = [row for row in tables["logos"] if (row["site"], row["expert"], row["offset"]) == (0, REPEAT_EXPERT, 0)]
    own = "".join(
        c
        for x, chosen in zip(letters, routes, strict=True)
        for c, e in zip(x, chosen[0, :, 0], strict=True)
        if e == REPEAT_EXPERT
    )
    assert {row["base"]: row["n"] for row in rows} == {base: own.count(base) for base in "ACGT"}


def test_specialised_experts_that_give_nothing_are_not_important(made):
    tables = made[0]
    assert all(row["ablation"] == 0 for row in tables["experts"])
    measured = [row for row in tables["ablation"] if row["n_bases"]]
    assert measured and all(row["delta"] == 0 for row in measured)
