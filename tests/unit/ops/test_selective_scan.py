"""Every backend of the scan against its definition, and the definition against closed forms."""

import math
import subprocess
import sys

import pytest
import torch
from torch.autograd import gradcheck

from umbel.errors import BackendError
from umbel.ops.selective_scan import choose_backend, selective_scan

NAMES = ("u", "dt", "A", "B", "C", "D")
SHAPES = [(1, 1, 1, 1), (2, 37, 5, 3), (1, 130, 33, 16), (3, 64, 64, 8)]


def inputs(shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    batch, length, inner, state = shape

    def draw(*size):
        return torch.randn(*size, dtype=torch.float64, generator=generator)

    u, B, C, D = draw(batch, length, inner), draw(batch, length, state), draw(batch, length, state), draw(inner)
    dt = torch.nn.functional.softplus(draw(batch, length, inner) - 2)
    A = -torch.exp(draw(inner, state))
    return [x.to(dtype).requires_grad_() for x in (u, dt, A, B, C, D)]


def test_definition_agrees_with_scalar_loops():
    u, dt, A, B, C, D = (x.detach() for x in inputs((2, 5, 3, 2)))
    for reverse in (False, True):
        y = selective_scan(u, dt, A, B, C, D, reverse=reverse, backend="reference")
        for b in range(2):
            for i in range(3):
                h = [0.0, 0.0]
                for t in range(4, -1, -1) if reverse else range(5):
                    for n in range(2):
                        decay = math.exp(dt[b, t, i] * A[i, n])
                        h[n] = decay * h[n] + float(dt[b, t, i] * B[b, t, n] * u[b, t, i])
                    expected = h[0] * C[b, t, 0] + h[1] * C[b, t, 1] + D[i] * u[b, t, i]
                    assert y[b, t, i] == pytest.approx(float(expected), abs=1e-12)


def test_constant_input_gives_a_geometric_sum():
    one = torch.ones(1, 50, 1, dtype=torch.float64)
    y = selective_scan(one, 0.1 * one, -torch.ones(1, 1).double(), one, one, torch.zeros(1).double())
    decay = math.exp(-0.1)
    for t in (0, 9, 49):
        assert float(y[0, t, 0]) == pytest.approx(0.1 * (1 - decay ** (t + 1)) / (1 - decay), rel=1e-12)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("backend", ["chunked", "cpu"])
def test_backends_agree_with_the_definition(backend, shape, reverse):
    exact = inputs(shape)
    wanted = selective_scan(*exact, reverse=reverse, backend="reference")
    upstream = torch.randn(wanted.shape, dtype=torch.float64)
    wanted_grads = torch.autograd.grad(wanted, exact, upstream)
    rounded = [x.detach().float().requires_grad_() for x in exact]
    y = selective_scan(*rounded, reverse=reverse, backend=backend)
    grads = torch.autograd.grad(y, rounded, upstream.float())
    assert y.dtype == torch.float32
    for name, got, want in zip(("y", *NAMES), (y, *grads), (wanted, *wanted_grads), strict=True):
        error = (got.double() - want).norm() / want.norm().clamp(min=1e-30)
        assert error < 1e-6, f"{name}: relative error {error:.1e}"


@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_gradients_in_float64(backend):
    assert gradcheck(lambda *x: selective_scan(*x, reverse=True, backend=backend), inputs((1, 6, 2, 3)))


@pytest.mark.parametrize("backend", ["reference", "chunked", "cpu"])
def test_a_step_of_zero_leaves_the_state(backend):
    u, dt, A, B, C, D = (x.detach().float() for x in inputs((1, 12, 4, 3)))
    padded = dt.clone()
    padded[:, 5:9] = 0
    y = selective_scan(u, padded, A, B, C, D, backend=backend)
    keep = [0, 1, 2, 3, 4, 9, 10, 11]
    alone = selective_scan(u[:, keep], dt[:, keep], A, B[:, keep], C[:, keep], D, backend=backend)
    torch.testing.assert_close(y[:, keep], alone, atol=1e-6, rtol=0)


def test_cpu_kernels_give_the_same_bits_on_any_number_of_threads():
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            x = inputs((2, 70, 70, 5), torch.float32)
            y = selective_scan(*x, backend="cpu")
            results.append((y, *torch.autograd.grad(y.square().sum(), x)))
        finally:
            torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_strong_decay_forgets_without_overflow():
    u, dt, A, B, C, D = (x.detach().float() for x in inputs((1, 40, 3, 2)))
    y = selective_scan(u, dt * 1e4, A * 1e3, B, C, D, backend="cpu")
    wanted = selective_scan(*(x.double() for x in (u, dt * 1e4, A * 1e3, B, C, D)), backend="reference")
    torch.testing.assert_close(y.double(), wanted, rtol=1e-5, atol=1e-3)


def test_half_precision_is_computed_in_float32():
    x = [v.detach().to(torch.bfloat16) for v in inputs((1, 20, 4, 3))]
    y = selective_scan(*x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, selective_scan(*(v.float() for v in x)).to(torch.bfloat16), atol=0, rtol=0)


def test_a_backend_that_cannot_run_is_refused_by_name():
    with pytest.raises(BackendError, match=r"backend 'cpu' takes float32 tensors on a CPU, and got torch.float64"):
        selective_scan(*inputs((1, 3, 2, 2)), backend="cpu")
    assert choose_backend(torch.device("cpu"), torch.float32) == "cpu"
    assert choose_backend(torch.device("cpu"), torch.float64) == "chunked"
    assert choose_backend(torch.device("cuda"), torch.float32) == "chunked"


def test_numba_leaves_the_number_of_torch_threads_alone():
    """In a fresh process: starting numba's threads would otherwise set torch's to all cores."""
    code = "import torch; torch.set_num_threads(1)\n"
    code += "from umbel.ops.selective_scan import selective_scan as scan\n"
    code += "x = torch.ones(1, 4, 2); n = torch.ones(1, 4, 3)\n"
    code += "scan(x, x, -torch.ones(2, 3), n, n, torch.ones(2)); print(torch.get_num_threads())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
