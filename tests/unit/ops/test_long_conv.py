"""Every backend of the long convolution against its definition, and the definition against scipy and closed forms."""

import math

import numpy as np
import pytest
import torch
from agreement import assert_close, errors
from scipy.signal import lfilter
from torch.autograd import gradcheck

from umbel.errors import BackendError, ShapeError
from umbel.ops.long_conv import filter_of, long_conv

LENGTHS = (1, 2, 3, 63, 64, 65, 129, 517)
BACKENDS = ("fft", "recurrent")
LIMITS = {torch.float32: 2e-6, torch.float64: 1e-12, torch.bfloat16: 2e-2}


def draw(batch, length, width, n_state, *, initial=True, seed=0, log_rate=-3.0):
    """Random inputs in float64, by the names of the operator's arguments."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size):
        return torch.randn(*size, dtype=torch.float64, generator=generator)

    angles = math.pi * (2 * torch.rand(width, n_state, dtype=torch.float64, generator=generator) - 1)
    return {
        "z": normal(batch, length, 3 * width),
        "residues": normal(width, n_state, 2) / math.sqrt(n_state),
        "poles": torch.stack((-torch.exp(1.5 * normal(width, n_state) + log_rate), angles), -1),
        "skip": normal(width),
        "initial_state": normal(batch, width, n_state, 2) if initial else None,
    }


def mixed_spans(batch, length):
    """Padding on the right, on the left, on both sides; and an empty row where the batch has four."""
    rows = [(0, max(1, length - length // 3)), (length // 4, length), (length // 5, length - length // 5), (0, 0)]
    return torch.tensor(rows[:batch])


def test_definition_agrees_with_scipys_filters():
    x = draw(2, 40, 3, 2)
    poles, residues, initial = (torch.view_as_complex(x[n]).numpy() for n in ("poles", "residues", "initial_state"))
    for reverse in (False, True):
        y, last = long_conv(**x, reverse=reverse, backend="reference")
        z = x["z"].flip(1) if reverse else x["z"]
        y = y.flip(1) if reverse else y
        x2, x1, v = (part.numpy() for part in z.chunk(3, -1))
        for b in range(2):
            for d in range(3):
                u = x1[b, :, d] * v[b, :, d]
                total = float(x["skip"][d]) * u
                for k in range(2):
                    a, s = np.exp(poles[d, k]), initial[b, d, k]
                    states, _ = lfilter([1.0 + 0j], [1.0, -a], u.astype(complex), zi=np.array([a * s]))
                    total = total + (residues[d, k] * states).real
                    assert complex(*last[b, d, k].tolist()) == pytest.approx(states[-1], abs=1e-12)
                np.testing.assert_allclose(y[b, :, d].numpy(), x2[b, :, d] * total, atol=1e-12)


def test_filters_agree_with_numpy_and_with_an_impulse():
    x = draw(1, 300, 4, 5, initial=False)
    h = filter_of(x["residues"], x["poles"], 300)
    r, poles = (torch.view_as_complex(x[name]).numpy() for name in ("residues", "poles"))
    wanted = (r[..., None] * np.exp(poles[..., None] * np.arange(300))).sum(1).real
    np.testing.assert_allclose(h.numpy(), wanted, atol=1e-13)
    x["z"] = torch.ones(1, 300, 12, dtype=torch.float64)
    x["z"][:, 1:, 8:] = 0  # v is an impulse
    for backend in ("reference", *BACKENDS[-2:]):
        y, _ = long_conv(**{**x, "skip": torch.zeros(4).double()}, backend=backend)
        torch.testing.assert_close(y[0].T, h, atol=1e-12, rtol=0)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_agree_with_the_definition(backend, length):
    batch, width, n_state = {1: (3, 1, 1), 2: (2, 5, 3), 3: (4, 17, 2), 517: (1, 5, 16)}.get(length, (4, 5, 3))
    for reverse in (False, True):
        for spans in (None, mixed_spans(batch, length)):
            x = draw(batch, length, width, n_state, seed=length)
            found = errors(long_conv, x, backend, torch.float32, reverse=reverse, spans=spans)
            assert_close(found, LIMITS[torch.float32])


@pytest.mark.parametrize("backend", ["reference", "recurrent", "fft"])
@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_in_float64(backend, reverse):
    x = draw(2, 5, 2, 2)
    spans = torch.tensor([[0, 4], [1, 5]])

    def convolve(*values):
        return long_conv(**dict(zip(x, values, strict=True)), reverse=reverse, spans=spans, backend=backend)

    assert gradcheck(convolve, [v.requires_grad_() for v in x.values()])


def test_shapes_that_do_not_fit_are_refused_by_name():
    x = draw(2, 5, 3, 2)
    with pytest.raises(ShapeError, match=r"z is \(2, 5, 8\); it must be \(B, L, 3D\)"):
        long_conv(**{**x, "z": torch.zeros(2, 5, 8)})
    with pytest.raises(ShapeError, match=r"poles is \(3, 4, 2\), where z .* ask for \(3, 2, 2\)"):
        long_conv(**{**x, "poles": torch.zeros(3, 4, 2)})
    with pytest.raises(ShapeError, match=r"spans is \(2, 3\).* ask for \(2, 2\)"):
        long_conv(**x, spans=torch.zeros(2, 3))
    with pytest.raises(ShapeError, match=r"filter is \(3, 4\), where z \(5 bases, 3 channels\) asks for \(3, 5\)"):
        long_conv(**x, filter=torch.zeros(3, 4))
    with pytest.raises(ShapeError, match="the length, 0, at least 1"):
        filter_of(x["residues"], x["poles"], 0)
    with pytest.raises(BackendError, match="no backend 'fastest'"):
        long_conv(**x, backend="fastest")
