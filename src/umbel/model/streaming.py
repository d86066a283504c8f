"""A sequence of any length through a backbone, window by window, in memory that does not grow with it.

HyenaLite layers go on from the state that the tokens before left behind, so they give what one pass over the whole
sequence gives. Attention sees its window only: the tokens that are kept, and ``overlap`` more on either side.

Shapes: L tokens of the sequence, T of a window, D width, E experts, K top-k.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor

from umbel.errors import AdapterError, ConfigError
from umbel.model.backbone import Backbone, Block
from umbel.model.effective_weights import weight_of
from umbel.model.hyena import HyenaLite, HyenaState
from umbel.model.routing import Routing
from umbel.ops.rms_norm import add_rms_norm


@dataclass(frozen=True)
class Memory:
    """What a stream has to remember between two windows.

    Attributes
    ----------
    done
        Tokens given so far; the next window keeps those from here on.
    states
        For each HyenaLite layer (by its index), its state before the first token of the next window.
    """

    done: int = 0
    states: dict[int, HyenaState] = field(default_factory=dict)


@dataclass(frozen=True)
class Streamed:
    """What a window gave for the tokens ``start`` to ``end`` of the sequence.

    Attributes
    ----------
    hidden
        ``(end - start, D)``, after the final norm.
    routings
        One per expert layer, of one row: ``(1, end - start, ...)``.
    memory
        Where the stream may be taken up again.
    """

    start: int
    end: int
    hidden: Tensor
    routings: tuple[Routing, ...]
    memory: Memory


def require_streamable(backbone: Backbone) -> None:
    """See that nothing in a backbone has to wait for the end of the sequence.

    Raises
    ------
    ConfigError
        If it has Mamba layers, which also read against time, or a HyenaLite that looks ahead.
    AdapterError
        If an adapter stands around a whole HyenaLite.
    """
    config = backbone.config
    mixers = {kind[0] for kind in config.layer_kinds}
    if "M" in mixers:
        raise ConfigError(f"pattern {config.pattern!r} has Mamba layers, which also read against time: use windows")
    if "H" in mixers and config.hyena_bidirectional:
        raise ConfigError("this model's HyenaLite layers look ahead (hyena_bidirectional): use windows")
    for layer, block in enumerate(cast("list[Block]", list(backbone.layers))):
        if config.layer_kinds[layer][0] == "H" and not isinstance(block.mixer, HyenaLite):
            raise AdapterError(
                f"layers.{layer}.mixer: an adapter stands around the whole mixer, which has no state to go on from: "
                "merge it into the weights first"
            )


def require_windows(backbone: Backbone, chunk: int, overlap: int) -> None:
    """See that a backbone can be streamed in such windows.

    Raises
    ------
    ConfigError
        As :func:`require_streamable`; if ``chunk`` or ``overlap`` is too small; or if a window has more tokens than
        the model's attention takes (``max_tokens``).
    """
    require_streamable(backbone)
    if chunk < 1 or overlap < 0:
        raise ConfigError(f"chunk is {chunk} and overlap {overlap}: give a chunk of at least 1 and no negative overlap")
    most, width = backbone.config.max_tokens, chunk + 2 * overlap
    if most and width > most and needs_overlap(backbone):
        raise ConfigError(
            f"a window of {chunk:,} tokens and {overlap:,} on either side has {width:,}, and this model's attention "
            f"takes at most {most:,} (max_tokens): make the chunk or the overlap smaller"
        )


def needs_overlap(backbone: Backbone) -> bool:
    """Tell whether windows must overlap: where there is attention."""
    return any(kind[0] == "A" for kind in backbone.config.layer_kinds)


@torch.inference_mode()
def keep_filters(backbone: Backbone, length: int) -> None:
    """Make every long filter once, for windows of up to ``length`` tokens.

    A filter made anew for a longer window may differ in its last bit. After this call, what a window gives depends on
    its tokens and the state before them, and not on the windows that this process has seen.
    """
    for module in backbone.modules():
        if isinstance(module, HyenaLite):
            module.keep_filter(length)


@torch.inference_mode()
def stream(
    backbone: Backbone, input_ids: Tensor, *, chunk: int, overlap: int, memory: Memory | None = None
) -> Iterator[Streamed]:
    """Give the hidden states of one sequence in order, ``chunk`` tokens at a time.

    Without attention the result is that of one pass over the whole sequence, for any ``chunk``, up to rounding, and
    ``overlap`` may be 0. With attention a token sees between ``overlap`` and ``chunk + overlap`` tokens on each
    side, fewer at the ends.

    Parameters
    ----------
    input_ids
        ``(L,)`` int64 or int32, without padding.
    chunk
        Tokens that a window gives, at least 1.
    overlap
        Tokens that a window sees besides, on either side.
    memory
        Of an earlier :class:`Streamed`, to go on after it; None begins.

    Raises
    ------
    ConfigError
        If the model cannot be streamed so; see :func:`require_windows`.
    """
    require_windows(backbone, chunk, overlap)
    memory, length = memory or Memory(), len(input_ids)
    while memory.done < length:
        start, end = memory.done, min(memory.done + chunk, length)
        first, next_first = max(0, start - overlap), max(0, end - overlap)
        ids = input_ids[None, first : min(end + overlap, length)]
        hidden, routings, states = _window(backbone, ids, memory.states, next_first - first)
        memory = Memory(end, states)
        kept = slice(start - first, end - first)
        yield Streamed(start, end, hidden[0, kept], tuple(r.part(slice(None), kept) for r in routings), memory)


def _window(
    backbone: Backbone, ids: Tensor, states: dict[int, HyenaState], cut: int
) -> tuple[Tensor, list[Routing], dict[int, HyenaState]]:
    """Run the window ``ids`` (1, T) from ``states``; also give the states before its token ``cut``."""
    after: dict[int, HyenaState] = {}
    residual, branch = None, backbone.embedding(ids)
    routings = []
    for layer, block in enumerate(cast("list[Block]", list(backbone.layers))):

        def mix(x: Tensor, layer: int = layer, block: Block = block) -> Tensor:
            if not isinstance(block.mixer, HyenaLite):
                return block.mixer(x)
            parts, state = [], states.get(layer)
            if cut:
                y, state = block.mixer.go_on(x[:, :cut], state)
                parts.append(y)
            if state is not None:
                # A copy: the few tokens it needs are a view of all the window's streams.
                after[layer] = HyenaState(state.recent.clone(), state.filter)
            if cut < x.shape[1]:
                parts.append(block.mixer.go_on(x[:, cut:], state)[0])
            return torch.cat(parts, 1)

        residual, branch, routing = block.around(mix, residual, branch, None)
        if routing is not None:
            routings.append(routing)
    hidden, _ = add_rms_norm(branch, residual, weight_of(backbone.norm, "norm"), backbone.config.norm_eps)
    return hidden, routings, after


@dataclass(frozen=True)
class StreamingCost:
    """How far streamed hidden states are from those of one pass, token by token.

    Attributes
    ----------
    n_tokens
        Tokens compared.
    max_difference, mean_difference
        Of the norm of the difference over the norm of the one-pass state.
    """

    n_tokens: int
    max_difference: float
    mean_difference: float


@torch.inference_mode()
def streaming_cost(backbone: Backbone, input_ids: Tensor, *, chunk: int, overlap: int) -> StreamingCost:
    """Compare streaming with one pass over ``input_ids``, ``(L,)``, which must fit into memory at once."""
    whole = backbone(input_ids[None]).hidden[0].double()
    parts = torch.cat([part.hidden for part in stream(backbone, input_ids, chunk=chunk, overlap=overlap)]).double()
    apart = (parts - whole).norm(dim=-1) / whole.norm(dim=-1).clamp(min=1e-30)
    return StreamingCost(len(input_ids), float(apart.max()), float(apart.mean()))
