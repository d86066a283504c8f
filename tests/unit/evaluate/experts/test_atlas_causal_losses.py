"""Knock-outs by class of base, against the predictor run by itself and a model whose answer is known."""

import dataclasses
import math
from itertools import product

import numpy as np
import pytest
import torch
from causal_fakes import (
    PLANTED_EXPERT,
    PLANTED_LAYER,
    FakeSource,
    planted_predictor,
    planted_source,
    random_source,
    small_predictor,
)
from scipy.stats import spearmanr

from umbel.data.masking import hidden_positions
from umbel.errors import CheckpointError, ConfigError
from umbel.evaluate.experts.causal import losses as losses_module
from umbel.evaluate.experts.causal.ablation import Ablation, ablate, ablate_all, ablate_random, every_expert
from umbel.evaluate.experts.causal.hidden import EVERY, Column, hide_stretch
from umbel.evaluate.experts.causal.importance import DrawPair, rank_correlation, specialisation_against_importance
from umbel.evaluate.experts.causal.losses import Losses
from umbel.evaluate.experts.causal.settings import CausalSettings
from umbel.evaluate.experts.source import Labelling, Stretch
from umbel.evaluate.metrics import bootstrap_ratio
from umbel.model.edited_router import KnockOut, Swap, edited
from umbel.predict.branches import branched_log_probs, run_branches
from umbel.progress import Reporter

SETTINGS = CausalSettings(mask_frac=0.3, n_draws=200)
COLUMNS = [
    ("all", "all"),
    ("region", "gene"),
    ("region", "motif"),
    ("region", "absent"),
    ("species", "una"),
    ("species", "alia"),
]


class TestBranches:
    @pytest.mark.parametrize("pattern", ["Md Me", "Hd Ae"])
    def test_each_is_bit_for_bit_the_whole_pass_of_the_edited_model(self, pattern):
        predictor, source = small_predictor(pattern=pattern, n_layers=6, top_k=2), random_source()
        codes = [source.stretch(i).content for i in range(10)]
        hidden = [hidden_positions(each, 0, i, 0.3) for i, each in enumerate(codes)]
        branches = [(KnockOut(3, 0),), (Swap(1, 0, 2), KnockOut(5, 1)), (KnockOut(5, 3, "silence"),), (KnockOut(1, 2),)]
        found = {(a.branch, a.index): a for a in branched_log_probs(predictor, codes, hidden, lambda ids: branches)}
        assert len(found) == 50
        for number, edits in [(-1, ()), *enumerate(branches)]:
            with edited(predictor.backbone, *edits):
                expected = predictor.masked_log_probs(codes, hidden)
            for i in range(10):
                assert np.array_equal(found[number, i].log_probs, expected[i])
        nothing = [np.zeros(len(each), bool) for each in codes]
        routed = [a for a in branched_log_probs(predictor, codes, nothing, lambda ids: branches) if a.branch == -1]
        for answer in routed:
            assert np.array_equal(answer.experts, predictor.routes([codes[answer.index]])[0])
        assert found[-1, 0].experts.shape == (3, len(codes[0]), 2) and found[2, 0].experts is None

    def test_layers_below_an_edit_run_once(self):
        predictor = small_predictor(n_layers=6)
        runs = [0] * 6
        blocks = list(predictor.backbone.layers)
        for i, block in enumerate(blocks):
            plain = block.compute

            def counted(*inputs, i=i, plain=plain):
                runs[i] += 1
                return plain(*inputs)

            block.compute = counted
        with torch.inference_mode():
            list(run_branches(predictor.backbone, torch.tensor([[0, 7, 8, 1]]), [(KnockOut(5, e),) for e in range(4)]))
        assert runs == [1, 1, 1, 1, 1, 5]

    def test_a_branch_without_edits_is_refused(self):
        predictor = small_predictor()
        with pytest.raises(ConfigError, match="branch 1 edits nothing"):
            list(run_branches(predictor.backbone, torch.tensor([[0, 7, 8, 1]]), [(KnockOut(1, 0),), ()]))

    def test_smaller_batches_for_wide_branches_and_the_same_answers(self):
        predictor, source = small_predictor(), random_source()
        codes = [source.stretch(i).content for i in range(10)]
        hidden = [hidden_positions(each, 0, i, 0.3) for i, each in enumerate(codes)]
        predictor.tokens_per_batch = 200
        sizes = []
        for extra in (0, 4):
            seen = []

            def branches_of(ids, seen=seen):
                seen.append(len(ids))
                return [(KnockOut(1, 0, "mean"),)]

            answers = list(branched_log_probs(predictor, codes, hidden, branches_of, extra_experts=extra))
            sizes.append(
                (max(seen), np.concatenate([a.log_probs for a in sorted(answers, key=lambda a: (a.branch, a.index))]))
            )
        assert sizes[0][0] > sizes[1][0] == 1
        np.testing.assert_allclose(sizes[0][1], sizes[1][1], atol=1e-5)


class TestHiddenStretches:
    def test_every_hidden_base_is_in_all_and_in_its_classes(self):
        source = random_source()
        stretch = source.stretch(3)
        found = hide_stretch(source, 3, seed=5, mask_frac=0.5, min_bp=1, max_bp=64)
        assert np.array_equal(found.hidden, hidden_positions(stretch.content, 5, 3, 0.5))
        assert found.hidden.sum() > 5 and not found.hidden[stretch.content == 4].any()
        assert np.array_equal(found.visible, ~found.hidden & (stretch.content < 4))
        for row, (labelling, name) in zip(found.member, COLUMNS, strict=True):
            for base, member in zip(np.flatnonzero(found.hidden), row, strict=True):
                if labelling == "region":
                    assert member == (stretch.labels["region"][base] == ("gene", "motif", "absent").index(name))
                elif labelling == "species":
                    assert member == (name == "alia")
                else:
                    assert member

    @pytest.mark.parametrize(
        ("changes", "error", "said"),
        [
            ({"content": "ACGT"}, ConfigError, "c3 from base 1 is text, and a masked loss per base is of DNA"),
            (
                {"content": np.zeros(65, np.uint8)},
                ConfigError,
                "c3 from base 1 has 65 bases, and the model reads 1 to 64",
            ),
            ({"labels": {"region": np.zeros(5, np.int16)}}, ValueError, r"37 bases, and labelling region has \(5,\)"),
            ({"labels": {"region": np.full(37, 3, np.int16)}}, ValueError, "labelling region has classes 0 to 2"),
        ],
    )
    def test_stretches_that_do_not_fit_are_refused(self, changes, error, said):
        source = random_source()
        source.stretches[3] = dataclasses.replace(source.stretches[3], **changes)
        with pytest.raises(error, match=said):
            hide_stretch(source, 3, seed=0, mask_frac=0.9, min_bp=1, max_bp=64)


class TestAblation:
    def test_sums_are_those_of_the_predictor_run_by_itself(self, tmp_path):
        predictor, source = small_predictor(top_k=2), random_source(20)
        edits = [KnockOut(3, 1), Swap(1, 0, 2), KnockOut(1, 3, "mean")]
        found = ablate(predictor, source, edits, tmp_path, settings=SETTINGS)
        assert list(found.losses.columns) == COLUMNS and found.losses.columns[0] == EVERY
        loss, n = np.zeros((4, 5, 6)), np.zeros((5, 6))
        taken, routed = np.zeros((2, 5, 2, 6, 4)), []
        for number, context in enumerate([(), *((edit,) for edit in edits)]):
            for i in range(20):
                stretch = source.stretch(i)
                hidden = hidden_positions(stretch.content, 0, i, 0.3)
                if not context:
                    answers = branched_log_probs(predictor, [stretch.content], [hidden], lambda ids: [])
                    routed += [(answer, stretch, hidden) for answer in answers]
                with edited(predictor.backbone, *context):
                    (logs,) = predictor.masked_log_probs([stretch.content], [hidden])
                for base, log in zip(np.flatnonzero(hidden), logs, strict=True):
                    label = stretch.labels["region"][base]
                    of = [0, *([1 + label] if label >= 0 else []), 4 + stretch.classes["species"]]
                    for column in of:
                        loss[number, stretch.unit, column] -= log[stretch.content[base]]
                        n[stretch.unit, column] += number == 0
        assert np.array_equal(found.losses.n_bases, n) and n[:, 3].sum() == 0 < n[:, 2].sum()
        np.testing.assert_allclose(found.losses.loss, loss, rtol=1e-4, atol=1e-4)
        assert np.array_equal(found.losses.taken_hidden.sum(-1) / 2, np.broadcast_to(n[:, None], (5, 2, 6)))
        for answer, stretch, hidden in routed:
            for layer, base in product(range(2), range(len(hidden))):
                for expert in answer.experts[layer, base]:
                    label = stretch.labels["region"][base]
                    of = [0, *([1 + label] if label >= 0 else []), 4 + stretch.classes["species"]]
                    taken[int(hidden[base]), stretch.unit, layer, of, expert] += stretch.content[base] < 4
        assert np.array_equal(found.losses.taken, taken[0]) and np.array_equal(found.losses.taken_hidden, taken[1])

    def test_rows_are_paired_differences_with_intervals_by_units(self, tmp_path):
        predictor, source = small_predictor(), random_source(20)
        found = ablate(predictor, source, [KnockOut(3, 1), Swap(1, 0, 2)], tmp_path, settings=SETTINGS)
        rows = found.rows()
        assert [(row["labelling"], row["class"]) for row in rows] == COLUMNS * 2
        assert [row["site"] for row in rows[::6]] == [1, 0] and [row["layer"] for row in rows[::6]] == [3, 1]
        assert [(row["expert"], row["other"], row["mode"]) for row in rows[::6]] == [
            (1, None, "reroute"),
            (0, 2, "swap"),
        ]
        sums, n = found.losses.loss, found.losses.n_bases
        expected = bootstrap_ratio(sums[2, :, 1] - sums[0, :, 1], n[:, 1], n_draws=200, seed=0)
        row = rows[7]
        assert (row["delta"], row["low"], row["high"]) == (expected.value, expected.low, expected.high)
        assert row["low"] <= row["delta"] <= row["high"] and row["n_bases"] == n[:, 1].sum()
        for which, counts in (("taken", found.losses.taken), ("taken_hidden", found.losses.taken_hidden)):
            share = counts[:, 0, 1].sum(0) / counts[:, 0, 1].sum()
            assert row[which] == pytest.approx(share[0] + share[2])
        absent = rows[3]
        assert absent["n_bases"] == 0 and {absent[key] for key in ("delta", "low", "high", "taken")} == {None}
        before = found.untouched_rows()[1]
        assert before["loss"] == pytest.approx(sums[0, :, 1].sum() / n[:, 1].sum())
        assert list(rows[0])[:9] == ["site", "layer", "expert", "labelling", "class", "n_bases", "delta", "low", "high"]

    def test_the_planted_expert_alone_pays_on_its_motif_alone(self, tmp_path):
        predictor, source = planted_predictor(), planted_source()
        settings = dataclasses.replace(SETTINGS, modes=("reroute", "silence"))
        found = ablate_all(predictor, source, tmp_path, settings=settings)
        rows = {(row["expert"], row["mode"], row["class"]): row for row in found.rows()}
        # After a visible A the model is sure of C; where that A is hidden too, nobody can tell.
        told = sure = total = 0
        for i in range(len(source)):
            stretch = source.stretch(i)
            hidden = hidden_positions(stretch.content, 0, i, 0.3)
            motif = np.flatnonzero(stretch.labels["region"] == 1)
            total += hidden[motif].sum()
            sure += (hidden[motif] & ~hidden[motif - 1]).sum()
        assert 30 < sure < total
        before = {row["class"]: row["loss"] for row in found.untouched_rows()}
        assert before["gene"] == pytest.approx(math.log(4), abs=1e-6)
        assert before["motif"] == pytest.approx((1 - sure / total) * math.log(4), abs=0.01)
        told = rows[PLANTED_EXPERT, "reroute", "motif"]
        assert told["delta"] == pytest.approx(sure / total * math.log(4), abs=0.01) and told["low"] > 0.5
        assert told["taken_hidden"] == pytest.approx(sure / total)
        for (expert, mode, name), row in rows.items():
            if name in ("gene", "motif") and (expert, name) != (PLANTED_EXPERT, "motif"):
                assert row["delta"] == row["low"] == row["high"] == 0, (expert, mode, name)
        assert rows[PLANTED_EXPERT, "silence", "motif"]["delta"] == pytest.approx(told["delta"], abs=1e-6)
        # Swapped with the expert of G, the motif is lost, and C after G is wrongly expected where G or T follows.
        swap = ablate(
            predictor, source, [Swap(PLANTED_LAYER, PLANTED_EXPERT, 1)], tmp_path, settings=SETTINGS, title="s"
        )
        cells = {row["class"]: row["delta"] for row in swap.rows()}
        assert cells["motif"] > 0.5

    def test_same_command_goes_on_and_gives_the_same(self, tmp_path, monkeypatch):
        predictor, source = small_predictor(), random_source(20)
        edits = [KnockOut(3, 1)]
        monkeypatch.setattr(losses_module, "CHUNK", 8)
        whole = ablate(predictor, source, edits, tmp_path / "whole", settings=SETTINGS)
        calls = []
        plain = FakeSource.stretch

        def stopping(self, i):
            calls.append(i)
            if len(calls) > 12:
                raise KeyboardInterrupt
            return plain(self, i)

        monkeypatch.setattr(FakeSource, "stretch", stopping)
        with pytest.raises(KeyboardInterrupt):
            ablate(predictor, source, edits, tmp_path / "cut", settings=SETTINGS)
        assert [path.name for path in (tmp_path / "cut").iterdir()] == ["ablation-00000.json"]
        monkeypatch.setattr(FakeSource, "stretch", plain)
        read = []
        monkeypatch.setattr(FakeSource, "stretch", lambda self, i: read.append(i) or plain(self, i))
        again = ablate(predictor, source, edits, tmp_path / "cut", settings=SETTINGS)
        assert read == list(range(8, 20))
        assert np.array_equal(again.losses.loss, whole.losses.loss)
        assert np.array_equal(again.losses.taken, whole.losses.taken)
        other = ablate(predictor, source, [KnockOut(3, 2)], tmp_path / "cut", settings=SETTINGS)
        assert not np.array_equal(other.losses.loss[1], whole.losses.loss[1])

    def test_a_budget_of_stretches_is_drawn_by_seed_and_pairs_all_edits(self, tmp_path):
        predictor, source = small_predictor(), random_source(20)
        few = dataclasses.replace(SETTINGS, n_windows=6)
        read = []
        plain = source.stretch
        source.stretch = lambda i: read.append(i) or plain(i)
        ablate(predictor, source, [KnockOut(3, 1), KnockOut(3, 2)], tmp_path / "a", settings=few)
        assert len(read) == len(set(read)) == 6 and read != list(range(6))
        first, read[:] = list(read), []
        ablate(predictor, source, [KnockOut(1, 1)], tmp_path / "b", settings=few)
        assert read == first

    def test_progress_says_how_long_it_takes(self, tmp_path, capsys):
        predictor, source = small_predictor(), random_source(20)
        ablate(predictor, source, [KnockOut(3, 1)], tmp_path, settings=SETTINGS, reporter=Reporter())
        assert "ablation: 1 edits on 20 stretches, about 0.0 more minutes" in capsys.readouterr().err

    def test_the_random_twin_sees_the_same_bases(self, tmp_path):
        predictor, source = small_predictor(), random_source(10)
        edits = every_expert(predictor, SETTINGS)
        assert edits == [KnockOut(layer, expert) for layer in (1, 3) for expert in range(4)]
        model = ablate(predictor, source, edits, tmp_path, settings=SETTINGS)
        twin = ablate_random(predictor, source, edits, tmp_path, settings=SETTINGS)
        assert np.array_equal(model.losses.n_bases, twin.losses.n_bases)
        assert not np.allclose(model.losses.loss[0], twin.losses.loss[0], atol=0.01)
        by_hand = ablate(predictor.with_random_weights(0), source, edits, tmp_path / "own", settings=SETTINGS)
        assert np.array_equal(by_hand.losses.loss, twin.losses.loss)

    def test_refusals(self, tmp_path):
        predictor, source = small_predictor(), random_source()
        with pytest.raises(ConfigError, match="no expert was named to knock out"):
            ablate(predictor, source, [], tmp_path)
        with pytest.raises(ConfigError, match="layer 0 has no experts"):
            ablate(predictor, source, [KnockOut(0, 0)], tmp_path)
        with pytest.raises(ConfigError, match="this source has no stretches"):
            ablate(predictor, FakeSource([]), [KnockOut(1, 0)], tmp_path)
        gaps = FakeSource([dataclasses.replace(source.stretch(0), content=np.full(40, 4, np.uint8))])
        with pytest.raises(ConfigError, match=r"no base was hidden in 1 stretches: raise mask_frac \(0.3\)"):
            ablate(predictor, gaps, [KnockOut(1, 0)], tmp_path, settings=SETTINGS)
        dense = small_predictor(pattern="Md")
        with pytest.raises(ConfigError, match="no expert layers, and so no expert to knock out"):
            ablate_all(dense, source, tmp_path)
        with torch.no_grad():
            predictor.backbone.norm.weight.fill_(torch.nan)
        with pytest.raises(CheckpointError, match="ablation: a loss is nan, which is no result"):
            ablate(predictor, source, [KnockOut(1, 0)], tmp_path / "nan", settings=SETTINGS)


def ablation_of(loss, n, taken, edits, moe_layers):
    columns = (EVERY, Column("region", "a"), Column("region", "b"))
    return Ablation(tuple(edits), Losses(columns, n, loss, taken, taken * 0), moe_layers, CausalSettings(n_draws=300))


class TestImportance:
    def test_spearman_is_that_of_scipy_with_ties(self):
        rng = np.random.default_rng(0)
        a, b = rng.integers(0, 6, 20).astype(float), rng.normal(size=20)
        layers = np.repeat([1, 3], 10)
        draws = rng.normal(size=(50, 20)), rng.normal(size=(50, 20))
        found = rank_correlation("load", a, b, layers, DrawPair(*draws, 7))
        assert found.overall.value == pytest.approx(spearmanr(a, b).statistic)
        expected = [spearmanr(x, y).statistic for x, y in zip(*draws, strict=True)]
        assert found.overall.low == pytest.approx(np.percentile(expected, 2.5))
        assert (found.n_experts, found.left_out) == (20, 0)

    def test_layers_that_differ_as_a_whole_are_not_taken_for_experts_that_do(self):
        # In each layer the more special expert matters less; the upper layer has more of both.
        special = np.array([1.0, 2.0, 3.0, 11.0, 12.0, 13.0])
        matters = np.array([3.0, 2.0, 1.0, 13.0, 12.0, 11.0])
        layers = np.array([1, 1, 1, 3, 3, 3])
        found = rank_correlation("load", special, matters, layers, DrawPair(special[None], matters[None], 5))
        assert found.overall.value > 0.5 and found.within_layers.value == pytest.approx(-1)

    def test_too_few_experts_and_no_spread_have_no_correlation(self):
        x, layers = np.array([1.0, 2.0, np.nan]), np.array([1, 1, 1])
        found = rank_correlation("load", x, np.ones(3), layers, DrawPair(x[None], np.ones((1, 3)), 5))
        assert (found.overall, found.within_layers, found.n_experts, found.left_out) == (None, None, 2, 1)
        flat = rank_correlation(
            "load",
            np.ones(4),
            np.arange(4.0),
            np.ones(4, int),
            DrawPair(x[None, [0, 0, 0, 0]], np.arange(4.0)[None], 5),
        )
        assert flat.overall is None

    def test_load_and_enrichment_are_counted_at_visible_bases(self):
        rng = np.random.default_rng(1)
        units, experts = 8, 4
        taken = np.zeros((units, 1, 3, experts), np.int64)
        taken[:, 0, 1] = rng.multinomial(60, [0.7, 0.1, 0.1, 0.1], units)
        taken[:, 0, 2] = rng.multinomial(40, [0.1, 0.5, 0.4, 0.0], units)
        taken[:, 0, 0] = taken[:, 0, 1] + taken[:, 0, 2]
        n = np.tile([100, 60, 40], (units, 1))
        loss = np.zeros((1 + experts, units, 3))
        # What knocking out costs falls from expert 0 to 3, and scatters.
        loss[1:, :, 0] = (np.array([8.0, 5.0, 3.0, 1.0])[:, None] + rng.normal(0, 0.1, (experts, units))) * 10
        ablation = ablation_of(loss, n, taken, [KnockOut(1, e) for e in range(experts)], (1,))
        load, enrichment = specialisation_against_importance(ablation, "region")
        sums = taken.sum(0)[0]
        special = []
        for e in range(experts):
            odds = []
            for c in (1, 2):
                hit, of_class, of_expert, total = sums[c, e], sums[c].sum(), sums[1:, e].sum(), sums[1:].sum()
                cells = (hit, of_class - hit, of_expert - hit, total - of_class - of_expert + hit)
                a, b, d, other = (x + 0.5 for x in cells)
                odds.append(abs(math.log2(a * other / (b * d))))
            special.append(max(odds))
        cost = loss[1:, :, 0].sum(1)
        assert load.measure == "load" and enrichment.measure == "enrichment"
        assert load.overall.value == pytest.approx(spearmanr(sums[0], cost).statistic)
        assert enrichment.overall.value == pytest.approx(spearmanr(special, cost).statistic)
        assert enrichment.overall.low <= enrichment.overall.value <= enrichment.overall.high

    def test_dead_experts_have_load_but_no_enrichment(self):
        taken = np.zeros((2, 1, 3, 4), np.int64)
        taken[:, 0, 1], taken[:, 0, 2] = [30, 10, 20, 0], [10, 30, 20, 0]
        taken[:, 0, 0] = taken[:, 0, 1] + taken[:, 0, 2]
        ablation = ablation_of(
            np.arange(30.0).reshape(5, 2, 3) ** 1.5,
            np.full((2, 3), 40),
            taken,
            [KnockOut(1, e) for e in range(4)],
            (1,),
        )
        load, enrichment = specialisation_against_importance(ablation, "region")
        assert (load.n_experts, load.left_out) == (4, 0)
        assert (enrichment.n_experts, enrichment.left_out) == (3, 1)

    def test_refusals(self):
        ablation = ablation_of(
            np.zeros((2, 2, 3)), np.ones((2, 3), int), np.ones((2, 1, 3, 4), int), [Swap(1, 0, 1)], (1,)
        )
        with pytest.raises(ConfigError, match="no labelling repeats was measured; there are: region"):
            specialisation_against_importance(ablation, "repeats")
        with pytest.raises(ConfigError, match="no expert was knocked out by reroute"):
            specialisation_against_importance(ablation, "region")


def test_fake_source_is_a_source():
    source = random_source()
    assert isinstance(source.labellings[0], Labelling) and isinstance(source.stretch(0), Stretch)
