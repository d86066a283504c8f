import math

import pytest
import torch

from umbel.model.heads import label_losses, masked_cross_entropy


def test_loss_by_hand_on_labelled_positions_only():
    logits = torch.tensor([[[1.0, 2.0], [0.0, 5.0], [3.0, 3.0]]])
    labels = torch.tensor([[0, -100, 1]])
    by_hand = [-math.log(math.exp(1) / (math.exp(1) + math.exp(2))), math.log(2)]
    assert label_losses(logits, labels)[0].tolist() == pytest.approx([by_hand[0], 0, by_hand[1]])
    assert float(masked_cross_entropy(logits, labels)) == pytest.approx(sum(by_hand) / 2)


def test_no_label_gives_zero_and_not_nan():
    assert float(masked_cross_entropy(torch.randn(1, 3, 4), torch.full((1, 3), -100))) == 0
