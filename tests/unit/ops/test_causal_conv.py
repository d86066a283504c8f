"""Every backend of the short convolution against its definition, and the definition against scalar loops."""

import math

import pytest
import torch
from agreement import assert_close, errors
from torch.autograd import gradcheck

from umbel.errors import BackendError, ShapeError
from umbel.ops.causal_conv import causal_conv

LENGTHS = (1, 2, 3, 63, 64, 65, 517)
BACKENDS = ("shifted", "cpu")


def draw(batch, length, inner, taps=4, directions=1):
    lead = (2,) if directions == 2 else ()
    sizes = {"x": (batch, length, inner), "weight": (*lead, inner, taps), "bias": (*lead, inner)}
    return {name: torch.randn(size, dtype=torch.float64) for name, size in sizes.items()}


def test_definition_agrees_with_scalar_loops_in_both_directions():
    v = draw(2, 7, 3)
    x, w, b = v["x"], v["weight"], v["bias"]
    for reverse in (False, True):
        y = causal_conv(x, w, b, reverse=reverse, backend="reference")
        for n in range(2):
            for t in range(7):
                for i in range(3):
                    total = float(b[i])
                    for k in range(4):
                        source = t + (3 - k) if reverse else t - (3 - k)
                        if 0 <= source < 7:
                            total += float(w[i, k] * x[n, source, i])
                    assert float(y[n, t, i]) == pytest.approx(total / (1 + math.exp(-total)), abs=1e-12)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_agree_with_the_definition(backend, length):
    batch, inner = {1: (3, 1), 2: (2, 5), 517: (1, 19)}.get(length, (2, 33))
    padded = torch.tensor([[0, max(1, length - 3)], [length // 3, length], [0, 0]])[:batch]
    for directions, reverse in ((1, False), (1, True), (2, False)):
        for spans in (None, padded):
            x = draw(batch, length, inner, directions=directions)
            assert_close(errors(causal_conv, x, backend, torch.float32, reverse=reverse, spans=spans), 2e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("inner", "taps"), [(1, 1), (15, 2), (16, 3), (257, 4), (40, 7)])
def test_odd_widths_and_other_filters(backend, inner, taps):
    assert_close(errors(causal_conv, draw(1, 70, inner, taps, 2), backend, torch.float32), 2e-6)


def test_half_precision_is_computed_in_float32():
    assert_close(errors(causal_conv, draw(2, 20, 5), "shifted", torch.bfloat16), 2e-2)
    x = {name: v.to(torch.bfloat16) for name, v in draw(1, 9, 3).items()}
    assert causal_conv(**x).dtype == torch.bfloat16


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
def test_what_stands_in_padding_is_never_seen(backend):
    v = {name: x.float() for name, x in draw(2, 12, 5, directions=2).items()}
    spans = torch.tensor([[0, 8], [3, 12]])
    poisoned = v["x"].clone()
    poisoned[0, 8:] = poisoned[1, :3] = torch.nan
    poisoned.requires_grad_()
    y = causal_conv(poisoned, v["weight"], v["bias"], spans=spans, backend=backend)
    for row, (start, stop) in enumerate(spans.tolist()):
        alone = causal_conv(v["x"][row : row + 1, start:stop], v["weight"], v["bias"], backend=backend)
        torch.testing.assert_close(y[:, row, start:stop], alone[:, 0], atol=1e-6, rtol=1e-6)
    assert not y[:, 0, 8:].any()
    assert not y[:, 1, :3].any()
    (grad,) = torch.autograd.grad(y.sum(), poisoned)
    assert torch.isfinite(grad).all()
    assert not grad[0, 8:].any()
    assert not grad[1, :3].any()


def test_a_slice_of_a_wider_tensor():
    v = {name: x.float() for name, x in draw(2, 70, 20, directions=2).items()}
    wide = torch.randn(2, 70, 45)
    wide[..., 7:27] = v["x"]
    got = causal_conv(wide[..., 7:27], v["weight"], v["bias"], backend="cpu")
    assert torch.equal(got, causal_conv(**v, backend="cpu"))


@pytest.mark.parametrize("backend", ["reference", "shifted"])
def test_gradients_in_float64(backend):
    v = draw(1, 5, 2, 3, directions=2)
    spans = torch.tensor([[1, 5]])

    def convolve(x, weight, bias):
        return causal_conv(x, weight, bias, spans=spans, backend=backend)

    assert gradcheck(convolve, [x.requires_grad_() for x in v.values()])


def test_the_same_bits_on_any_number_of_threads():
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            torch.manual_seed(0)
            v = {name: x.float().requires_grad_() for name, x in draw(2, 150, 30, directions=2).items()}
            y = causal_conv(**v, backend="cpu")
            results.append((y, *torch.autograd.grad(y.square().sum(), list(v.values()))))
        finally:
            torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_refusals():
    v = draw(1, 5, 3)
    with pytest.raises(ShapeError, match=r"bias is \(1, 4\), where x \(1, 5, 3\) and 1 directions ask for \(1, 3\)"):
        causal_conv(v["x"], v["weight"], torch.zeros(4))
    with pytest.raises(ShapeError, match=r"x is \(5, 3\); it must be \(B, L, I\)"):
        causal_conv(v["x"][0], v["weight"], v["bias"])
    with pytest.raises(ShapeError, match="drop reverse=True"):
        causal_conv(**draw(1, 5, 3, directions=2), reverse=True)
    single = {name: x.float() for name, x in v.items()}
    for name in ("weight", "bias"):
        with pytest.raises(BackendError, match=r"got torch\.float64"):
            causal_conv(**{**single, name: v[name]}, backend="cpu")
    with pytest.raises(BackendError, match=r"'cpu' takes float32 tensors on a CPU, and got torch\.float64"):
        causal_conv(**v, backend="cpu")
