import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ranks import run_ranks

from umbel.config import ModelConfig
from umbel.model.backbone import Backbone
from umbel.model.routing import Routing
from umbel.train.health import LayerHealth, RoutingTotals

CPU = torch.device("cpu")


def made_routing(rows, length, n_experts, top_k, seed, layer=0, scores="softmax"):
    """Random routing with padding behind sequences of random length, the first of them whole."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, length + 1, (rows,), generator=generator)
    lengths[0] = length
    real = (torch.arange(length) < lengths[:, None])[..., None]
    logits = 3 * torch.randn(rows, length, n_experts, generator=generator) * real
    experts = logits.topk(top_k, -1).indices.masked_fill(~real, -1)
    return Routing(layer, logits, experts, torch.ones(rows, length, top_k), scores)


def by_plain_loops(routing):
    """Load, entropy of the load, mean probability and routing entropy, in the most literal way."""
    counts, probability, entropy, n_tokens = [0] * routing.n_experts, [0.0] * routing.n_experts, 0.0, 0
    for row in range(routing.logits.shape[0]):
        for token in range(routing.logits.shape[1]):
            chosen = routing.experts[row, token].tolist()
            if -1 in chosen:
                continue
            n_tokens += 1
            for expert in chosen:
                counts[expert] += 1
            x = routing.logits[row, token].tolist()
            scores = [math.exp(v) if routing.scores == "softmax" else 1 / (1 + math.exp(-v)) for v in x]
            shares = [score / sum(scores) for score in scores]
            entropy -= sum(p * math.log(p) for p in shares)
            probability = [a + b for a, b in zip(probability, shares, strict=True)]
    return counts, [p / n_tokens for p in probability], entropy / n_tokens / math.log(routing.n_experts), n_tokens


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
def test_every_number_is_that_of_plain_loops(scores):
    layers = [made_routing(4, 11, 6, 2, seed, layer, scores) for seed, layer in ((1, 1), (2, 3))]
    totals = RoutingTotals([1, 3], 6, CPU)
    totals.add(layers)
    for routing, found in zip(layers, totals.read(totals.flat()), strict=True):
        counts, probability, entropy, n_tokens = by_plain_loops(routing)
        share = np.array(counts) / sum(counts)
        assert (found.layer, found.n_tokens) == (routing.layer, n_tokens)
        assert found.load == pytest.approx(share.tolist(), abs=1e-12)
        assert found.probability == pytest.approx(probability, abs=1e-6)
        assert found.routing_entropy == pytest.approx(entropy, abs=1e-6)
        assert found.max_over_mean == pytest.approx(6 * share.max())
        assert found.cv == pytest.approx(math.sqrt(6 * (share**2).sum() - 1))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 5), length=st.integers(1, 9), n_experts=st.integers(1, 9), k=st.integers(1, 9),
    seed=st.integers(0, 9_999),
)  # fmt: skip
def test_bounds_of_token_choice_hold(rows, length, n_experts, k, seed):
    k = min(k, n_experts)
    totals = RoutingTotals([0], n_experts, CPU)
    totals.add([made_routing(rows, length, n_experts, k, seed)])
    (found,) = totals.read(totals.flat())
    slack = 1 + 1e-9
    assert 1 / slack <= found.max_over_mean <= n_experts / k * slack
    assert 0 <= found.cv <= math.sqrt(n_experts / k - 1) * slack + 1e-7
    assert 0 <= found.n_dead <= n_experts - k
    assert -1e-9 <= found.entropy <= slack and -1e-6 <= found.routing_entropy <= 1 + 1e-6
    assert sum(found.load) == pytest.approx(1) and sum(found.probability) == pytest.approx(1, abs=1e-5)


def test_the_bounds_are_reached():
    """All tokens to the same two of eight experts; and to all evenly, by a router that knows nothing."""
    logits = torch.full((1, 40, 8), -40.0)
    logits[..., 2:4] = 40.0
    one = Routing(0, logits, torch.tensor([2, 3]).expand(1, 40, 2), torch.ones(1, 40, 2))
    even = Routing(0, torch.zeros(1, 40, 8), torch.arange(80).view(1, 40, 2) % 8, torch.ones(1, 40, 2))
    for routing, ratio, cv, n_dead, entropy, unsure in (
        (one, 4.0, math.sqrt(3), 6, math.log(2) / math.log(8), math.log(2) / math.log(8)),
        (even, 1.0, 0.0, 0, 1.0, 1.0),
    ):
        totals = RoutingTotals([0], 8, CPU)
        totals.add([routing])
        (found,) = totals.read(totals.flat())
        assert (found.max_over_mean, found.n_dead) == (pytest.approx(ratio), n_dead)
        assert (found.cv, found.entropy) == (pytest.approx(cv, abs=1e-12), pytest.approx(entropy))
        assert found.routing_entropy == pytest.approx(unsure, abs=1e-6)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(cuts=st.sets(st.integers(1, 6)), processes=st.integers(1, 4), seed=st.integers(0, 999))
def test_any_cut_of_the_rows_gives_the_same(cuts, processes, seed):
    layers = [made_routing(7, 9, 5, 2, seed + layer, layer) for layer in range(2)]
    whole = RoutingTotals([0, 1], 5, CPU)
    whole.add(layers)
    parts = [RoutingTotals([0, 1], 5, CPU) for _ in range(processes)]
    edges = [0, *sorted(cuts), 7]
    for turn, (start, end) in enumerate(itertools.pairwise(edges)):
        parts[turn % processes].add([routing.part(slice(start, end), slice(None)) for routing in layers])
    flat = torch.stack([part.flat() for part in parts]).sum(0)
    assert torch.equal(whole.counts(flat), whole.counts(whole.flat()))
    assert torch.equal(whole.shares(flat), whole.shares(whole.flat()))
    torch.testing.assert_close(flat, whole.flat(), atol=1e-12, rtol=1e-12)


def _share_of_a_process():
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    layers = [made_routing(6, 9, 5, 2, 40 + layer, layer) for layer in range(2)]
    totals = RoutingTotals([0, 1], 5, CPU)
    rows = (slice(0, 1), slice(1, 1), slice(1, 6))[rank]
    totals.add([routing.part(rows, slice(None)) for routing in layers])
    flat = totals.flat()
    torch.distributed.all_reduce(flat)
    torch.distributed.destroy_process_group()
    return [dataclasses.asdict(layer) for layer in totals.read(flat)]


def test_three_processes_one_of_them_without_tokens_read_what_one_reads():
    whole = RoutingTotals([0, 1], 5, CPU)
    whole.add([made_routing(6, 9, 5, 2, 40 + layer, layer) for layer in range(2)])
    wanted = [dataclasses.asdict(layer) for layer in whole.read(whole.flat())]
    for told in run_ranks(_share_of_a_process, 3):
        for mine, other in zip(wanted, told, strict=True):
            assert mine.keys() == other.keys() and mine["load"] == other["load"]
            assert mine["routing_entropy"] == pytest.approx(other["routing_entropy"], abs=1e-12)
            assert mine["probability"] == pytest.approx(other["probability"], abs=1e-12)


def test_nothing_is_even_to_the_loss_and_0_to_the_reader():
    totals = RoutingTotals([2], 4, CPU)
    assert totals.shares(totals.flat()).tolist() == [[0.25] * 4]
    (found,) = totals.read(totals.flat())
    assert found == LayerHealth([0.0] * 4, 0.0, 0.0, 4, 0.0, 2, 0.0, [0.0] * 4, 0)


def test_the_layers_of_a_network_are_found_and_filled():
    config = ModelConfig(pattern="Md Me", n_layers=4, d_model=8, d_state=2, ffn_hidden=8, n_experts=3)
    output = Backbone(config)(torch.randint(7, 11, (2, 12)), torch.ones(2, 12, dtype=torch.bool))
    totals = RoutingTotals.of(config, CPU)
    totals.add(output.routings)
    assert [(found.layer, found.n_tokens) for found in totals.read(totals.flat())] == [(1, 24), (3, 24)]
    assert totals.counts(totals.flat()).sum(1).tolist() == [24, 24]


def test_records_have_six_digits_and_the_load_only_where_asked_for():
    layer = LayerHealth([2 / 3, 1 / 3], 4 / 3, 0.0, 0, 1.0, 3, 0.123456789, [0.4, 0.6], 10)
    short = {"layer": 3, "n_dead": 0, "max_over_mean": 1.33333, "cv": 0.0, "entropy": 1.0, "routing_entropy": 0.123457}
    assert layer.record(with_load=False) == short
    assert layer.record(with_load=True) == {**short, "load": [0.666667, 0.333333]}
