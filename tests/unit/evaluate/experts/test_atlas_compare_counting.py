"""What is kept of a comparison, against plain loops; resumption; and items that are not the same."""

import numpy as np
import pytest
from comparison_fakes import MemorySource, RuleModel, by_letter, by_pair, checkpoint, noisy, permuted

from umbel.errors import ConfigError, RunError
from umbel.evaluate.experts.compare import counting
from umbel.evaluate.experts.compare.checkpoints import Checkpoint, are_alike, require_distinct
from umbel.evaluate.experts.compare.counting import choose_pairs, count
from umbel.evaluate.experts.routes import RoutedSequence
from umbel.evaluate.experts.stretches import Reading, route_stretches

LABELS = ("half", "group")


def by_hand(checkpoints, source, a, b):
    """Everything between two checkpoints at the last router, one item after the other."""
    sites = [checkpoints[c].sites[-1] for c in (a, b)]
    e, f = (site.n_experts for site in sites)
    overlap, items = np.zeros(source.n_units, int), np.zeros(source.n_units, int)
    taken, first = np.zeros((source.n_units, e, f), int), np.zeros((e, f), int)
    by_class = {"half": np.zeros((3, e, f), int), "group": np.zeros((2, e, f), int)}
    counts, joint = np.zeros((source.n_units, e), int), np.zeros((source.n_units, 3, e), int)
    entropy = np.zeros(source.n_units)
    for i in range(len(source)):
        stretch = source.stretch(i)
        routed = [route_stretches(checkpoints[c].model, [stretch], Reading(64))[0] for c in (a, b)]
        for t, code in enumerate(stretch.content):
            if code == 4:
                continue
            one, other = (r.sites[-1].experts[t].tolist() for r in routed)
            u = stretch.unit
            items[u] += 1
            overlap[u] += len(set(one) & set(other))
            first[one[0], other[0]] += 1
            entropy[u] += routed[0].sites[-1].entropy[t]
            half = stretch.labels["half"][t]
            by_class["group"][stretch.classes["group"], one[0], other[0]] += 1
            if half >= 0:
                by_class["half"][half, one[0], other[0]] += 1
            for x in one:
                counts[u, x] += 1
                if half >= 0:
                    joint[u, half, x] += 1
                for y in other:
                    taken[u, x, y] += 1
    return {
        "items": items,
        "overlap": overlap,
        "taken": taken,
        "first": first,
        "by_class": by_class,
        "counts": counts,
        "joint": joint,
        "entropy": entropy,
    }


@pytest.mark.parametrize("top_k", [1, 2])
def test_the_sums_are_those_of_plain_loops(top_k):
    rule = by_letter if top_k == 1 else by_pair
    pair = [checkpoint("a", rule, top_k=top_k), checkpoint("b", noisy(rule, 0.0, 1), top_k=top_k)]
    pair[1] = checkpoint("b", permuted(rule, [1, 0, 2, 3]), top_k=top_k)
    source = MemorySource()
    sums = count(pair, [(0, 1)], source, seed=0)
    want = by_hand(pair, source, 0, 1)
    found, own = sums.pairs[0, 1][-1], sums.sites[0][-1]
    assert sums.n_stretches == len(source)
    assert (sums.items == want["items"]).all()
    assert (found.overlap == want["overlap"]).all()
    assert (found.taken == want["taken"]).all()
    assert (found.first == want["first"]).all()
    assert all((found.by_class[name] == want["by_class"][name]).all() for name in LABELS)
    assert (own.counts == want["counts"]).all() and (own.joint["half"] == want["joint"]).all()
    np.testing.assert_allclose(own.entropy, want["entropy"], rtol=1e-6)
    assert (own.n_scored == want["items"]).all()


def test_turned_items_keep_the_loads_of_every_sequence():
    pair = [checkpoint("a", by_letter), checkpoint("b", by_letter)]
    sums = count(pair, [(0, 1)], MemorySource(), seed=3)
    found = sums.pairs[0, 1][0]
    assert (found.turned.sum(1) == found.first.sum(1)).all() and (found.turned.sum(0) == found.first.sum(0)).all()
    # The letters are independent: turned, a letter meets any other.
    shares = found.turned / found.turned.sum()
    np.testing.assert_allclose(shares, np.outer(shares.sum(1), shares.sum(0)), atol=0.015)
    assert np.trace(found.first) == found.first.sum()


def test_a_choice_lost_is_shared_with_nobody():
    def full(codes, site):
        found = by_letter(codes, site).astype(int)
        found[codes == 2] = -1
        return found

    models = [checkpoint("a", full), checkpoint("b", full), checkpoint("c", by_letter)]
    source = MemorySource()
    sums = count(models, [(0, 1), (0, 2)], source, seed=0)
    codes = np.concatenate([source.stretch(i).content for i in range(len(source))])
    kept = ((codes < 4) & (codes != 2)).sum()
    for pair in ((0, 1), (0, 2)):
        found = sums.pairs[pair][0]
        assert found.overlap.sum() == found.taken.sum() == found.first.sum() == kept < sums.items.sum()
    assert sums.sites[0][0].counts.sum() == kept
    assert sums.sites[0][0].counts.sum(0)[2] == 0


def test_a_stopped_count_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(counting, "_CHUNK_ITEMS", (300, 300))
    monkeypatch.setattr(counting, "SAVE_EVERY_S", 0.0)
    source = MemorySource()
    models = [checkpoint("a", by_letter), checkpoint("b", noisy(by_letter, 0.3, 1))]
    count(models, [(0, 1)], source, seed=0, state=tmp_path / "whole.npz")

    calls = {"n": 0}

    class Stops(RuleModel):
        def route(self, sequences):
            calls["n"] += 1
            if calls["n"] == 3:
                raise KeyboardInterrupt
            return super().route(sequences)

    stopping = [models[0], Checkpoint("b", Stops(models[1].model.rule))]
    with pytest.raises(KeyboardInterrupt):
        count(stopping, [(0, 1)], source, seed=0, state=tmp_path / "part.npz")
    with np.load(tmp_path / "part.npz") as part:
        assert 0 < int(part["n_stretches"]) < len(source)
    routed = []

    class Counts(RuleModel):
        def route(self, sequences):
            routed.append(len(sequences))
            return super().route(sequences)

    count(
        [models[0], Checkpoint("b", Counts(models[1].model.rule))],
        [(0, 1)],
        source,
        seed=0,
        state=tmp_path / "part.npz",
    )
    assert (tmp_path / "part.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    before = sum(routed)
    count(
        [models[0], Checkpoint("b", Counts(models[1].model.rule))],
        [(0, 1)],
        source,
        seed=0,
        state=tmp_path / "part.npz",
    )
    assert sum(routed) == before


def test_a_state_of_something_else_or_a_damaged_one_is_refused(tmp_path):
    models = [checkpoint("a", by_letter), checkpoint("b", by_letter)]
    state = tmp_path / "state.npz"
    count(models, [(0, 1)], MemorySource(), seed=0, state=state)
    with pytest.raises(RunError, match=r"is of another comparison \(other checkpoints, sequences or settings\)"):
        count(models, [(0, 1)], MemorySource(), seed=1, state=state)
    state.write_bytes(state.read_bytes()[:200])
    with pytest.raises(RunError, match=r"damaged .*delete it to begin again"):
        count(models, [(0, 1)], MemorySource(), seed=0, state=state)


def test_other_tokens_of_a_sequence_are_refused():
    class Words(RuleModel):
        def route(self, sequences):
            for routed in super().route(sequences):
                yield RoutedSequence(routed.index, routed.tokens + 1, routed.counted, routed.sites)

    models = [checkpoint("a", by_letter), Checkpoint("b", Words(by_letter))]
    with pytest.raises(ConfigError, match=r"s0: a and b make other tokens of it .* Compare models of one vocabulary"):
        count(models, [(0, 1)], MemorySource(), seed=0)


def test_nothing_to_count_is_refused():
    class Empty(MemorySource):
        def stretch(self, i):
            stretch = super().stretch(i)
            stretch.content[:] = 4
            return stretch

    models = [checkpoint("a", by_letter), checkpoint("b", by_letter)]
    with pytest.raises(ConfigError, match="no base or token to count"):
        count(models, [(0, 1)], Empty(), seed=0)


def test_pairs():
    models = [checkpoint(f"m{i}", by_letter) for i in range(3)]
    controls = [checkpoint(f"r{i}", by_letter, is_control=True) for i in range(2)]
    assert choose_pairs(models, match=False) == [(0, 1), (0, 2), (1, 2)]
    every = [(0, 1), (0, 2), (1, 2), *((i, j) for i in range(3) for j in (3, 4)), (3, 4)]
    assert choose_pairs(models + controls, match=True) == every
    long = [checkpoint(f"m{i}", by_letter) for i in range(12)]
    assert choose_pairs(long, match=False) == sorted({*((i, i + 1) for i in range(11)), *((i, 11) for i in range(11))})
    assert len(choose_pairs(long, match=True)) == 66
    other = checkpoint("wide", by_letter, n_experts=5)
    assert choose_pairs([models[0], other, models[1]], match=False) == [(0, 2)]
    assert "m0 has 4 experts in layer 1 and wide 5" in are_alike(models[0], other)
    assert are_alike(models[0], checkpoint("deep", by_letter, n_sites=3)) == "m0 has 2 routers and deep 3"


def test_fewer_than_two_or_equal_names_or_no_router_are_refused():
    one = checkpoint("a", by_letter)
    with pytest.raises(ConfigError, match=r"one checkpoint \(a\), and a comparison needs two or more"):
        require_distinct([one])
    with pytest.raises(ConfigError, match="two checkpoints are called 'a': name them"):
        require_distinct([one, checkpoint("a", by_letter)])
    with pytest.raises(ConfigError, match="b: this model has no expert layers"):
        require_distinct([one, checkpoint("b", by_letter, n_sites=0)])
