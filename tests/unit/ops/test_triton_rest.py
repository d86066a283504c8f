"""Triton's convolution, norm and experts, interpreted where there is no CUDA device, against their definitions."""

import pytest
import torch
from agreement import assert_agrees, outputs_and_gradients

from umbel.errors import BackendError
from umbel.ops.causal_conv import causal_conv
from umbel.ops.grouped_mlp import grouped_mlp
from umbel.ops.rms_norm import add_rms_norm

pytest.importorskip("triton", reason="triton is published for Linux alone")
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="interpreted here; test_on_gpu runs the kernels")


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def filters(length, directions=1, batch=2, inner=5, taps=4):
    lead = (2,) if directions == 2 else ()
    return {"x": draw(batch, length, inner), "weight": draw(*lead, inner, taps), "bias": draw(*lead, inner)}


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("length", [1, 2, 3, 63, 64, 65, 130])
def test_convolution(length, directions):
    assert_agrees(causal_conv, filters(length, directions, batch=1 if length > 3 else 3))


@pytest.mark.parametrize(("inner", "taps"), [(1, 1), (65, 3), (2, 5)])
def test_convolution_against_time_of_any_width(inner, taps):
    assert_agrees(causal_conv, filters(11, inner=inner, taps=taps), reverse=True)


@pytest.mark.parametrize("directions", [1, 2])
def test_convolution_with_padding_that_holds_anything(directions):
    tensors = filters(20, directions, batch=3)
    spans = torch.tensor([[3, 20], [5, 5], [0, 13]])
    for row, (start, end) in enumerate(spans.tolist()):
        tensors["x"][row, :start] = torch.nan
        tensors["x"][row, end:] = torch.nan
    got = assert_agrees(causal_conv, tensors, spans=spans)
    assert got["output 0"][..., 1, :, :].abs().max() == 0
    assert got["gradient of x"][1].abs().max() == 0


def test_convolution_in_half_precision_and_of_a_slice():
    assert_agrees(causal_conv, filters(12, 2), dtype=torch.bfloat16)
    x, weight, bias = (v.float() for v in filters(12).values())
    wide = torch.cat([torch.full((2, 12, 3), torch.nan), x], -1)
    with torch.no_grad():
        wanted = causal_conv(x, weight, bias, backend="triton")
        assert torch.equal(causal_conv(wide[..., 3:], weight, bias, backend="triton"), wanted)


@pytest.mark.parametrize("width", [3, 37, 128, 3000])
@pytest.mark.parametrize("residual", [False, True])
def test_norm(width, residual):
    tensors = {"x": draw(2, 3, width), "weight": draw(width)}
    if residual:
        tensors["residual"] = draw(2, 3, width)
    # Without a residual the second output is x itself.
    norm = add_rms_norm if residual else lambda **v: add_rms_norm(residual=None, **v)[0]
    assert_agrees(norm, tensors, eps=1e-5)


def test_norm_of_more_rows_than_programs(monkeypatch):
    from umbel.ops.rms_norm import triton

    monkeypatch.setattr(triton, "SHARES", 3)
    monkeypatch.setattr(triton, "TILE", 16)
    assert_agrees(add_rms_norm, {"x": draw(23, 5), "residual": draw(23, 5), "weight": draw(5)}, eps=1e-5)


@pytest.mark.parametrize("out_dtype", [torch.float32, torch.bfloat16])
def test_norm_of_a_half_branch_and_a_float_stream(out_dtype):
    x, residual, weight = torch.randn(4, 33).bfloat16(), torch.randn(4, 33), torch.randn(33)
    y, stream = add_rms_norm(x, residual, weight, 1e-6, out_dtype=out_dtype, backend="triton")
    wanted, wanted_stream = add_rms_norm(x, residual, weight, 1e-6, out_dtype=out_dtype, backend="reference")
    torch.testing.assert_close(y, wanted)
    torch.testing.assert_close(stream, wanted_stream, atol=0, rtol=0)
    assert y.dtype == out_dtype


def test_norm_in_half_precision_and_transposed():
    tensors = {"x": draw(3, 40), "residual": draw(3, 40), "weight": draw(40)}
    assert_agrees(add_rms_norm, tensors, eps=1e-5, dtype=torch.bfloat16)
    x, weight = torch.randn(7, 3, 4).permute(1, 2, 0), torch.randn(7)
    y, _ = add_rms_norm(x, None, weight, 1e-5, backend="triton")
    torch.testing.assert_close(y, add_rms_norm(x, None, weight, 1e-5, backend="reference")[0])


def experts(rows, n_experts=4, width=9, hidden=7):
    tensors = {"x_RD": draw(rows, width), "gate_EFD": draw(n_experts, hidden, width)}
    return tensors | {"up_EFD": draw(n_experts, hidden, width), "down_EDF": draw(n_experts, width, hidden)}


@pytest.mark.parametrize(
    ("counts", "rows"),
    [
        ([3, 4, 5, 6], 18),
        ([0, 0, 0, 3], 3),
        ([1, 0, 1, 0], 2),
        ([70, 0, 1, 64], 140),
        ([0, 0, 0, 0], 5),
        ([0, 64, 0, 0], 64),
    ],
)
def test_experts_meet_their_own_rows(counts, rows):
    got = assert_agrees(grouped_mlp, experts(rows), counts_E=torch.tensor(counts))
    for name in ("output 0", "gradient of x_RD"):
        assert not got[name][sum(counts) :].any(), name
    for expert, count in enumerate(counts):
        for name in ("gate_EFD", "up_EFD", "down_EDF"):
            assert bool(got[f"gradient of {name}"][expert].any()) == (count > 0), name


def test_experts_wider_than_a_tile():
    assert_agrees(grouped_mlp, experts(5, 1, width=70, hidden=67), counts_E=torch.tensor([4], dtype=torch.int32))


def test_experts_in_half_precision():
    assert_agrees(grouped_mlp, experts(9), counts_E=torch.tensor([2, 3, 0, 3]), dtype=torch.float16)
    with pytest.raises(BackendError, match=r"'triton' takes float32 and float16 on a CPU, and got torch.bfloat16"):
        tensors = (x.bfloat16() for x in experts(2).values())
        grouped_mlp(*tensors, torch.tensor([2, 0, 0, 0]), backend="triton")


def test_expert_leftover_rows_hold_anything():
    x, *weights = (v.float() for v in experts(6).values())
    x[4:] = torch.nan
    y = grouped_mlp(x, *weights, torch.tensor([1, 3, 0, 0]), backend="triton")
    assert y.isfinite().all() and not y[4:].any()


def test_same_bits_again():
    for operator, tensors, settings, shape in (
        (causal_conv, filters(20, 2), {}, (2, 2, 20, 5)),
        (grouped_mlp, experts(9), {"counts_E": torch.tensor([2, 3, 0, 3])}, (9, 9)),
    ):
        tensors, upstream = {name: x.float() for name, x in tensors.items()}, [torch.randn(shape)]
        runs = [outputs_and_gradients(operator, tensors, upstream, backend="triton", **settings) for _ in range(2)]
        assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
