"""Every backend of the scan against its definition, and the definition against closed forms."""

import math

import pytest
import torch
from agreement import assert_close, errors
from torch.autograd import gradcheck

from umbel.errors import BackendError, ShapeError
from umbel.ops.selective_scan import selective_scan

LENGTHS = (1, 2, 3, 63, 64, 65, 517)
LIMITS = {torch.float32: 3e-6, torch.float64: 1e-12, torch.bfloat16: 2e-2}


def draw(batch, length, inner, state, *, directions=1, gate=True, initial=True, seed=0, dt_mean=-2.0):
    """Random inputs in float64, by the names of the operator's arguments; no leading dimension for one direction."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size):
        return torch.randn(*size, dtype=torch.float64, generator=generator)

    s = directions
    inputs = {
        "u": normal(s, batch, length, inner),
        "dt": normal(s, batch, length, inner) + dt_mean,
        "A": -torch.exp(normal(s, inner, state)),
        "B": normal(s, batch, length, state),
        "C": normal(s, batch, length, state),
        "D": normal(s, inner),
        "dt_bias": normal(s, inner) / 2,
        "z": normal(batch, length, inner) if gate else None,
        "initial_state": normal(s, batch, inner, state) if initial else None,
    }
    if directions == 1:
        inputs = {name: x if x is None or name == "z" else x[0] for name, x in inputs.items()}
    return inputs


def mixed_spans(batch, length):
    """Padding on the right, on the left, on both sides; and an empty row where the batch has four."""
    rows = [(0, max(1, length - length // 3)), (length // 4, length), (length // 5, length - length // 5), (0, 0)]
    return torch.tensor(rows[:batch])


def test_definition_agrees_with_scalar_loops():
    x = draw(2, 5, 3, 2)
    for reverse in (False, True):
        y, last = selective_scan(**x, reverse=reverse, backend="reference")
        for b in range(2):
            for i in range(3):
                h = x["initial_state"][b, i].tolist()
                for t in range(4, -1, -1) if reverse else range(5):
                    step = math.log1p(math.exp(x["dt"][b, t, i] + x["dt_bias"][i]))
                    total = float(x["D"][i] * x["u"][b, t, i])
                    for n in range(2):
                        h[n] = math.exp(step * x["A"][i, n]) * h[n] + step * float(x["B"][b, t, n] * x["u"][b, t, i])
                        total += h[n] * float(x["C"][b, t, n])
                    z = float(x["z"][b, t, i])
                    assert float(y[b, t, i]) == pytest.approx(total * z / (1 + math.exp(-z)), abs=1e-12)
                assert last[b, i].tolist() == pytest.approx(h, abs=1e-12)


def test_constant_input_gives_a_geometric_sum():
    one, zero = torch.ones(1, 50, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    raw = math.log(math.expm1(0.1))  # softplus of it is 0.1
    y, _ = selective_scan(one, raw * one, -torch.ones(1, 1).double(), one, one, zero, zero)
    decay = math.exp(-0.1)
    for t in (0, 9, 49):
        assert float(y[0, t, 0]) == pytest.approx(0.1 * (1 - decay ** (t + 1)) / (1 - decay), rel=1e-12)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("backend", "dtype"), [("chunked", torch.float32), ("cpu", torch.float32)])
def test_backends_agree_with_the_definition(backend, dtype, length):
    batch, inner, state = {1: (3, 1, 1), 2: (2, 5, 3), 3: (1, 70, 2), 517: (1, 19, 4)}.get(length, (2, 33, 5))
    for directions, reverse in ((1, False), (1, True), (2, False)):
        for spans in (None, mixed_spans(batch, length)):
            x = draw(batch, length, inner, state, directions=directions, seed=length)
            found = errors(selective_scan, x, backend, dtype, reverse=reverse, spans=spans)
            assert_close(found, LIMITS[dtype])


@pytest.mark.parametrize("backend", ["chunked", "cpu"])
@pytest.mark.parametrize("inner", [1, 15, 16, 17, 64, 65, 513])
def test_odd_widths(backend, inner):
    x = draw(1, 40, inner, 3, directions=2, gate=inner % 2 == 0, initial=False, seed=inner)
    assert_close(errors(selective_scan, x, backend, torch.float32), LIMITS[torch.float32])


def test_chunked_in_float64_and_in_bfloat16():
    x = draw(2, 70, 5, 3, directions=2)
    assert_close(errors(selective_scan, x, "chunked", torch.float64, spans=mixed_spans(2, 70)), LIMITS[torch.float64])
    assert_close(errors(selective_scan, x, "chunked", torch.bfloat16), LIMITS[torch.bfloat16])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_gradients_in_float64(backend, reverse):
    x = draw(2, 5, 2, 3)
    spans = torch.tensor([[0, 4], [1, 5]])

    def scan(*values):
        return selective_scan(**dict(zip(x, values, strict=True)), reverse=reverse, spans=spans, backend=backend)

    assert gradcheck(scan, [v.requires_grad_() for v in x.values()])


@pytest.mark.parametrize("dt_mean", [-60.0, -15.0, 15.0, 80.0])
@pytest.mark.parametrize("backend", ["chunked", "cpu"])
def test_extreme_steps(backend, dt_mean):
    """Steps of 1e-26, where nothing may be lost to 1 + x, and of 80, where the state forgets at once."""
    x = draw(1, 70, 5, 4, dt_mean=dt_mean, initial=False)
    found = errors(selective_scan, x, backend, torch.float32)
    # A's gradient is a product of decays and steps: e**-80 where steps are huge, 1e-52 where they are tiny.
    if dt_mean > 10 or dt_mean < -50:
        del found["gradient of A"]
    assert_close(found, 2e-5)


@pytest.mark.parametrize("backend", ["reference", "chunked", "cpu"])
def test_what_stands_in_padding_is_never_seen(backend):
    dtype = torch.float32
    x = {name: v.to(dtype) for name, v in draw(4, 90, 6, 3, directions=2).items()}
    spans = mixed_spans(4, 90)
    outside = torch.ones(4, 90, dtype=torch.bool)
    for row, (start, stop) in enumerate(spans.tolist()):
        outside[row, start:stop] = False
    poisoned = {
        name: torch.where(outside[..., None], torch.nan, v) if name in ("u", "dt", "B", "C", "z") else v.clone()
        for name, v in x.items()
    }
    leaves = {name: v.requires_grad_() for name, v in poisoned.items()}
    y, last = selective_scan(**leaves, spans=spans, backend=backend)
    assert not y[outside].any()
    assert torch.equal(last[:, 3], leaves["initial_state"][:, 3])
    for row, (start, stop) in enumerate(spans.tolist()[:3]):
        alone = {
            name: v[row : row + 1, start:stop] if name == "z" else v[:, row : row + 1, start:stop]
            for name, v in x.items()
            if name in ("u", "dt", "B", "C", "z")
        }
        state = x["initial_state"][:, row : row + 1]
        rest = {name: x[name] for name in ("A", "D", "dt_bias")}
        y_alone, last_alone = selective_scan(**alone, **rest, initial_state=state, backend=backend)
        torch.testing.assert_close(y[row, start:stop], y_alone[0], atol=2e-6, rtol=1e-6)
        torch.testing.assert_close(last[:, row], last_alone[:, 0], atol=2e-6, rtol=1e-6)
    weight = torch.where(outside[..., None], 0, torch.randn(4, 90, 6))
    grads = torch.autograd.grad((y * weight).sum() + last.sum(), list(leaves.values()))
    for (name, leaf), grad in zip(leaves.items(), grads, strict=True):
        assert torch.isfinite(grad).all(), name
        if name in ("u", "dt", "B", "C", "z"):
            assert not grad[outside if name == "z" else outside.expand(2, 4, 90)].any(), name
        assert grad.shape == leaf.shape


@pytest.mark.parametrize("backend", ["chunked", "cpu"])
@pytest.mark.parametrize("cut", [1, 64, 100])
def test_states_pass_from_piece_to_piece(backend, cut):
    x = {name: v.float() for name, v in draw(2, 130, 20, 4, initial=False).items() if v is not None}
    whole, last = selective_scan(**x, backend=backend)
    along_time = ("u", "dt", "B", "C", "z")
    first = {name: v[:, :cut] if name in along_time else v for name, v in x.items()}
    second = {name: v[:, cut:] if name in along_time else v for name, v in x.items()}
    y_first, state = selective_scan(**first, backend=backend)
    y_second, end = selective_scan(**second, initial_state=state, backend=backend)
    torch.testing.assert_close(torch.cat([y_first, y_second], 1), whole, atol=2e-6, rtol=1e-6)
    torch.testing.assert_close(end, last, atol=2e-6, rtol=1e-6)


@pytest.mark.parametrize("backend", ["reference", "chunked", "cpu"])
def test_both_directions_are_the_two_alone_added_before_one_gate(backend):
    x = {name: v.float() for name, v in draw(2, 70, 9, 3, directions=2, initial=False).items() if v is not None}
    z = x.pop("z")
    y, last = selective_scan(**x, z=z, backend=backend)
    along, end_along = selective_scan(**{n: v[0] for n, v in x.items()}, backend=backend)
    against, end_against = selective_scan(**{n: v[1] for n, v in x.items()}, reverse=True, backend=backend)
    torch.testing.assert_close(y, (along + against) * torch.nn.functional.silu(z), atol=3e-6, rtol=1e-5)
    torch.testing.assert_close(last, torch.stack([end_along, end_against]), atol=2e-6, rtol=1e-6)


@pytest.mark.parametrize("backend", ["chunked", "cpu"])
def test_slices_of_wider_tensors_need_no_copy_from_the_caller(backend):
    x = {name: v.float() for name, v in draw(2, 66, 18, 4).items()}
    wide = torch.randn(2, 66, 50)
    wide[..., 20:24], wide[..., 24:28], wide[..., 30:48] = x["B"], x["C"], x["z"]
    sliced = {**x, "B": wide[..., 20:24], "C": wide[..., 24:28], "z": wide[..., 30:48]}
    sliced["u"] = x["u"].transpose(1, 2).contiguous().transpose(1, 2)
    for got, wanted in zip(
        selective_scan(**sliced, backend=backend), selective_scan(**x, backend=backend), strict=True
    ):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-6)


def test_the_same_bits_every_time_and_on_any_number_of_threads():
    x = {name: v.float().requires_grad_() for name, v in draw(2, 70, 140, 5, directions=2).items()}
    results = []
    for threads in (1, 2, 2, 1):
        torch.set_num_threads(threads)
        try:
            y, last = selective_scan(**x, backend="cpu")
            results.append((y, last, *torch.autograd.grad(y.square().sum() + last.sum(), list(x.values()))))
        finally:
            torch.set_num_threads(1)
    for again in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], again, strict=True))


def test_nothing_is_kept_when_nobody_will_differentiate(monkeypatch):
    from umbel.ops.selective_scan import cpu

    kept, forward = [], cpu.forward
    monkeypatch.setattr(cpu, "forward", lambda *a: kept.append(a[-1]) or forward(*a))
    x = {name: v.float() for name, v in draw(1, 70, 4, 2).items()}
    selective_scan(**x, backend="cpu")
    with torch.no_grad():
        selective_scan(**{**x, "u": x["u"].requires_grad_()}, backend="cpu")
    selective_scan(**x, backend="cpu")
    assert kept == [False, False, True]


def test_half_precision_is_computed_in_float32():
    x = {name: v.to(torch.bfloat16) for name, v in draw(1, 20, 4, 3).items()}
    y, last = selective_scan(**x)
    wanted, _ = selective_scan(**{name: v.float() for name, v in x.items()}, backend="chunked")
    assert y.dtype == torch.bfloat16
    assert last.dtype == torch.float32
    assert torch.equal(y, wanted.to(torch.bfloat16))


def test_a_backend_that_cannot_run_is_refused_by_name():
    x = draw(1, 3, 2, 2)
    with pytest.raises(BackendError, match=r"backend 'cpu' takes float32 tensors on a CPU, and got torch.float64"):
        selective_scan(**x, backend="cpu")
    with pytest.raises(BackendError, match="no backend 'fastest'; there are auto, triton, cpu, chunked, reference"):
        selective_scan(**x, backend="fastest")


@pytest.mark.parametrize("name", ["dt", "A", "B", "C", "D", "dt_bias", "z", "initial_state"])
def test_the_kernels_read_no_tensor_of_another_dtype(name):
    """They are given addresses: float64 read as float32 would be numbers, and wrong."""
    x = {n: v.float() for n, v in draw(1, 9, 4, 2).items()}
    mixed = {**x, name: x[name].double()}
    with pytest.raises(BackendError, match=r"takes float32 tensors on a CPU, and got torch\.float64"):
        selective_scan(**mixed, backend="cpu")
    torch.testing.assert_close(selective_scan(**mixed)[0], selective_scan(**x)[0], atol=1e-5, rtol=1e-5)


def test_shapes_that_do_not_fit_are_refused_by_name():
    x = draw(2, 5, 3, 2)
    with pytest.raises(ShapeError, match=r"C is \(1, 2, 5, 9\), where u .* ask for \(1, 2, 5, 2\)"):
        selective_scan(**{**x, "C": torch.zeros(2, 5, 9)})
    with pytest.raises(ShapeError, match=r"spans is \(2, 3\).* ask for \(2, 2\)"):
        selective_scan(**x, spans=torch.zeros(2, 3))
    with pytest.raises(ShapeError, match=r"u is \(3, 2, 5, 3\); it must be"):
        selective_scan(**{**draw(2, 5, 3, 2, directions=2), "u": torch.zeros(3, 2, 5, 3)})
    with pytest.raises(ShapeError, match="drop reverse=True"):
        selective_scan(**draw(2, 5, 3, 2, directions=2), reverse=True)
