"""Hidden bases as a model and edited copies of it see them, in one pass: layers below an edit are computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from umbel.errors import ConfigError
from umbel.genome.sequence import Codes, Mask
from umbel.model.backbone import Backbone, Block, real_tokens, spans_of
from umbel.model.edited_router import Edit, edited
from umbel.model.effective_weights import weight_of
from umbel.model.routing import Routing
from umbel.ops.devices import autocast_to
from umbel.ops.rms_norm import add_rms_norm
from umbel.predict.batches import padded, similar_lengths
from umbel.predict.per_base import joined
from umbel.predict.precision import autocast_of
from umbel.predict.predictor import Predictor

Edits = tuple[Edit, ...]
UNTOUCHED = -1


@dataclass(frozen=True)
class Answer:
    """What one branch says of one sequence.

    Attributes
    ----------
    branch
        Its number; -1 is the model as it is.
    index
        Of the sequence.
    log_probs
        float32 ``(hidden, 4)``, as :meth:`umbel.predict.sequences.SequencePredictor.masked_log_probs` gives.
    experts
        int16 ``(expert layers, L, K)``: where each base was sent, that is the token which stands for it, with the
        others hidden; where several do (overlapping k-mers), the last to begin. None of edited copies.
    """

    branch: int
    index: int
    log_probs: npt.NDArray[np.float32]
    experts: npt.NDArray[np.int16] | None


@dataclass(frozen=True)
class _Between:
    """What stands between two layers: the stream, the branch that is yet to be added to it, routings so far."""

    stream: Tensor | None
    branch: Tensor
    routings: tuple[Routing, ...]


def run_branches(
    backbone: Backbone, input_ids: Tensor, branches: Sequence[Edits]
) -> Iterator[tuple[int, Tensor, tuple[Routing, ...]]]:
    """Run a backbone, and each of its edited copies from the first layer that differs.

    All go layer by layer, never the way of :mod:`umbel.model.inference`; what a branch gives is, bit for bit, what
    the backbone gives inside :func:`umbel.model.edited_router.edited`.

    Parameters
    ----------
    input_ids
        ``(B, L)``; padding ``[PAD]``.
    branches
        Edits of each, at least one.

    Yields
    ------
    Number of the branch (-1 for the model as it is), hidden states ``(B, L, D)`` after the final norm, routings. In
    order of the depth of the edits; the model as it is comes last.

    Raises
    ------
    ConfigError
        If a branch has no edit, or its edits do not fit; see :func:`umbel.model.edited_router.require_edits`.
    """
    for number, edits in enumerate(branches):
        if not edits:
            raise ConfigError(f"branch {number} edits nothing: the model as it is runs beside the branches anyway")
    real = real_tokens(input_ids, None)
    spans = None if real is None else spans_of(real)

    def through(state: _Between, blocks: Sequence[Block]) -> _Between:
        for block in blocks:
            stream, branch, routing = block(state.stream, state.branch, spans, real, None)
            state = _Between(stream, branch, state.routings + (() if routing is None else (routing,)))
        return state

    def finished(state: _Between) -> tuple[Tensor, tuple[Routing, ...]]:
        weight = weight_of(backbone.norm, "norm")
        return add_rms_norm(state.branch, state.stream, weight, backbone.config.norm_eps)[0], state.routings

    first = [min(edit.layer for edit in edits) for edits in branches]
    blocks = cast("list[Block]", list(backbone.layers))
    state = _Between(None, backbone.embedding(input_ids), ())
    for layer, block in enumerate(blocks):
        for number in np.flatnonzero(np.equal(first, layer)).tolist():
            with edited(backbone, *branches[number]):
                hidden, routings = finished(through(state, blocks[layer:]))
            yield number, hidden, routings
        state = through(state, [block])
    yield (UNTOUCHED, *finished(state))


def branched_log_probs(
    predictor: Predictor,
    codes: Sequence[Codes],
    hidden: Sequence[Mask],
    branches_of: Callable[[Tensor], Sequence[Edits]],
    *,
    extra_experts: int = 0,
) -> Iterator[Answer]:
    """Ask a model and its edited copies about hidden bases.

    Every sequence is in one batch for all branches, so that they differ by their edits and by nothing else.

    Parameters
    ----------
    codes, hidden
        As in :meth:`umbel.predict.sequences.SequencePredictor.masked_log_probs`.
    branches_of
        Gives the edits of each branch for a batch of token ids ``(B, L)``; as many for each batch.
    extra_experts
        Experts that a token may take beyond its top-k in a branch (E where an expert is replaced by the mean of all):
        their memory is asked for by smaller batches.

    Yields
    ------
    For each batch, all answers of one branch after those of another.

    Raises
    ------
    ConfigError
        If the tokens are learnt words, edits do not fit, or one sequence takes more memory than there is.
    ValueError
        If a sequence is shorter than one token.
    """
    predictor.require_base_probabilities()
    encodings, ids, readings = predictor._hide(codes, hidden)
    # The ordinary pass takes other memory than the one on a CPU.
    with edited(predictor.backbone):
        budget = predictor.budget()
    groups = similar_lengths(
        [len(each) for each in ids], lambda width: max(1, budget.rows_of(width) // (1 + extra_experts))
    )
    for indices in groups:
        counts = [len(readings[i].token) for i in indices]
        row, reading = np.repeat(np.arange(len(indices)), counts), joined([readings[i] for i in indices])
        ends = np.cumsum(counts)[:-1]
        at = torch.from_numpy(row), torch.from_numpy(reading.token)
        batch = padded([ids[i] for i in indices]).to(predictor.device)
        running = run_branches(predictor.backbone, batch, branches_of(batch))
        while True:
            # Not around the yield: what reads the answers is not to compute in these modes.
            with torch.inference_mode(), autocast_to(predictor.device, autocast_of(predictor.precision)):
                one = next(running, None)
                if one is None:
                    break
                number, states, routings = one
                found = predictor._log_probs_of(states[at], reading)
                experts = _experts(routings) if number == UNTOUCHED else None
            for place, (i, part) in enumerate(zip(indices, np.split(found, ends), strict=True)):
                tokens_of = encodings[i].token_of_base(len(codes[i]))
                yield Answer(number, i, part, None if experts is None else experts[:, place, tokens_of])


def _experts(routings: Sequence[Routing]) -> npt.NDArray[np.int16] | None:
    """Stack the choices of all layers, ``(expert layers, B, T, K)``; None where there are no experts."""
    if not routings:
        return None
    return torch.stack([routing.experts for routing in routings]).to(torch.int16).cpu().numpy()
