"""The same agreements on a CUDA device."""

import dataclasses

import pytest
import torch
from agreement import assert_agrees, outputs_and_gradients
from toys import toy_run

from umbel.model.hf import new_model
from umbel.ops.causal_conv import causal_conv
from umbel.ops.grouped_mlp import grouped_mlp
from umbel.ops.long_conv import long_conv
from umbel.ops.rms_norm import add_rms_norm
from umbel.ops.selective_scan import selective_scan

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _not_deterministic_mode():
    torch.use_deterministic_algorithms(False)


DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def scan_inputs(length, directions, batch=2, inner=128, states=16):
    lead = (2,) if directions == 2 else ()
    return {
        "u": draw(*lead, batch, length, inner),
        "dt": draw(*lead, batch, length, inner) - 2,
        "A": -torch.exp(draw(*lead, inner, states)),
        "B": draw(*lead, batch, length, states),
        "C": draw(*lead, batch, length, states),
        "D": draw(*lead, inner),
        "dt_bias": draw(*lead, inner),
        "z": draw(batch, length, inner),
        "initial_state": draw(*lead, batch, inner, states),
    }


@DTYPES
@pytest.mark.parametrize("backend", ["chunked", "triton"])
@pytest.mark.parametrize(("length", "batch"), [(1, 2), (517, 3), (5000, 1)])
@pytest.mark.parametrize(("directions", "reverse"), [(1, False), (1, True), (2, False)])
def test_scan_agrees_with_the_definition(backend, length, batch, directions, reverse, dtype):
    tensors = scan_inputs(length, directions, batch)
    assert_agrees(selective_scan, tensors, backend, dtype, "cuda", reverse=reverse)


@DTYPES
@pytest.mark.parametrize("shape", [(70, 1, 1), (300, 33, 5), (130, 65, 3)])
def test_scan_of_odd_shapes_with_padding(shape, dtype):
    length, inner, states = shape
    tensors = scan_inputs(length, 2, 3, inner, states)
    spans = torch.tensor([[3, length], [7, 7], [0, length - 5]])
    for row, (start, end) in enumerate(spans.tolist()):
        for name in ("u", "dt", "B", "C", "z"):
            tensors[name][..., row, :start, :] = torch.nan
            tensors[name][..., row, end:, :] = torch.nan
    assert_agrees(selective_scan, tensors, "triton", dtype, "cuda", spans=spans)


@pytest.mark.parametrize("shift", [-60.0, 30.0, 2000.0])
def test_scan_with_steps_of_any_size(shift):
    tensors = scan_inputs(300, 2)
    tensors["dt"] += shift
    assert_agrees(selective_scan, tensors, "triton", device="cuda")


def test_scan_of_slices_gives_the_same_bits_as_of_copies():
    tensors = {name: x.float().cuda() for name, x in scan_inputs(2000, 1, 2).items()}
    wide = torch.cat([tensors["B"], tensors["C"]], -1)
    gates = torch.cat([tensors["u"], tensors["z"]], -1)
    sliced = tensors | {"B": wide[..., :16], "C": wide[..., 16:], "z": gates[..., 128:]}
    upstream = [torch.randn(2, 2000, 128), torch.randn(2, 128, 16)]
    runs = [outputs_and_gradients(selective_scan, x, upstream, backend="triton") for x in (tensors, sliced, sliced)]
    for name in runs[0]:
        assert torch.equal(runs[0][name], runs[1][name]), name
        assert torch.equal(runs[1][name], runs[2][name]), name


@DTYPES
@pytest.mark.parametrize(("length", "inner", "taps"), [(1, 128, 4), (517, 65, 3), (5000, 128, 4)])
def test_convolution_agrees_with_the_definition(length, inner, taps, dtype):
    tensors = {"x": draw(2, length, inner), "weight": draw(2, inner, taps), "bias": draw(2, inner)}
    assert_agrees(causal_conv, tensors, "triton", dtype, "cuda")
    spans = torch.tensor([[min(3, length), length], [0, length // 2]])
    assert_agrees(causal_conv, tensors, "triton", dtype, "cuda", spans=spans)


@DTYPES
@pytest.mark.parametrize(("rows", "width"), [(5, 37), (5000, 512), (33, 8192)])
def test_norm_agrees_with_the_definition(rows, width, dtype):
    tensors = {"x": draw(rows, width), "residual": draw(rows, width), "weight": draw(width)}
    assert_agrees(add_rms_norm, tensors, "triton", dtype, "cuda", eps=1e-5)


@DTYPES
@pytest.mark.parametrize(("counts", "rows"), [([100, 0, 150, 1], 300), ([0, 0, 0, 0], 3), ([2000, 64, 0, 7], 2071)])
def test_experts_agree_with_the_definition(counts, rows, dtype):
    tensors = {"x_RD": draw(rows, 96), "gate_EFD": draw(4, 130, 96) / 10, "up_EFD": draw(4, 130, 96) / 10}
    tensors["down_EDF"] = draw(4, 96, 130) / 12
    got = assert_agrees(grouped_mlp, tensors, "triton", dtype, "cuda", counts_E=torch.tensor(counts))
    assert not got["output 0"][sum(counts) :].any()
    assert not got["gradient of x_RD"][sum(counts) :].any()


def test_same_bits_again():
    scan = {name: x.float().cuda() for name, x in scan_inputs(2000, 2).items()}
    conv = {"x": draw(2, 2000, 128), "weight": draw(2, 128, 4), "bias": draw(2, 128)}
    norm = {"x": draw(5000, 512), "residual": draw(5000, 512), "weight": draw(512)}
    for operator, tensors, settings in (
        (selective_scan, scan, {}),
        (causal_conv, conv, {}),
        (add_rms_norm, norm, {"eps": 1e-5}),
    ):
        tensors = {name: x.float().cuda() for name, x in tensors.items()}
        with torch.no_grad():
            given = operator(**tensors, **settings, backend="triton")
        upstream = [torch.randn_like(y) for y in (given if isinstance(given, tuple) else (given,))]
        runs = [outputs_and_gradients(operator, tensors, upstream, backend="triton", **settings) for _ in range(2)]
        for name in runs[0]:
            assert torch.equal(runs[0][name], runs[1][name]), name


def test_grouped_product_agrees_with_the_loop_in_bfloat16():
    x = torch.randn(300, 64, device="cuda", dtype=torch.bfloat16)
    gate, up = (torch.randn(4, 128, 64, device="cuda", dtype=torch.bfloat16) / 8 for _ in range(2))
    down = torch.randn(4, 64, 128, device="cuda", dtype=torch.bfloat16) / 12
    counts = torch.tensor([100, 0, 150, 50], device="cuda")
    fast = grouped_mlp(x, gate, up, down, counts, backend="grouped")
    wanted = grouped_mlp(*(v.float() for v in (x, gate, up, down)), counts, backend="reference")
    assert (fast.float() - wanted).norm() / wanted.norm() < 2e-2


@pytest.mark.parametrize("pattern", ["Md Me", "Hd Ae"])
def test_a_model_gives_the_same_on_cpu_and_gpu(pattern):
    config = dataclasses.replace(toy_run().model, d_model=32, ffn_hidden=64, pattern=pattern, n_shared_experts=1)
    model = new_model(config, 256, seed=0).eval()
    ids = torch.randint(7, 11, (3, 120))
    ids[1, 60:] = 4
    with torch.no_grad():
        wanted = model(ids).logits
        got = model.cuda()(ids.cuda()).logits.cpu()
    real = ids != 4
    torch.testing.assert_close(got[real], wanted[real], atol=2e-4, rtol=1e-3)


@DTYPES
@pytest.mark.parametrize("backend", ["fft", "recurrent"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 517])
def test_the_long_convolution_agrees_with_the_definition(backend, reverse, length, dtype):
    width, poles = 40, 5
    tensors = {
        "z": draw(3, length, 3 * width),
        "residues": draw(width, poles, 2),
        "poles": torch.stack([-torch.exp(draw(width, poles) - 2), draw(width, poles)], -1),
        "skip": draw(width),
        "initial_state": draw(3, width, poles, 2),
    }
    spans = torch.tensor([[0, length], [length // 3, length], [0, 0]])
    assert_agrees(long_conv, tensors, backend, dtype, "cuda", reverse=reverse, spans=spans)
