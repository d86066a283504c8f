"""Routes of one checkpoint in another, against both routed by hand."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from causal_fakes import CPU, random_source, small_predictor

from umbel.data.masking import hidden_positions
from umbel.errors import ConfigError
from umbel.evaluate.experts.causal.patching import Patch, patch_routes
from umbel.evaluate.experts.causal.settings import CausalSettings
from umbel.evaluate.metrics import bootstrap_ratio
from umbel.model.edited_router import Given, edited
from umbel.predict.branches import branched_log_probs
from umbel.predict.predictor import Predictor

SETTINGS = CausalSettings(mask_frac=0.3, n_draws=200)


def tuned(predictor, seed=1, router=0.0, experts=0.0):
    """A copy whose routers or experts have moved."""
    model = copy.deepcopy(predictor._model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            size = router if ".router." in name else experts if ".ffn." in name and weight.ndim == 3 else 0.0
            weight += size * weight.std() * torch.randn(weight.shape, generator=generator)
    return Predictor(model, f"tuned-{seed}-{router}-{experts}", CPU, predictor.tokens)


def log_probs(predictor, edits_of=lambda ids: ()):
    source = random_source()
    codes = [source.stretch(i).content for i in range(10)]
    hidden = [hidden_positions(each, 0, i, 0.3) for i, each in enumerate(codes)]
    answers = list(branched_log_probs(predictor, codes, hidden, lambda ids: [edits_of(ids)] if edits_of(ids) else []))
    found = {branch: [None] * 10 for branch in {answer.branch for answer in answers}}
    for answer in answers:
        found[answer.branch][answer.index] = answer.log_probs
    return found


@pytest.mark.parametrize("with_weights", [False, True])
def test_a_patch_with_itself_changes_no_bit(with_weights):
    predictor = small_predictor(top_k=2)
    found = log_probs(predictor, Patch(predictor, with_weights=with_weights).edits)
    assert all(np.array_equal(a, b) for a, b in zip(found[-1], found[0], strict=True))


def test_routes_come_from_the_other_as_it_runs_by_itself():
    a = small_predictor()
    b = tuned(a, router=3.0, experts=1.0)
    ids = torch.tensor([[0, 7, 8, 6, 9, 10, 7, 1, 4, 4], [0, 9, 9, 8, 7, 6, 10, 8, 7, 1]])
    with torch.no_grad(), edited(b.backbone):
        routings = b.backbone(ids).routings
    edits = Patch(b, with_weights=True).edits(ids)
    assert [edit.layer for edit in edits] == [1, 3]
    for edit, routing in zip(edits, routings, strict=True):
        assert torch.equal(edit.routing.experts, routing.experts)
        assert torch.equal(edit.routing.weights, routing.weights)
    assert [edit.layer for edit in Patch(b, (3,)).edits(ids)] == [3]
    # Where only the last router differs, all that stands below routes as before, and so does A with its weights.
    c = tuned(a)
    with torch.no_grad():
        c.backbone.layers[3].ffn.router.weight.copy_(b.backbone.layers[3].ffn.router.weight)
    found = log_probs(a, Patch(c, with_weights=True).edits)
    expected = log_probs(c)[-1]
    assert all(np.array_equal(x, y) for x, y in zip(found[0], expected, strict=True))
    assert not np.allclose(found[0][0], found[-1][0], atol=1e-4)


def test_who_moved_only_its_router_is_split_into_routes_and_nothing_else(tmp_path):
    a = small_predictor(n_layers=2)
    found = patch_routes(a, tuned(a, router=3.0), random_source(20), tmp_path, settings=SETTINGS)
    for row in found.split():
        assert row["rest"] == pytest.approx(0, abs=1e-6)
        assert row["routes"] == pytest.approx(row["total"], abs=1e-6)
        assert row["routes_share"] is None or row["routes_share"] == pytest.approx(1, abs=1e-3)
    assert found.split()[0]["total"] != 0
    (delta,) = [
        row["delta"]
        for row in found.rows()
        if (row["model"], row["patched"], row["class"]) == ("a", "choices and weights", "all")
    ]
    assert delta == pytest.approx(found.split()[0]["total"], abs=1e-6)


def test_who_moved_only_its_last_experts_is_split_into_the_rest_and_nothing_else(tmp_path):
    a = small_predictor(n_layers=2)
    found = patch_routes(a, tuned(a, experts=2.0), random_source(20), tmp_path, settings=SETTINGS)
    assert {row["delta"] for row in found.rows() if row["n_bases"]} == {0.0}
    for with_weights in (True, False):
        assert all(row["routes"] == 0 and row["rest"] == row["total"] for row in found.split(with_weights=with_weights))


def test_rows_and_split_are_paired_differences(tmp_path):
    a = small_predictor()
    b = tuned(a, router=2.0, experts=1.5)
    source = random_source(20)
    found = patch_routes(a, b, source, tmp_path, settings=SETTINGS)
    rows = found.rows()
    assert len(rows) == 2 * 4 * 6
    assert [(row["model"], row["layers"], row["patched"]) for row in rows[::6]] == [
        (model, layers, patched)
        for model in "ab"
        for layers, patched in (("all", "choices"), ("all", "choices and weights"), ("1", "choices"), ("3", "choices"))
    ]
    for model, other, losses in ((a, b, found.a), (b, a, found.b)):
        answers = log_probs_of_source(model, source, Patch(other, (3,)).edits)
        assert losses.loss[4, :, 0].sum() == pytest.approx(answers, rel=1e-5)
    n = found.a.n_bases[:, 2]
    assert np.array_equal(found.a.n_bases, found.b.n_bases)
    ratio = bootstrap_ratio(found.a.loss[1, :, 2] - found.a.loss[0, :, 2], n, n_draws=200, seed=0)
    assert (rows[2]["delta"], rows[2]["low"], rows[2]["high"]) == (ratio.value, ratio.low, ratio.high)
    one = found.split()[0]
    means = [
        losses.loss[branch, :, 0].sum() / n_all
        for losses, branch, n_all in (
            (found.a, 0, found.a.n_bases[:, 0].sum()),
            (found.a, 2, found.a.n_bases[:, 0].sum()),
            (found.b, 0, found.a.n_bases[:, 0].sum()),
            (found.b, 2, found.a.n_bases[:, 0].sum()),
        )
    ]
    aa, ab, bb, ba = means
    assert one["total"] == pytest.approx(bb - aa) and one["routes"] == pytest.approx(((ab - aa) + (bb - ba)) / 2)
    assert one["rest"] == pytest.approx(((ba - aa) + (bb - ab)) / 2)
    for row in found.split():
        holds_zero = row["total_low"] <= 0 <= row["total_high"]
        assert row["suppressed"] == holds_zero == (row["routes_share"] is None)
    assert [row["class"] for row in found.split()] == ["all", "gene", "motif", "una", "alia"]


def log_probs_of_source(predictor, source, edits_of):
    """Sum of losses of one branch over a source, stretch by stretch."""
    total = 0.0
    for i in range(len(source)):
        codes = source.stretch(i).content
        hidden = hidden_positions(codes, 0, i, 0.3)
        for answer in branched_log_probs(predictor, [codes], [hidden], lambda ids: [edits_of(ids)]):
            if answer.branch == 0:
                total -= answer.log_probs[np.arange(hidden.sum()), codes[hidden]].sum()
    return total


def test_the_same_call_goes_on_and_another_checkpoint_does_not_use_its_results(tmp_path):
    a = small_predictor()
    b, c = tuned(a, router=2.0), tuned(a, seed=2, router=2.0)
    source = random_source(20)
    first = patch_routes(a, b, source, tmp_path, settings=SETTINGS)
    plain = source.stretch
    source.stretch = None
    again = patch_routes(a, b, source, tmp_path, settings=SETTINGS)
    assert np.array_equal(first.a.loss, again.a.loss) and np.array_equal(first.b.loss, again.b.loss)
    source.stretch = plain
    other = patch_routes(a, c, source, tmp_path, settings=SETTINGS)
    assert np.array_equal(other.a.loss[0], first.a.loss[0])
    assert not np.array_equal(other.a.loss[1], first.a.loss[1])


def test_refusals(tmp_path):
    a, source = small_predictor(), random_source()
    with pytest.raises(ConfigError, match="same shape only; here n_experts 4 and 3"):
        patch_routes(a, small_predictor(n_experts=3), source, tmp_path)
    with pytest.raises(ConfigError, match="no expert layers, and so no routes to patch"):
        patch_routes(small_predictor(pattern="Md"), small_predictor(pattern="Md"), source, tmp_path)
    with pytest.raises(ConfigError, match="layer 2 has no experts; those that have: 1, 3"):
        Patch(a, (2,)).require(a)
    from umbel.data.kmers import KmerTokens

    other = Predictor(copy.deepcopy(a._model), "k", CPU, KmerTokens(3))
    with pytest.raises(ConfigError, match="same tokens only"):
        Patch(other).require(a)
    assert isinstance(Patch(a).edits(torch.tensor([[0, 7, 1]]))[0], Given)
    assert dataclasses.is_dataclass(Patch)
