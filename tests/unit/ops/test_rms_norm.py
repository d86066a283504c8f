"""Every backend of the norm against its definition, and the definition against scalar loops and torch's own."""

import math

import pytest
import torch
import torch.nn.functional as F
from agreement import assert_close, errors
from torch.autograd import gradcheck

from umbel.errors import BackendError, ShapeError
from umbel.ops.rms_norm import add_rms_norm

EPS = 1e-5


def draw(*shape, residual=True):
    sizes = {"x": shape, "residual": shape if residual else None, "weight": shape[-1:]}
    return {name: None if size is None else torch.randn(size, dtype=torch.float64) for name, size in sizes.items()}


def normalised(x, weight, residual=None, backend="auto"):
    """Without a residual the sum is x itself, so that only the norm is an output."""
    y, s = add_rms_norm(x, residual, weight, EPS, backend=backend)
    return y if residual is None else (y, s)


def test_definition_agrees_with_scalar_loops_and_with_torch():
    v = draw(4, 6)
    y, s = add_rms_norm(**v, eps=EPS, backend="reference")
    for row in range(4):
        total = [float(a + b) for a, b in zip(v["x"][row], v["residual"][row], strict=True)]
        scale = 1 / math.sqrt(sum(t * t for t in total) / 6 + EPS)
        wanted = [t * scale * float(w) for t, w in zip(total, v["weight"], strict=True)]
        assert y[row].tolist() == pytest.approx(wanted, abs=1e-12)
        assert s[row].tolist() == total
    torch.testing.assert_close(y, F.rms_norm(v["x"] + v["residual"], (6,), v["weight"], EPS))


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("shape", [(1, 2), (2, 3, 15), (33, 16), (1, 65, 17), (3, 512), (70, 33)])
def test_the_cpu_kernels_agree_with_the_definition(shape, residual):
    assert_close(errors(normalised, draw(*shape, residual=residual), "cpu", torch.float32), 1e-6)


def test_large_and_tiny_numbers():
    for scale in (1e-12, 1e12):
        v = draw(5, 40)
        assert_close(
            errors(normalised, {**v, "x": v["x"] * scale, "residual": v["residual"] * scale}, "cpu", torch.float32),
            3e-6,
        )


def test_gradients_in_float64():
    v = {name: x.requires_grad_() for name, x in draw(3, 5).items()}
    assert gradcheck(lambda x, r, w: add_rms_norm(x, r, w, EPS, backend="reference"), list(v.values()))


def test_a_gradient_of_the_stream_alone():
    v = {name: x.float().requires_grad_() for name, x in draw(3, 5).items()}
    _, s = add_rms_norm(**v, eps=EPS, backend="cpu")
    upstream = torch.randn(3, 5)
    got = torch.autograd.grad(s, (v["x"], v["residual"]), upstream)
    assert all(torch.equal(g, upstream) for g in got)


def test_a_half_precision_branch_on_a_float32_stream():
    v = draw(4, 8)
    x, residual, weight = v["x"].to(torch.bfloat16), v["residual"].float(), v["weight"].to(torch.bfloat16)
    y, s = add_rms_norm(x, residual, weight, EPS)
    assert (y.dtype, s.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(s, x.float() + residual)
    with torch.autocast("cpu", torch.bfloat16):
        assert add_rms_norm(x, residual, weight.float(), EPS)[0].dtype == torch.bfloat16


def test_the_same_bits_on_any_number_of_threads():
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            torch.manual_seed(0)
            v = {name: x.float().requires_grad_() for name, x in draw(100, 30).items()}
            y, s = add_rms_norm(**v, eps=EPS, backend="cpu")
            results.append((y, s, *torch.autograd.grad((y * y + s).sum(), list(v.values()))))
        finally:
            torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_refusals():
    with pytest.raises(ShapeError, match=r"x \(2, 3\), residual \(2, 4\) and weight \(3,\) do not fit together"):
        add_rms_norm(torch.ones(2, 3), torch.ones(2, 4), torch.ones(3), EPS)
    with pytest.raises(BackendError, match=r"'cpu' takes float32 tensors on a CPU, and got torch\.float64"):
        add_rms_norm(**draw(2, 3), eps=EPS, backend="cpu")
