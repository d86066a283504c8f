"""The scan's Triton kernels, interpreted where there is no CUDA device, against the definition in float64."""

import pytest
import torch
from agreement import assert_agrees, outputs_and_gradients

from umbel.ops.selective_scan import selective_scan

pytest.importorskip("triton", reason="triton is published for Linux alone")
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="interpreted here; test_on_gpu runs the kernels")


def inputs(length, directions=1, batch=1, inner=3, states=2, gate=True, initial=True):
    lead = (2,) if directions == 2 else ()

    def draw(*shape):
        return torch.randn(*lead, *shape, dtype=torch.float64)

    tensors = {
        "u": draw(batch, length, inner),
        "dt": draw(batch, length, inner) - 1,
        "A": -torch.exp(draw(inner, states)),
        "B": draw(batch, length, states),
        "C": draw(batch, length, states),
        "D": draw(inner),
        "dt_bias": draw(inner),
    }
    if gate:
        tensors["z"] = torch.randn(batch, length, inner, dtype=torch.float64)
    if initial:
        tensors["initial_state"] = draw(batch, inner, states)
    return tensors


@pytest.fixture
def short_chunks(monkeypatch):
    """Chunks of 8 and pieces of 16 bases, so that a short sequence crosses several of both."""
    from umbel.ops.selective_scan import triton

    monkeypatch.setattr(triton, "CHUNK", 8)
    monkeypatch.setattr(triton, "PIECE", 16)


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_few_bases(length, directions):
    assert_agrees(selective_scan, inputs(length, directions))


@pytest.mark.parametrize(("length", "reverse"), [(63, False), (64, True), (65, False), (65, True)])
def test_around_one_chunk(length, reverse):
    assert_agrees(selective_scan, inputs(length, gate=reverse), reverse=reverse)


def test_three_chunks_in_pieces_of_one(monkeypatch):
    from umbel.ops.selective_scan import triton

    monkeypatch.setattr(triton, "PIECE", 64)
    assert_agrees(selective_scan, inputs(130))


@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("initial", [False, True])
@pytest.mark.parametrize(("directions", "reverse"), [(1, False), (1, True), (2, False)])
def test_pieces_and_chunks_pass_their_states_on(short_chunks, directions, reverse, initial, gate):
    assert_agrees(selective_scan, inputs(21, directions, gate=gate, initial=initial), reverse=reverse)


def test_more_channels_than_a_program_has(short_chunks):
    assert_agrees(selective_scan, inputs(10, inner=33, states=5))


@pytest.mark.parametrize("directions", [1, 2])
def test_padding_holds_anything_and_gives_zeros(short_chunks, directions):
    spans = torch.tensor([[3, 19], [7, 7], [0, 17]])
    tensors = inputs(19, directions, batch=3)
    for row, (start, end) in enumerate(spans.tolist()):
        for name in ("u", "dt", "B", "C", "z"):
            tensors[name][..., row, :start, :] = torch.nan
            tensors[name][..., row, end:, :] = torch.nan
    got = assert_agrees(selective_scan, tensors, spans=spans)
    padding = torch.ones(3, 19, dtype=torch.bool)
    for row, (start, end) in enumerate(spans.tolist()):
        padding[row, start:end] = False
    for name in ("output 0", "gradient of u", "gradient of dt", "gradient of B", "gradient of C", "gradient of z"):
        assert got[name].movedim(-1, 0)[..., padding].abs().max() == 0, name
    states = tensors["initial_state"].float()
    torch.testing.assert_close(got["output 1"][..., 1, :, :], states[..., 1, :, :], atol=0, rtol=0)


@pytest.mark.parametrize("shift", [-60.0, -20.0, 30.0, 2000.0])
def test_steps_of_any_size(short_chunks, shift):
    tensors = inputs(10)
    tensors["dt"] += shift
    assert_agrees(selective_scan, tensors)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(short_chunks, dtype):
    got = assert_agrees(selective_scan, inputs(18, 2), dtype=dtype)
    assert got["output 0"].dtype == dtype
    assert got["output 1"].dtype == torch.float32


def test_slices_of_wider_tensors(short_chunks):
    tensors = {name: x.float() for name, x in inputs(9, inner=4, states=3).items()}
    wide = torch.cat([tensors["B"], torch.full((1, 9, 2), torch.nan), tensors["C"]], -1)
    gates = torch.cat([torch.full((1, 9, 5), torch.nan), tensors["z"]], -1)
    sliced = tensors | {"B": wide[..., :3], "C": wide[..., 5:], "z": gates[..., 5:]}
    # The last one's last dimension is not dense.
    sliced["u"] = tensors["u"].mT.contiguous().mT
    with torch.no_grad():
        wanted = selective_scan(**tensors, backend="triton")
        got = selective_scan(**sliced, backend="triton")
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


def test_same_bits_again(short_chunks):
    tensors = {name: x.float() for name, x in inputs(20, 2).items()}
    upstream = [torch.randn(1, 20, 3), torch.randn(2, 1, 3, 2)]
    first, second = (outputs_and_gradients(selective_scan, tensors, upstream, backend="triton") for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_interpreted_kernels_run_only_by_name():
    from umbel.ops.backends import choose

    assert choose("scan", "auto", {"triton": None, "chunked": None}) == "chunked"
    assert choose("scan", "triton", {"triton": None, "chunked": None}) == "triton"
