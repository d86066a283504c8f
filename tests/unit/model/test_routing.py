import dataclasses
import itertools
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


EVEN2 = torch.full((1, 2), 0.5)


def test_balance_loss_by_hand_and_without_pads():
    logits = [[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [9.0, 0.0]]
    probability = [math.exp(a) / (math.exp(a) + math.exp(b)) for a, b in logits[:3]]
    mean = sum(probability) / 3
    wanted = 2 * (0.7 * mean + 0.3 * (1 - mean))
    found = balance_loss([routing(logits, pads=[3])], torch.tensor([[0.7, 0.3]]), 3)
    assert float(found) == pytest.approx(wanted, rel=1e-6)
    assert float(balance_loss([routing(logits, pads=[3])], EVEN2, 3)) == pytest.approx(1.0, rel=1e-6)


def test_balance_loss_is_one_when_even_and_e_when_one_expert_takes_all():
    even = [[20.0 if e == t % 4 else 0.0 for e in range(4)] for t in range(8)]
    assert float(balance_loss([routing(even)], torch.full((1, 4), 0.25), 8)) == pytest.approx(1.0, abs=1e-5)
    one = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    assert float(balance_loss([routing([[50.0, 0.0, 0.0, 0.0]] * 8)], one, 8)) == pytest.approx(4.0, abs=1e-5)


def test_each_layer_has_shares_of_its_own_and_counts_the_same():
    first, second = routing([[1.0, 0.0], [0.0, 2.0]]), routing([[3.0, 0.0], [0.0, 0.5]])
    shares = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    alone = [float(balance_loss([each], shares[i : i + 1], 2)) for i, each in enumerate((first, second))]
    assert float(balance_loss([first, second], shares, 2)) == pytest.approx(sum(alone) / 2, rel=1e-6)
    with pytest.raises(ValueError, match="shorter"):
        balance_loss([first, second], shares[:1], 2)


def test_z_loss_by_hand_and_without_pads():
    logits = [[1.0, 2.0], [0.5, -1.0], [100.0, 3.0]]
    wanted = sum(math.log(math.exp(a) + math.exp(b)) ** 2 for a, b in logits[:2]) / 2
    assert float(z_loss([routing(logits, pads=[2])], 2)) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
def test_the_parts_of_a_step_add_up_to_the_losses_and_gradients_of_the_whole(scores):
    """Rows with padding of different length, cut in every way that a step of six rows may be."""
    n_rows, n_layers, n_experts, top_k = 6, 2, 5, 2
    torch.manual_seed(3)
    logits = 2 * torch.randn(n_layers, n_rows, 9, n_experts)
    real = torch.arange(9) < torch.tensor([9, 1, 7, 9, 4, 8])[:, None]
    shares = torch.rand(n_layers, n_experts).softmax(-1)
    n_tokens = int(real.sum())

    def losses(cuts):
        leaf = logits.clone().requires_grad_()
        shown = leaf * real[..., None]
        experts = shown.topk(top_k, -1).indices.masked_fill(~real[..., None], -1)
        total = torch.zeros(2)
        for start, end in itertools.pairwise(cuts):
            part = [
                Routing(layer, shown[layer, start:end], experts[layer, start:end], torch.ones(()), scores)
                for layer in range(n_layers)
            ]
            total = total + torch.stack([balance_loss(part, shares, n_tokens), z_loss(part, n_tokens)])
        gradients = [torch.autograd.grad(each, leaf, retain_graph=True)[0] for each in total]
        return total.detach(), torch.stack(gradients)

    whole, slopes = losses((0, 6))
    assert slopes.abs().sum((1, 2, 3, 4)).min() > 0 and not slopes[:, :, ~real].any()
    for n_cuts in range(1, 6):
        for inner in itertools.combinations(range(1, 6), n_cuts):
            values, gradients = losses((0, *inner, 6))
            torch.testing.assert_close(values, whole, atol=1e-6, rtol=1e-6)
            torch.testing.assert_close(gradients, slopes, atol=1e-7, rtol=1e-6)


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
    found = dataclasses.replace(routing([[2.0, -1.0, 0.5]]), scores="sigmoid").log_probabilities().exp()
    scores = [1 / (1 + math.exp(-x)) for x in (2.0, -1.0, 0.5)]
    assert found[0, 0].tolist() == pytest.approx([s / sum(scores) for s in scores])
