"""How many bytes a forward pass takes, and so how many sequences go into one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from umbel.config import ModelConfig
from umbel.errors import ConfigError
from umbel.model import inference
from umbel.model.activations import BatchShape, measure_inference
from umbel.model.backbone import Backbone
from umbel.ops.devices import available_bytes

TOKENS_ON_CPU, TOKENS_ON_GPU = 16_384, 131_072
"""Padded tokens of a pass, at most; a longer sequence goes alone. Chosen, not measured: more may be faster."""
SHARE = 0.5
"""Of the free memory that a pass may take: the estimate is no bound, and others live here too."""
_FLOAT, _INT = 4, 8


@dataclass(frozen=True)
class PassBytes:
    """Bytes of a pass beside the weights: :meth:`of` so many rows of so many tokens.

    Attributes
    ----------
    fixed
        However little is computed.
    piece
        For each token of the longest row up to ``PIECE`` of them, once: buffers that all pieces use.
    along_row
        For each token of the longest row, once: buffers that all rows use one after another.
    each
        For each token of the batch, padding included.
    """

    fixed: float
    piece: float
    along_row: float
    each: float

    def of(self, rows: int, width: int) -> int:
        """Add it up.

        Examples
        --------
        >>> PassBytes(1000, 5, 10, 3).of(rows=4, width=100)
        3700
        """
        return round(self._once(width) + self.each * rows * width)

    def rows(self, width: int, free: float) -> float:
        """Give the rows that fit into ``free`` bytes; below 1 where not even one does.

        Examples
        --------
        >>> PassBytes(1000, 5, 10, 3).rows(width=100, free=4000)
        5.0
        """
        return (free - self._once(width)) / (self.each * width)

    def longest(self, free: float) -> int:
        """Give the tokens of the longest single row that fits.

        Examples
        --------
        >>> PassBytes(1000, 0, 10, 3).longest(2300)
        100
        """
        beyond = (free - self.fixed - self.piece * inference.PIECE) / (self.along_row + self.each)
        within = (free - self.fixed) / (self.piece + self.along_row + self.each)
        return max(0, int(beyond if beyond >= inference.PIECE else within))

    def _once(self, width: int) -> float:
        return self.fixed + self.piece * min(width, inference.PIECE) + self.along_row * width


def pass_bytes(backbone: Backbone, device: torch.device, dtype: torch.dtype | None = None) -> PassBytes:
    """Estimate what a pass of a backbone without gradients takes, within a quarter for passes of some megabytes.

    Piece by piece (Mamba models in float32 or int8 on a CPU), it is the buffers there, counted; otherwise what the
    layers themselves make, measured on tensors without numbers.

    Parameters
    ----------
    dtype
        That of autocast; None is float32.
    """
    with torch.no_grad():
        goes_in_pieces = dtype is None and inference.is_possible(backbone)
    return _in_pieces(backbone.config) if goes_in_pieces else _by_layers(backbone.config, device, dtype)


def _routing_bytes(config: ModelConfig) -> int:
    """Logits, experts and weights of all layers for one token."""
    n_layers = sum(kind[1] == "e" for kind in config.layer_kinds)
    return n_layers * (_FLOAT * config.n_experts + (_FLOAT + _INT) * config.top_k)


@lru_cache(maxsize=64)
def _in_pieces(config: ModelConfig) -> PassBytes:
    piece = inference.PIECE
    one, two = (_workspace_bytes(config, length) for length in (piece, 2 * piece))
    along_row = (two - one) / piece
    # The copies that a piece of experts, or a rounded product, makes for a moment.
    has_experts = any(kind[1] == "e" for kind in config.layer_kinds)
    hidden = max(config.ffn_hidden, config.expert_width)
    moment = max(3 * config.top_k * config.d_model if has_experts else 0, 2 * config.d_inner, hidden)
    each = _FLOAT * config.d_model + _routing_bytes(config) + _INT
    return PassBytes(0, one / piece - along_row + _FLOAT * moment, along_row, each)


def _workspace_bytes(config: ModelConfig, length: int) -> int:
    with torch.device("meta"):
        buffers = vars(inference.Workspace(config, length)).values()
    return sum(x.numel() * x.element_size() for x in buffers if isinstance(x, Tensor))


@lru_cache(maxsize=64)
def _by_layers(config: ModelConfig, device: torch.device, dtype: torch.dtype | None) -> PassBytes:
    tokens = 4096
    shape = BatchShape(1, tokens, device, dtype)
    layers = [measure_inference(shape, config, kind) for kind in set(config.layer_kinds)]
    each = max(layer.inputs + layer.kept + layer.working for layer in layers) / tokens
    fixed = 0
    if dtype is not None:
        # Weights of a layer, once more in half the bytes.
        with torch.device("meta"):
            fixed = 2 * max(sum(p.numel() for p in block.parameters()) for block in Backbone(config).layers)
    elif device.type == "cpu":
        # What our kernel of gated MLPs takes inside.
        width = max(config.ffn_hidden, config.top_k * config.expert_width)
        each += 2 * _FLOAT * width
    return PassBytes(fixed, 0, 0, each + _routing_bytes(config) + _INT)


class Budget:
    """How many rows of a width go into one pass: what speed wants, and what memory allows when this is made.

    Parameters
    ----------
    cost
        Of a pass.
    device
        Whose free memory counts.
    tokens
        Most padded tokens of a pass; None takes what is fast on the device.

    Attributes
    ----------
    free
        Bytes that a pass may take.

    Examples
    --------
    >>> Budget(PassBytes(0, 0, 0, 100), torch.device("cpu"), tokens=1000).rows_of(width=300)
    3
    """

    def __init__(self, cost: PassBytes, device: torch.device, tokens: int | None = None):
        self.cost, self.device = cost, device
        self.tokens = tokens or (TOKENS_ON_GPU if device.type == "cuda" else TOKENS_ON_CPU)
        known = available_bytes(device)
        self.free = torch.inf if known is None else SHARE * known

    def rows_of(self, width: int) -> int:
        """Give the rows of so many tokens for one pass.

        Raises
        ------
        ConfigError
            If not even one fits, saying how much it takes and how much there is.
        """
        rows = self.cost.rows(width, self.free)
        if rows < 1:
            raise ConfigError(
                f"a sequence of {width:,} tokens takes about {_said(self.cost.of(1, width))} in one pass, and "
                f"{_said(self.free)} may be used ({SHARE:.0%} of what is free on {self.device}): cut it into windows "
                f"of {self.cost.longest(self.free):,} tokens or fewer, or free memory"
            )
        return max(1, min(int(min(rows, self.tokens)), self.tokens // width))


def _said(n_bytes: float) -> str:
    """Write a number of bytes.

    Examples
    --------
    >>> _said(123_456_789), _said(4.5e9)
    ('123 MB', '4.5 GB')
    """
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"
