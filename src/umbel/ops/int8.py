"""Matrix products with weights of 8 bits, on a CPU: half the memory traffic of a product, and twice its speed or so.

Weights are rounded once, a scale for each output; inputs as they come, a scale for each row, so that a row's result
never depends on the rows beside it. Sums are exact, in 32 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from umbel.errors import BackendError

WEIGHT_LEVELS = 127
INPUT_LEVELS = 63
"""Inputs have 7 bits: CPUs without VNNI add two products in 16 bits, which 8 bits would overflow."""
_ZERO = 64


@lru_cache(maxsize=1)
def why_not_here() -> str | None:
    """Give the reason why this torch cannot multiply in 8 bits on this CPU, or None: it is tried once."""
    try:
        weight = Int8Weight(torch.eye(2))
        found = weight.product(round_rows(torch.tensor([[1.0, -2.0]])))
    except (AttributeError, RuntimeError) as error:
        return f"torch {torch.__version__} has no such product here ({str(error).splitlines()[0]})"
    wrong = not torch.allclose(found, torch.tensor([[1.0, -2.0]]), atol=0.05)
    return "torch's product in 8 bits gives wrong numbers on this CPU" if wrong else None


def require_int8(device: torch.device) -> None:
    """See that products in 8 bits can be had on a device.

    Raises
    ------
    BackendError
        Saying what to use instead.
    """
    if device.type != "cpu":
        raise BackendError(f"precision int8 is for CPUs, and the device is {device}: use precision bf16, or device cpu")
    if reason := why_not_here():
        raise BackendError(f"precision int8: {reason}. Use precision fp32")


@dataclass(frozen=True)
class Int8Rows:
    """Inputs of a product, rounded: R rows, K columns.

    Attributes
    ----------
    values
        uint8 ``(R, K)``, 1 to 127; 64 is zero.
    scale
        float32 ``(R, 1)``: what one step is worth in each row.
    """

    values: Tensor
    scale: Tensor

    def part(self, rows: slice) -> Int8Rows:
        """Take some of the rows."""
        return Int8Rows(self.values[rows], self.scale[rows])


def round_rows(x_RK: Tensor) -> Int8Rows:
    """Round each row, ``(R, K)`` float32, to 127 levels between plus and minus its largest size.

    Examples
    --------
    >>> rows = round_rows(torch.tensor([[6.3, -3.0], [0.0, 0.0]]))
    >>> rows.values.tolist(), [round(x, 3) for x in rows.scale[:, 0].tolist()]
    ([[127, 34], [64, 64]], [0.1, 0.0])
    """
    # Not aminmax, and not straight to uint8: both are many times slower.
    buffer = x_RK.abs()
    scale = buffer.amax(1, keepdim=True).div_(INPUT_LEVELS)
    # A row of zeros is zeros whatever divides it.
    torch.div(x_RK, scale.clamp(min=torch.finfo(torch.float32).tiny), out=buffer)
    return Int8Rows(buffer.round_().add_(_ZERO).to(torch.int8).view(torch.uint8), scale)


class Int8Weight:
    """A weight matrix, ``(N, K)``, in 8 bits and the layout that the product reads.

    Examples
    --------
    >>> weight = Int8Weight(torch.tensor([[1.0, 0.5], [0.0, -2.0]]))
    >>> weight.product(round_rows(torch.tensor([[2.0, 4.0]]))).round(decimals=1).tolist()
    [[4.0, -8.0]]
    """

    def __init__(self, weight_NK: Tensor):
        wide = weight_NK.detach().float()
        scale = (wide.abs().amax(1) / WEIGHT_LEVELS).clamp(min=torch.finfo(torch.float32).tiny)
        rounded = (wide / scale[:, None]).round().to(torch.int8)
        self.n_out, self.n_in = rounded.shape
        self._scale, self._zeros = scale, torch.zeros(self.n_out, dtype=torch.int32)
        self._packed: Any = torch.ops.onednn.qlinear_prepack(rounded, None)

    def __deepcopy__(self, memo: dict[int, Any]) -> Int8Weight:
        """Give itself: it never changes."""
        return self

    @property
    def n_bytes(self) -> int:
        """Bytes that it takes."""
        return self.n_out * (self.n_in + 8)

    def product(self, rows: Int8Rows, out: Tensor | None = None) -> Tensor:
        """Multiply: ``(R, K)`` times the transpose, ``(R, N)`` float32, into ``out`` where it is given."""
        sums = torch.ops.onednn.qlinear_pointwise(
            rows.values, 1.0, _ZERO, self._packed, self._scale, self._zeros,
            None, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return torch.mul(sums, rows.scale, out=sums if out is None else out)
