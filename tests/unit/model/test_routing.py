import dataclasses
import math

import numpy as np
import pytest
import torch

from umbel.model.routing import Routing, balance_loss, expert_load, z_loss


def routing(logits, top_k=1, pads=()):
    logits = torch.tensor(logits)[None]
    experts = logits.sort(dim=-1, descending=True, stable=True).indices[..., :top_k]
    weights = logits.softmax(-1).gather(-1, experts)
    for position in pads:
        logits[0, position], weights[0, position], experts[0, position] = 0, 0, -1
    return Routing(0, logits, experts, weights)


def test_balance_loss_by_hand_and_without_pads():
    logits = [[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [9.0, 0.0]]
    probability = [math.exp(a) / (math.exp(a) + math.exp(b)) for a, b in logits[:3]]
    mean = sum(probability) / 3
    wanted = 2 * (2 / 3 * mean + 1 / 3 * (1 - mean))
    assert float(balance_loss([routing(logits, pads=[3])])) == pytest.approx(wanted, rel=1e-6)


def test_balance_loss_is_one_when_even_and_e_when_one_expert_takes_all():
    even = [[20.0 if e == t % 4 else 0.0 for e in range(4)] for t in range(8)]
    assert float(balance_loss([routing(even)])) == pytest.approx(1.0, abs=1e-5)
    assert float(balance_loss([routing([[50.0, 0.0, 0.0, 0.0]] * 8)])) == pytest.approx(4.0, abs=1e-5)


def test_z_loss_by_hand_and_without_pads():
    logits = [[1.0, 2.0], [0.5, -1.0], [100.0, 3.0]]
    wanted = sum(math.log(math.exp(a) + math.exp(b)) ** 2 for a, b in logits[:2]) / 2
    assert float(z_loss([routing(logits, pads=[2])])) == pytest.approx(wanted, rel=1e-6)


def test_counts_skip_pads():
    assert routing([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], pads=[2]).counts().tolist() == [1, 1]


def test_load_of_nothing_and_of_everything_on_one():
    nothing = expert_load(np.zeros(3, int))
    assert (nothing.max_over_mean, nothing.cv, nothing.n_dead) == (0.0, 0.0, 3)
    one = expert_load(np.array([0, 9, 0, 0]))
    assert (one.max_over_mean, one.n_dead, one.entropy) == (4.0, 3, 0.0)
    assert expert_load(np.array([5, 5, 5])).entropy == pytest.approx(1.0)
    assert expert_load(np.array([2, 2, 0, 0])).entropy == pytest.approx(0.5)
    assert expert_load(np.array([4])).entropy == 0.0
    assert one.cv == pytest.approx(math.sqrt(3))


def test_probabilities_of_sigmoid_scores_are_their_shares():
    found = dataclasses.replace(routing([[2.0, -1.0, 0.5]]), scores="sigmoid").probabilities()
    scores = [1 / (1 + math.exp(-x)) for x in (2.0, -1.0, 0.5)]
    assert found[0].tolist() == pytest.approx([s / sum(scores) for s in scores])
