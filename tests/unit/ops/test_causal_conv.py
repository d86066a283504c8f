import math

import pytest
import torch
from torch.autograd import gradcheck

from umbel.ops.causal_conv import causal_conv


def test_agrees_with_loops_in_both_directions():
    x, w, b = torch.randn(2, 7, 3).double(), torch.randn(3, 4).double(), torch.randn(3).double()
    for reverse in (False, True):
        y = causal_conv(x, w, b, reverse=reverse)
        for n in range(2):
            for t in range(7):
                for i in range(3):
                    total = float(b[i])
                    for k in range(4):
                        source = t + (3 - k) if reverse else t - (3 - k)
                        if 0 <= source < 7:
                            total += float(w[i, k] * x[n, source, i])
                    assert float(y[n, t, i]) == pytest.approx(total / (1 + math.exp(-total)), abs=1e-12)


def test_reverse_is_a_flip_of_the_flipped():
    x, w, b = torch.randn(1, 9, 2), torch.randn(2, 4), torch.randn(2)
    flipped = causal_conv(x.flip(1), w, b).flip(1)
    torch.testing.assert_close(causal_conv(x, w, b, reverse=True), flipped)


def test_sequences_shorter_than_the_filter():
    x, w, b = torch.randn(1, 2, 2), torch.randn(2, 4), torch.randn(2)
    assert causal_conv(x, w, b).shape == (1, 2, 2)
    assert causal_conv(x, w, b, reverse=True).shape == (1, 2, 2)


def test_gradients():
    args = [torch.randn(s).double().requires_grad_() for s in ((1, 5, 2), (2, 3), (2,))]
    assert gradcheck(lambda *a: causal_conv(*a, reverse=True), args)
