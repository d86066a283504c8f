"""Losses of the heads, against scikit-learn and plain loops, and the labels they refuse."""

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, mean_squared_error

from umbel.errors import ConfigError, ShapeError
from umbel.model.heads import NumberHead
from umbel.model.losses import Losses, class_losses, label_set_losses, number_losses, require_numbers


def test_cross_entropy_with_class_weights_is_that_of_scikit_learn():
    logits, labels, weights = torch.randn(20, 3), torch.arange(20) % 3, [0.5, 2.0, 0.0]
    wanted = log_loss(labels, logits.double().softmax(1), sample_weight=np.array(weights)[labels], labels=[0, 1, 2])
    assert float(class_losses(logits, labels, weights).mean()) == pytest.approx(wanted, rel=1e-5)
    plain = float(class_losses(logits, labels[:, None]).mean())
    assert plain == pytest.approx(log_loss(labels, logits.double().softmax(1)), rel=1e-5)


def test_places_without_class_count_nothing():
    logits, labels = torch.randn(2, 6, 3, requires_grad=True), torch.tensor([[0, 1, -100, 2, -100, 0], [-100] * 6])
    losses = class_losses(logits, labels, [1.0, 2.0, 4.0])
    terms = [(1.0, 0, 0), (2.0, 1, 1), (4.0, 3, 2), (1.0, 5, 0)]
    logs = logits.log_softmax(-1)[0]
    wanted = sum(-w * logs[place, label] for w, place, label in terms) / sum(w for w, _, _ in terms)
    torch.testing.assert_close(losses.mean(), wanted)
    losses.mean().backward()
    assert logits.grad[labels == -100].eq(0).all()
    assert class_losses(logits[1:], labels[1:]).mean() == 0


def test_label_sets_are_that_of_scikit_learn():
    logits, labels = torch.randn(30, 2), torch.arange(60).view(30, 2) % 3 == 0
    p = logits.double().sigmoid().numpy()
    wanted = np.mean([log_loss(labels[:, c], p[:, c]) for c in range(2)])
    for given in (labels, labels.float(), labels.long()):
        assert float(label_set_losses(logits, given).mean()) == pytest.approx(wanted, rel=1e-5)


def test_squared_error_of_what_was_measured():
    outputs, targets = torch.randn(9, 3, requires_grad=True), torch.randn(9, 3)
    known = torch.arange(27).view(9, 3) % 4 > 0
    losses = number_losses(outputs, targets.masked_fill(~known, torch.nan))
    wanted = mean_squared_error(targets[known], outputs[known].detach())
    assert losses.mean().item() == pytest.approx(wanted, rel=1e-5)
    losses.mean().backward()
    assert outputs.grad[~known].eq(0).all()
    assert torch.isfinite(outputs.grad).all()
    assert number_losses(outputs, torch.full((9, 3), torch.nan)).mean() == 0


def test_parts_of_a_batch_add_up_to_the_whole():
    logits, labels = torch.randn(7, 3), torch.tensor([0, 0, 0, 1, 2, 2, 0])
    parts = [class_losses(logits[at], labels[at], [1.0, 5.0, 2.0]) for at in (slice(0, 2), slice(2, 7))]
    total = sum((part.values * part.weights).sum() for part in parts) / sum(part.weights.sum() for part in parts)
    torch.testing.assert_close(total, class_losses(logits, labels, [1.0, 5.0, 2.0]).mean())
    assert Losses(torch.ones(2), torch.zeros(2)).mean() == 0


@pytest.mark.parametrize(
    ("shape", "labels", "text"),
    [
        ((2, 3), torch.tensor([0, 3]), "row 1: the label is 3, and there are 3 classes: 0 to 2$"),
        ((2, 3), torch.tensor([0, -100]), "row 1: the label is -100, and there are 3 classes: 0 to 2$"),
        ((2, 3), torch.tensor([0.0, 1.0]), r"labels are torch.float32, and classes are whole numbers \(torch.int64\)"),
        ((2, 3), torch.tensor([0, 1, 2]), r"labels have shape \(3,\), must be \(2,\) or \(2, 1\)"),
        (
            (2, 2, 3),
            torch.tensor([[0, 1], [-1, 2]]),
            "row 1, place 0: the label is -1, and there are 3 .* -100 for none",
        ),
        ((2, 2, 3), torch.tensor([0, 1]), r"labels have shape \(2,\), must be \(2, 2\)"),
    ],
)
def test_impossible_classes_are_refused(shape, labels, text):
    with pytest.raises(ValueError, match=text):
        class_losses(torch.zeros(shape), labels)


def test_impossible_label_sets_are_refused():
    with pytest.raises(ValueError, match=r"row 0, label 1: the label is 2.0, must be from 0 to 1"):
        label_set_losses(torch.zeros(1, 2), torch.tensor([[1, 2]]))
    with pytest.raises(ValueError, match="row 0, label 0: the label is nan"):
        label_set_losses(torch.zeros(1, 2), torch.tensor([[torch.nan, 1.0]]))
    with pytest.raises(ShapeError, match=r"labels have shape \(2,\), must be \(1, 2\)"):
        label_set_losses(torch.zeros(1, 2), torch.tensor([0, 1]))


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match="row 0, output 1: the label is inf, must be a finite number"):
        require_numbers(torch.tensor([[torch.nan, torch.inf]]), (1, 2), all_known=False)
    with pytest.raises(ValueError, match="row 1, output 0: the label is nan, must be a finite number"):
        require_numbers(torch.tensor([1.0, torch.nan]), (2, 1), all_known=True)
    with pytest.raises(ShapeError, match=r"labels have shape \(2,\), must be \(2, 3\)"):
        require_numbers(torch.zeros(2), (2, 3), all_known=True)
    with pytest.raises(ValueError, match="row 0, bin 1, output 0: the label is -inf"):
        require_numbers(torch.tensor([[1.0, -torch.inf]]), (1, 2, 1), all_known=False)


def test_units_there_and_back():
    head = NumberHead(4, 2)
    targets = torch.tensor([[1e4, 0.5], [torch.nan, -3.0]])
    assert torch.equal(head.in_units(targets[:1]), targets[:1])
    head.set_units([1e4, 2.0], [50.0, 0.25])
    torch.testing.assert_close(head.in_units(head.standardised(targets)), targets, equal_nan=True)
    assert head.standardised(targets)[0].tolist() == [0.0, -6.0]
    head.set_units(None, [1.0, 1.0])
    assert head.output_mean.tolist() == [1e4, 2.0]


@pytest.mark.parametrize(
    ("mean", "scale", "text"),
    [
        ([1.0], None, r"output_mean has shape \(1,\), and there are 2 outputs"),
        ([1.0, torch.nan], None, r"output_mean\[1\] is nan, must be finite"),
        (None, [1.0, 0.0], r"output_scale\[1\] is 0.0, must be finite and above 0"),
    ],
)
def test_impossible_units_are_refused(mean, scale, text):
    with pytest.raises(ConfigError, match=text):
        NumberHead(4, 2).set_units(mean, scale)
