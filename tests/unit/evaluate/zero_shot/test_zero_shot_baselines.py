"""Baselines against loops, and what none of them may look at."""

import numpy as np
import pytest
from planted_genes import write_planted_genes

from umbel.evaluate.markov import FlankModel, count_flanks_of
from umbel.evaluate.zero_shot import baselines
from umbel.evaluate.zero_shot.baselines import fit_markov, fitted, gc_loss, outside_cpg, strata
from umbel.evaluate.zero_shot.coding_rows import draw_from_genes
from umbel.evaluate.zero_shot.rows import KEYS, Drawn
from umbel.evaluate.zero_shot.settings import ZeroShotSettings
from umbel.genome.reference import Reference
from umbel.genome.sequence import encode
from umbel.progress import Reporter


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("genes")
    return {"folder": folder, **write_planted_genes(folder)}


@pytest.fixture(scope="module")
def drawn(planted):
    with Reference.open(planted["folder"] / "genes.fa") as reference:
        return draw_from_genes(reference, planted["folder"] / "genes.gff3", ZeroShotSettings(n_per_class=40))


def test_composition_by_loops(drawn, planted):
    rows = drawn.rows
    for i in range(len(rows)):
        letters, position = planted["contigs"][rows.contigs[rows.contig[i]]], int(rows.position[i])
        ref, alt = letters[position], "ACGT"[rows.alt[i]]
        assert gc_loss(rows)[i] == (ref in "GC") - (alt in "GC")
        in_cpg = "CG" in (letters[position - 1 : position + 1], letters[position : position + 2])
        assert outside_cpg(rows)[i] == (not in_cpg)


def test_fitted_odds_come_from_the_other_folds(drawn):
    rows = drawn.rows
    found = fitted(drawn, "substitution", 2, 0)
    counts, key = drawn.counts["substitution"], KEYS["substitution"](rows)
    for i in range(0, len(rows), 7):
        others = sum(counts[fold] for fold in range(len(counts)) if fold != rows.fold[i])
        share = others[:, 2].sum() / (others[:, 2].sum() + others[:, 0].sum())
        odds = np.log((others[key[i], 2] + share) / (others[key[i], 0] + 1 - share))
        assert found[i] == pytest.approx(odds, abs=1e-6)
    # What its own fold says changes nothing.
    changed = {name: value.copy() for name, value in drawn.counts.items()}
    changed["substitution"][0] = 77
    other = Drawn(rows, changed, drawn.comparisons, drawn.facts, drawn.tested)
    mine = rows.fold == 0
    np.testing.assert_array_equal(fitted(other, "substitution", 2, 0)[mine], found[mine])
    assert (fitted(other, "substitution", 2, 0)[~mine] != found[~mine]).any()


def test_strata(drawn):
    assert (strata(drawn.rows, "all") == 0).all()
    np.testing.assert_array_equal(strata(drawn.rows, "frame"), KEYS["frame"](drawn.rows))


def test_the_markov_model_never_sees_a_tested_gene(drawn, planted, monkeypatch):
    monkeypatch.setattr(baselines, "PIECE_BP", 1_000)
    with Reference.open(planted["folder"] / "genes.fa") as reference:
        found = fit_markov(reference, drawn.tested, 10**9, Reporter(quiet=True))
        scores = found.scores(reference, drawn.rows)
    pieces, number = [], 0
    for name, letters in planted["contigs"].items():
        codes = encode(letters.encode())[0].copy()
        for gene in drawn.rows.clusters:
            contig, _, parts = planted["genes"][gene]
            if contig == name:
                codes[parts[0][0] : parts[-1][1]] = 4
        for start in range(0, len(codes), 1_000):
            piece = codes[start : start + 1_000]
            pieces.append(piece[len(piece) // 4 :] if number % 16 == 0 else piece)
            number += 1
    counts = count_flanks_of(pieces)
    for mine, plain in zip(found.model.counts.tables, counts.tables, strict=True):
        np.testing.assert_array_equal(mine, plain)
    assert found.n_bp == sum(int((piece < 4).sum()) for piece in pieces)
    model = FlankModel(counts, found.choice.order, found.choice.strength)
    rows = drawn.rows
    for i in range(0, len(rows), 11):
        codes = encode(planted["contigs"][rows.contigs[rows.contig[i]]].encode())[0]
        logs = model.log_probs(codes, np.arange(len(codes)) == rows.position[i])[0]
        assert scores[i] == pytest.approx(logs[rows.ref[i]] - logs[rows.alt[i]])


def test_a_part_of_the_genome_is_enough(drawn, planted):
    with Reference.open(planted["folder"] / "genes.fa") as reference:
        found = fit_markov(reference, {}, 800, Reporter(quiet=True))
    assert found.n_bp == 600
