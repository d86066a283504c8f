"""Bytes that the parts of a network hold, in a training step and in inference, measured on their real passes.

The passes run on tensors without numbers (torch's fake tensors): storages are made, saved for the backward and let go
as in training, at any width, and nothing is computed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import astuple, dataclass, replace
from functools import lru_cache, wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from umbel.config import ModelConfig
from umbel.model.backbone import Block
from umbel.model.heads import label_losses
from umbel.model.segments import Segments, find_segments
from umbel.ops.devices import autocast_to
from umbel.ops.rms_norm import add_rms_norm


@dataclass(frozen=True)
class Footprint:
    """Bytes of a part of a network in a training step, its weights and their gradients apart.

    Attributes
    ----------
    kept
        From its forward pass to its backward pass.
    inputs
        What it is given: all that it keeps where it will be run again (activation checkpointing).
    working
        The most that one of its passes holds for a moment beside that. What kernels take inside is not seen.
    """

    kept: int
    inputs: int
    working: int


@dataclass(frozen=True)
class BatchShape:
    """The rows of a forward pass: how many, how long, where they are, and in which precision.

    Attributes
    ----------
    dtype
        That of autocast; None is float32 throughout.
    packed_tokens
        Rows are cut from sequences of so many tokens that stand end to end; 0: every row is one sequence.
    """

    rows: int
    tokens: int
    device: torch.device
    dtype: torch.dtype | None = None
    packed_tokens: int = 0

    @property
    def segment_ids(self) -> Tensor | None:
        """Which sequence each token belongs to, ``(rows, tokens)``; None where every row is one.

        Examples
        --------
        >>> BatchShape(2, 4, torch.device("cpu"), packed_tokens=3).segment_ids.tolist()
        [[0, 0, 0, 1], [1, 1, 2, 2]]
        """
        if not self.packed_tokens:
            return None
        return (torch.arange(self.rows * self.tokens) // self.packed_tokens).view(self.rows, self.tokens)


_SHORT_TOKENS, _LONG_TOKENS = 128, 256
"""All that is kept grows evenly with the length, so two lengths tell of any other; both are whole chunks of a scan."""


def _along_tokens(measure: Callable[..., Footprint]) -> Callable[..., Footprint]:
    """Measure rows of more than ``_LONG_TOKENS``, each one sequence, from two short ones: some twins loop over them."""

    @lru_cache(maxsize=64)
    @wraps(measure)
    def measure_any(shape: BatchShape, *args: Any) -> Footprint:
        if shape.packed_tokens or shape.rows * shape.tokens <= _LONG_TOKENS:
            return measure(shape, *args)
        short, long = (measure(replace(shape, rows=1, tokens=n), *args) for n in (_SHORT_TOKENS, _LONG_TOKENS))
        share = (shape.rows * shape.tokens - _SHORT_TOKENS) / (_LONG_TOKENS - _SHORT_TOKENS)
        kept, inputs, working = (
            max(0, round(a + share * (b - a))) for a, b in zip(astuple(short), astuple(long), strict=True)
        )
        return Footprint(kept, inputs, working)

    return measure_any


def _numberless(shape: BatchShape) -> AbstractContextManager[Any]:
    """Give tensors no numbers; but in half precision on a CPU our operators' twins read some: they are real there."""
    is_read = shape.device.type == "cpu" and shape.dtype is not None
    return nullcontext() if is_read else FakeTensorMode()


class _Living(TorchDispatchMode):
    """Counts the bytes of storages that operators made and nobody has let go."""

    def __init__(self, known: Iterable[Tensor]):
        super().__init__()
        self._sizes = {x.untyped_storage()._cdata: 0 for x in known}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for x in tree_leaves(made):
            if isinstance(x, Tensor) and (key := (storage := x.untyped_storage())._cdata) not in self._sizes:
                self._sizes[key] = storage.nbytes()
                self.now += self._sizes[key]
                weakref.finalize(storage, self._let_go, key).atexit = False
        self.peak = max(self.peak, self.now)
        return made

    def _let_go(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


def _measure(
    shape: BatchShape, forward: Callable[[], tuple[list[Tensor], list[Tensor]]], inputs: list[Tensor], own: nn.Module
) -> Footprint:
    """Run ``forward``, which gives its outputs and what else lives on after it, and the backward pass."""
    for p in own.parameters():
        # As from the second micro-batch on: what comes anew is added to it, and is gone.
        p.grad = torch.empty_like(p)
    known = [*inputs, *own.buffers(), *own.parameters(), *(p.grad for p in own.parameters() if p.grad is not None)]
    foreign = {x.untyped_storage()._cdata for x in known}
    held: dict[int, Tensor] = {}

    def keep(x: Tensor) -> Tensor:
        if (key := x.untyped_storage()._cdata) not in foreign:
            held[key] = x
        return x

    precision = autocast_to(shape.device, shape.dtype)
    with _Living(known) as living:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x), precision:
            outputs, others = forward()
        for x in others:
            keep(x)
        kept = sum(x.untyped_storage().nbytes() for x in held.values())
        held.clear()
        before, forward_working = living.now, living.peak - living.now
        living.peak = before
        torch.autograd.backward(outputs, [torch.empty_like(x) for x in outputs])
    return Footprint(
        kept, sum(x.numel() * x.element_size() for x in inputs), max(forward_working, living.peak - before)
    )


@_along_tokens
def measure_block(shape: BatchShape, config: ModelConfig, kind: str) -> Footprint:
    """Measure one layer of a kind such as ``"Me"``; it is given the residual stream and the branch to be added.

    Examples
    --------
    >>> small = ModelConfig(n_layers=2, d_model=16, ffn_hidden=24)
    >>> one, two = (measure_block(BatchShape(rows, 64, torch.device("cpu")), small, "Ad") for rows in (1, 2))
    >>> one.inputs, two.inputs  # two streams of 64 x 16 float32 a row
    (8192, 16384)
    """
    segments = None if shape.segment_ids is None else find_segments(shape.segment_ids, None)
    with _numberless(shape) as fake, torch.device(shape.device):
        if segments is not None:
            places = (x.to(shape.device) for x in (segments.places, segments.spans, segments.back))
            segments = Segments(*(places if fake is None else map(fake.from_tensor, places)))
        block = Block(config, kind, 0)
        stream, branch = _streams(config, shape)

        def forward() -> tuple[list[Tensor], list[Tensor]]:
            new_stream, new_branch, routing = block(stream, branch, None, None, segments)
            others = [] if routing is None else [routing.logits, routing.experts, routing.weights]
            return [new_stream, new_branch], others

        return _measure(shape, forward, [stream, branch], block)


@_along_tokens
def measure_inference(shape: BatchShape, config: ModelConfig, kind: str) -> Footprint:
    """Measure one layer of a kind in a pass without gradients: what it keeps are its routing and its two streams.

    Examples
    --------
    >>> small = ModelConfig(n_layers=2, d_model=16, ffn_hidden=24)
    >>> measure_inference(BatchShape(1, 64, torch.device("cpu")), small, "Ad").kept // (64 * 16 * 4)
    2
    """
    with _numberless(shape), torch.device(shape.device), torch.no_grad():
        block = Block(config, kind, 0).eval()
        stream, branch = _streams(config, shape)
        with _Living([stream, branch, *block.parameters(), *block.buffers()]) as living:
            with autocast_to(shape.device, shape.dtype):
                outputs = block(stream, branch, None, None)
            kept = living.now
            del outputs
    return Footprint(kept, sum(x.numel() * x.element_size() for x in (stream, branch)), living.peak - kept)


@_along_tokens
def measure_head(shape: BatchShape, config: ModelConfig) -> Footprint:
    """Measure what stands on the layers: the final norm, the head over the vocabulary, and the masked loss.

    Examples
    --------
    >>> shape = BatchShape(2, 64, torch.device("cpu"))
    >>> wide, narrow = (measure_head(shape, ModelConfig(vocab_size=v)).kept for v in (4_096, 12))
    >>> (wide - narrow) // (2 * 64 * 4_084)  # bytes: logits and their log-softmax, float32
    8
    """
    with _numberless(shape), torch.device(shape.device):
        own = nn.ModuleDict(
            {"norm": nn.RMSNorm(config.d_model), "head": nn.Linear(config.d_model, config.vocab_size, bias=False)}
        )
        norm, head = own.get_parameter("norm.weight"), own.get_parameter("head.weight")
        stream, branch = _streams(config, shape)
        labels = torch.zeros(shape.rows, shape.tokens, dtype=torch.int64)

        def forward() -> tuple[list[Tensor], list[Tensor]]:
            hidden, _ = add_rms_norm(branch, stream, norm, config.norm_eps)
            logits = F.linear(hidden, head).float()
            return [label_losses(logits, labels).sum()], [logits]

        return _measure(shape, forward, [stream, branch], own)


def _streams(config: ModelConfig, shape: BatchShape) -> tuple[Tensor, Tensor]:
    """Make the residual stream, float32 because the embedding is, and a branch in autocast's dtype."""
    like = shape.rows, shape.tokens, config.d_model
    return torch.zeros(like, requires_grad=True), torch.zeros(
        like, dtype=shape.dtype or torch.float32, requires_grad=True
    )
