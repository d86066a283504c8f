"""Products in 8 bits against whole-number arithmetic and against the products they stand for."""

import copy

import numpy as np
import pytest
import torch

from umbel.errors import BackendError
from umbel.ops import int8
from umbel.ops.int8 import Int8Weight, require_int8, round_rows

SHAPES = [(1, 1, 1), (0, 8, 4), (3, 64, 128), (130, 33, 17), (40, 512, 96), (7, 1408, 48)]


@pytest.mark.parametrize(("rows", "n_in", "n_out"), SHAPES)
def test_sums_are_exact(rows, n_in, n_out):
    """Also where every number is as large as can be, which overflows 16 bits on CPUs without VNNI."""
    full = torch.full((rows, n_in), 3.0)
    for x, is_full in ((torch.randn(rows, n_in), False), (full, True), (-full, True)):
        weight = torch.randn(n_out, n_in)
        weight = weight.sign() if is_full else weight
        rounded = round_rows(x)
        # The same two roundings by numpy, and a sum of whole numbers.
        scale = np.abs(weight.numpy()).max(1, initial=0) / np.float32(127)
        whole = np.rint(weight.numpy() / scale[:, None]).astype(np.int64)
        steps = rounded.values.numpy().astype(np.int64) - 64
        wanted = (steps @ whole.T) * scale * rounded.scale.numpy()
        got = Int8Weight(weight).product(rounded).numpy()
        assert got.shape == (rows, n_out)
        np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=1e-6)


def test_rows_are_rounded_to_the_nearest_level():
    x = torch.randn(50, 37) * torch.logspace(-6, 6, 50)[:, None]
    rounded = round_rows(x)
    back = (rounded.values.float() - 64) * rounded.scale
    assert ((back - x).abs() <= 0.501 * rounded.scale).all()
    assert (rounded.values >= 1).all() and (rounded.values <= 127).all()


def test_it_stands_for_the_product():
    x, weight = torch.randn(64, 512), torch.randn(256, 512)
    wanted = x @ weight.T
    got = Int8Weight(weight).product(round_rows(x))
    assert (got - wanted).norm() / wanted.norm() < 0.02
    out = torch.empty(64, 256)
    assert Int8Weight(weight).product(round_rows(x), out) is out
    assert torch.equal(out, got)


def test_a_row_is_the_same_whatever_is_beside_it():
    x, weight = torch.randn(64, 96), Int8Weight(torch.randn(40, 96))
    together = weight.product(round_rows(x))
    x[1:] *= 1000
    assert torch.equal(weight.product(round_rows(x))[0], together[0])
    assert torch.equal(weight.product(round_rows(x[:1]))[0], together[0])
    assert torch.equal(weight.product(round_rows(x).part(slice(0, 1)))[0], together[0])


def test_zeros_stay_zeros():
    weight = torch.randn(5, 8)
    weight[2] = 0
    got = Int8Weight(weight).product(round_rows(torch.cat([torch.zeros(1, 8), torch.ones(1, 8)])))
    assert not got[0].any() and got[1, 2] == 0 and got.isfinite().all()


def test_a_copy_is_itself_and_bytes_are_counted():
    weight = Int8Weight(torch.randn(5, 8))
    assert copy.deepcopy(weight) is weight
    assert weight.n_bytes == 5 * 8 + 5 * 8


def test_refusals_say_what_to_do(monkeypatch):
    require_int8(torch.device("cpu"))
    with pytest.raises(BackendError, match=r"precision int8 is for CPUs, and the device is cuda:1: use precision bf16"):
        require_int8(torch.device("cuda:1"))
    monkeypatch.setattr(int8, "why_not_here", lambda: "torch 9 has no such product here (gone)")
    with pytest.raises(
        BackendError, match=r"precision int8: torch 9 has no such product here \(gone\)\. Use precision"
    ):
        require_int8(torch.device("cpu"))


def test_a_torch_without_the_product_is_told(monkeypatch):
    def gone(self, weight):
        raise RuntimeError("Could not run 'onednn::qlinear_prepack'\nand more")

    monkeypatch.setattr(int8.Int8Weight, "__init__", gone)
    text = int8.why_not_here.__wrapped__()
    assert text == f"torch {torch.__version__} has no such product here (Could not run 'onednn::qlinear_prepack')"
