"""Every backend of the long convolution against its definition, and the definition against scipy and closed forms."""

import math

import numpy as np
import pytest
import torch
from agreement import assert_close, errors
from scipy.signal import lfilter
from torch.autograd import gradcheck

from umbel.errors import BackendError, ShapeError
from umbel.ops.long_conv import filter_of, long_conv, modes, offered

LENGTHS = (1, 2, 3, 63, 64, 65, 129, 517)
BACKENDS = ("cpu", "fft", "recurrent")
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
    for backend in ("reference", "fft", "recurrent"):
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


def test_auto_takes_the_first_that_can_run():
    x = draw(1, 9, 2, 2)
    assert list(offered(x["z"])) == ["cpu", "recurrent", "fft", "reference"]
    assert torch.equal(long_conv(**x)[0], long_conv(**x, backend="recurrent")[0])
    single = {name: v.float() for name, v in x.items()}
    assert torch.equal(long_conv(**single)[0], long_conv(**single, backend="cpu")[0])


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


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("width", [1, 15, 16, 17, 65])
def test_odd_widths(backend, width):
    x = draw(1, 70, width, 3, initial=False, seed=width)
    assert_close(errors(long_conv, x, backend, torch.float32), LIMITS[torch.float32])


@pytest.mark.parametrize("backend", ["fft", "recurrent"])
def test_plain_twins_in_float64_and_in_bfloat16(backend):
    x = draw(2, 150, 5, 3)
    for reverse in (False, True):
        found = errors(long_conv, x, backend, torch.float64, spans=mixed_spans(2, 150), reverse=reverse)
        assert_close(found, LIMITS[torch.float64])
    # What the paper calls parameters stays in float32, as it would in a model.
    narrow = {name: v if name == "z" else v.to(torch.bfloat16).double() for name, v in x.items()}
    assert_close(errors(long_conv, narrow, backend, torch.bfloat16), LIMITS[torch.bfloat16])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("rate", "angle"), [(-1e-6, 0.0), (-1e-6, math.pi), (-20.0, 1.0), (-20.0, math.pi), (-90.0, 3.0)]
)
def test_extreme_poles(backend, rate, angle):
    """A memory of a million bases, one of less than a base, and one that float32 cannot hold; the fastest turn."""
    x = draw(1, 200, 5, 2, initial=False)
    x["poles"] = torch.tensor([rate, angle], dtype=torch.float64).expand(5, 2, 2)
    found = errors(long_conv, x, backend, torch.float32)
    # Poles that forget at once have a gradient of 1e-9 and less, in which rounding of the Fourier transforms shows.
    limit = 2e-5 if rate < -10 else LIMITS[torch.float32]
    if rate < -10:
        del found["gradient of poles"]
    assert_close(found, limit)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rounding_does_not_grow_with_the_length(backend):
    """At 20,000 bases and memories of 150 to 3,000, against the recurrence in float64."""
    x = {n: v for n, v in draw(1, 20_000, 3, 4, initial=False, log_rate=-6.5).items() if v is not None}
    x["poles"][..., 0] = -torch.exp(torch.linspace(-5, -8, 12)).view(3, 4)
    x = {name: v.float() for name, v in x.items()}
    exact = [v.double().requires_grad_() for v in x.values()]
    given = [v.requires_grad_() for v in x.values()]
    upstream = torch.randn(1, 20_000, 3)
    wanted, last = long_conv(*exact, backend="recurrent")
    wanted = [wanted.detach(), last.detach(), *torch.autograd.grad(wanted, exact, upstream.double())]
    y, last = long_conv(*given, backend=backend)
    got = [y.detach(), last.detach(), *torch.autograd.grad(y, given, upstream)]
    found = {str(i): float((a - b).norm() / b.norm()) for i, (a, b) in enumerate(zip(got, wanted, strict=True))}
    assert_close({n: found[n] for n in "012"}, 2e-6)
    assert_close(found, 1e-5)


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
@pytest.mark.parametrize("reverse", [False, True])
def test_what_stands_in_padding_is_never_seen(backend, reverse):
    x = {name: v.float() for name, v in draw(4, 150, 6, 3).items()}
    spans = mixed_spans(4, 150)
    outside = torch.ones(4, 150, dtype=torch.bool)
    for row, (start, stop) in enumerate(spans.tolist()):
        outside[row, start:stop] = False
    leaves = {name: v.clone() for name, v in x.items()}
    leaves["z"][outside] = torch.nan
    leaves = {name: v.requires_grad_() for name, v in leaves.items()}
    y, last = long_conv(**leaves, spans=spans, reverse=reverse, backend=backend)
    assert not y[outside].any()
    assert torch.equal(last[3], x["initial_state"][3])
    for row, (start, stop) in enumerate(spans.tolist()[:3]):
        alone = {**x, "z": x["z"][row : row + 1, start:stop], "initial_state": x["initial_state"][row : row + 1]}
        y_alone, last_alone = long_conv(**alone, reverse=reverse, backend=backend)
        torch.testing.assert_close(y[row, start:stop], y_alone[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(last[row], last_alone[0], atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        again, _ = long_conv(**leaves, spans=spans, reverse=reverse, backend=backend)
    assert torch.equal(again, y)
    grads = torch.autograd.grad(y.sum() + last.sum(), list(leaves.values()))
    for (name, leaf), grad in zip(leaves.items(), grads, strict=True):
        assert torch.isfinite(grad).all(), name
        assert grad.shape == leaf.shape
    assert not grads[0][outside].any()


def test_no_bit_of_the_kernels_depends_on_padding():
    x = {name: v.float() for name, v in draw(1, 200, 20, 3, initial=False).items() if v is not None}
    wide = torch.full((1, 300, 60), torch.nan)
    wide[:, 37:237] = x["z"]
    for reverse in (False, True):
        alone, last = long_conv(**x, reverse=reverse, backend="cpu")
        y, end = long_conv(**{**x, "z": wide}, spans=torch.tensor([[37, 237]]), reverse=reverse, backend="cpu")
        assert torch.equal(y[:, 37:237], alone)
        assert torch.equal(end, last)


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
@pytest.mark.parametrize("cut", [1, 64, 100])
def test_states_pass_from_piece_to_piece(backend, cut):
    x = {name: v.float() for name, v in draw(2, 130, 20, 4).items()}
    z, initial = x.pop("z"), x.pop("initial_state")
    whole, last = long_conv(z, **x, initial_state=initial, backend=backend)
    first, state = long_conv(z[:, :cut], **x, initial_state=initial, backend=backend)
    second, end = long_conv(z[:, cut:], **x, initial_state=state, backend=backend)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(end, last, atol=1e-5, rtol=1e-5)
    # Against time, the piece on the right comes first.
    whole, last = long_conv(z, **x, initial_state=initial, reverse=True, backend=backend)
    second, state = long_conv(z[:, cut:], **x, initial_state=initial, reverse=True, backend=backend)
    first, end = long_conv(z[:, :cut], **x, initial_state=state, reverse=True, backend=backend)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(end, last, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
def test_reverse_is_the_flip_of_forward(backend):
    x = {name: v.float() for name, v in draw(2, 100, 5, 3).items()}
    y, last = long_conv(**x, reverse=True, backend=backend)
    flipped, end = long_conv(**{**x, "z": x["z"].flip(1)}, backend=backend)
    torch.testing.assert_close(y, flipped.flip(1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(last, end, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
def test_closed_forms(backend):
    ones = torch.ones(1, 50, 3)
    residue, none = torch.tensor([[[1.0, 0.0]]]), torch.zeros(1, 1, 2)
    pole = torch.tensor([[[math.log(0.9), 0.0]]])
    y, last = long_conv(ones, residue, pole, torch.zeros(1), backend=backend)
    wanted = (1 - 0.9 ** torch.arange(1.0, 51.0)) / 0.1
    torch.testing.assert_close(y.flatten(), wanted, atol=1e-5, rtol=1e-6)
    assert last.flatten().tolist() == pytest.approx([float(wanted[-1]), 0.0], rel=1e-6)
    # Without residues only the skip is left: w x2 x1 v.
    z = torch.randn(1, 50, 3)
    y, _ = long_conv(z, none, pole, torch.tensor([2.0]), backend=backend)
    torch.testing.assert_close(y[..., 0], 2 * z.prod(-1), atol=1e-6, rtol=1e-5)
    # Without input the initial state rings out.
    start = torch.tensor([2.0, 0.0]).view(1, 1, 1, 2)
    silent = torch.tensor([1.0, 1.0, 0.0]).expand(1, 50, 3)
    y, _ = long_conv(silent, residue, pole, torch.zeros(1), initial_state=start, backend=backend)
    torch.testing.assert_close(y.flatten(), 2 * 0.9 ** torch.arange(1.0, 51.0), atol=1e-6, rtol=1e-5)


def test_a_kept_filter_does_what_a_new_one_does():
    x = {name: v.float() for name, v in draw(2, 100, 5, 3).items()}
    h = filter_of(x["residues"], x["poles"], 300).requires_grad_()
    y, _ = long_conv(**x, backend="fft", filter=h)
    torch.testing.assert_close(y, long_conv(**x, backend="fft")[0], atol=1e-5, rtol=1e-5)
    (grad,) = torch.autograd.grad(y.sum(), h)
    assert grad[:, :100].any()
    assert not grad[:, 100:].any()
    for backend in ("auto", "recurrent", "reference"):
        assert torch.equal(long_conv(**x, backend=backend, filter=h)[0], long_conv(**x, backend=backend)[0])


def test_filters_have_gradients():
    x = draw(1, 1, 2, 2)
    leaves = [x["residues"].requires_grad_(), x["poles"].requires_grad_()]
    assert gradcheck(lambda r, p: filter_of(r, p, 150), leaves)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_slice_of_a_wider_tensor_needs_no_copy_from_the_caller(backend):
    x = {name: v.float() for name, v in draw(2, 70, 18, 4).items()}
    wide = torch.randn(2, 70, 80)
    wide[..., 11:65] = x["z"]
    got = long_conv(**{**x, "z": wide[..., 11:65]}, backend=backend)
    across = long_conv(**{**x, "z": x["z"].transpose(1, 2).contiguous().transpose(1, 2)}, backend=backend)
    for a, b, c in zip(got, across, long_conv(**x, backend=backend), strict=True):
        torch.testing.assert_close(a, c, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(b, c, atol=1e-5, rtol=1e-5)


def test_the_same_bits_every_time_and_on_any_number_of_threads():
    x = {name: v.float().requires_grad_() for name, v in draw(2, 150, 140, 5).items()}
    results = []
    for threads in (1, 2, 2, 1):
        torch.set_num_threads(threads)
        try:
            y, last = long_conv(**x, backend="cpu")
            results.append((y, last, *torch.autograd.grad(y.square().sum() + last.sum(), list(x.values()))))
        finally:
            torch.set_num_threads(1)
    for again in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], again, strict=True))


def test_nothing_is_kept_when_nobody_will_differentiate(monkeypatch):
    from umbel.ops.long_conv import cpu

    kept, forward = [], cpu.forward
    monkeypatch.setattr(cpu, "forward", lambda *a: kept.append(a[-1]) or forward(*a))
    x = {name: v.float() for name, v in draw(1, 70, 4, 2).items()}
    long_conv(**x, backend="cpu")
    with torch.no_grad():
        long_conv(**{**x, "z": x["z"].requires_grad_()}, backend="cpu")
    long_conv(**x, backend="cpu")
    assert kept == [False, False, True]


def test_half_precision_is_computed_in_float32():
    x = {name: v.to(torch.bfloat16) for name, v in draw(1, 20, 4, 3).items()}
    y, last = long_conv(**x, backend="recurrent")
    wanted, _ = long_conv(**{name: v.float() for name, v in x.items()}, backend="recurrent")
    assert y.dtype == torch.bfloat16
    assert last.dtype == torch.float32
    assert torch.equal(y, wanted.to(torch.bfloat16))


@pytest.mark.parametrize("name", ["residues", "poles", "skip", "initial_state"])
def test_the_kernels_read_no_tensor_of_another_dtype(name):
    """They are given addresses: float64 read as float32 would be numbers, and wrong."""
    x = {n: v.float() for n, v in draw(1, 9, 4, 2).items()}
    mixed = {**x, name: x[name].double()}
    with pytest.raises(BackendError, match=r"takes float32 tensors on a CPU, and got torch\.float64"):
        long_conv(**mixed, backend="cpu")
    torch.testing.assert_close(long_conv(**mixed)[0], long_conv(**x)[0], atol=1e-5, rtol=1e-5)


def test_the_index_of_time_is_made_once_and_serves_gradients_after_inference():
    with torch.inference_mode():
        index = modes.positions(77, torch.device("cpu"))
    assert modes.positions(77, torch.device("cpu")) is index
    assert not index.is_inference()


@pytest.mark.parametrize("backend", ["cpu", "fft", "recurrent"])
@pytest.mark.parametrize("length", [2, 31, 33])
def test_rounding_does_not_add_up_over_many_short_pieces(backend, length):
    torch.manual_seed(0)
    z, residues, skip = torch.randn(1, 8_000, 6), torch.randn(2, 3, 2) / 100, torch.ones(2)
    poles = torch.tensor([[-1 / 5_000, 3e-3], [-1 / 20_000, 1e-3], [-1 / 900, 0.0]]).expand(2, 3, 2)
    whole, _ = long_conv(*(x.double() for x in (z, residues, poles, skip)), backend="recurrent")
    state, parts = None, []
    with torch.no_grad():
        for piece in z.split(length, 1):
            y, state = long_conv(piece, residues, poles, skip, initial_state=state, backend=backend)
            parts.append(y)
    assert float((torch.cat(parts, 1) - whole).norm() / whole.norm()) < 3e-6
