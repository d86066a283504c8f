"""What a model with a head says of sequences, whatever the batches they go in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from umbel.data.labelled.batches import make_inputs, require_places, require_tokens, turned_round, within_budget
from umbel.data.labelled.examples import Examples
from umbel.data.labelled.task import Task
from umbel.data.tokenizers import Tokens
from umbel.genome.sequence import Codes, revcomp

Run = Callable[[dict[str, npt.NDArray[np.int64]]], npt.NDArray[np.float32]]
"""From a batch's inputs to a model's outputs, ``(B, ...)`` float32."""
Strand = Literal["forward", "revcomp", "both"]


def outputs_of(
    examples: Examples,
    tokens: Tokens,
    run: Run,
    *,
    both_strands: bool,
    budget: int = 16_384,
    advance: Callable[[int], None] = lambda n: None,
) -> tuple[npt.NDArray[np.float32], ...]:
    """Run a model over examples, in batches of similar lengths, and give the outputs in the examples' order.

    Parameters
    ----------
    both_strands
        Average with the outputs for the reverse complement; see :func:`group_outputs`.
    budget
        Padded bases in a batch; it changes memory and speed, not results.
    advance
        Called with the number of examples done.

    Returns
    -------
    One array an example: ``(outputs,)``, ``(L_i, classes)`` or ``(bins_i, outputs)``.
    """
    require_places(examples.task, tokens)
    require_tokens(examples, tokens)
    order = sorted(range(len(examples)), key=lambda i: -len(examples.codes[i]))
    groups = ([order[j] for j in group] for group in within_budget([len(examples.codes[i]) for i in order], budget))
    strand: Strand = "both" if both_strands else "forward"
    return outputs_in_groups(examples.task, tokens, examples.codes, run, groups, strand, advance)


def outputs_in_groups(
    task: Task,
    tokens: Tokens,
    codes: Sequence[Codes],
    run: Run,
    groups: Iterable[Sequence[int]],
    strand: Strand,
    advance: Callable[[int], None] = lambda n: None,
) -> tuple[npt.NDArray[np.float32], ...]:
    """Run a model over sequences, batch by batch, and give the outputs in the sequences' order.

    Parameters
    ----------
    groups
        Numbers of the sequences that go together; every one is in one group.
    strand, advance
        As in :func:`group_outputs` and :func:`outputs_of`.
    """
    found: list[npt.NDArray[np.float32]] = [np.empty(0, np.float32)] * len(codes)
    for group in groups:
        for i, output in zip(group, group_outputs(task, tokens, [codes[i] for i in group], run, strand), strict=True):
            found[i] = output
        advance(len(group))
    return tuple(found)


def group_outputs(
    task: Task, tokens: Tokens, codes: Sequence[Codes], run: Run, strand: Strand
) -> list[npt.NDArray[np.float32]]:
    """Run a model over one batch.

    Parameters
    ----------
    strand
        ``forward`` as given; ``revcomp``: the outputs for the reverse complement, turned round where they lie along
        the sequence, so that row i is base or bin i of the sequence as given; ``both``: the mean of the two. Bins are
        the same stretches of the sequence on both strands: on the reverse complement a short last bin comes first.

    Examples
    --------
    >>> from umbel.data.kmers import KmerTokens
    >>> first = lambda inputs: np.array([[row[1]] for row in inputs["input_ids"]], np.float32)
    >>> task, codes = Task("regression", ("y",)), [np.array([0, 1, 2], np.uint8)]
    >>> [group_outputs(task, KmerTokens(1), codes, first, s)[0].item() for s in ("forward", "revcomp", "both")]
    [7.0, 8.0, 7.5]
    """
    if strand == "both":
        forward, other = (group_outputs(task, tokens, codes, run, one) for one in ("forward", "revcomp"))
        return [np.asarray((a + b) / 2, np.float32) for a, b in zip(forward, other, strict=True)]
    if strand == "forward":
        return _unpadded(task, codes, run(make_inputs(task, tokens, codes)), [0] * len(codes))
    leads = [-len(sequence) % task.bin_bp if task.kind == "bins" else 0 for sequence in codes]
    turned = [revcomp(sequence) for sequence in codes]
    outputs = _unpadded(task, turned, run(make_inputs(task, tokens, turned, leads)), leads)
    return [np.ascontiguousarray(turned_round(task, output)) for output in outputs]


def _unpadded(
    task: Task, codes: Sequence[Codes], outputs: npt.NDArray[np.float32], leads: Sequence[int]
) -> list[npt.NDArray[Any]]:
    if not task.is_along_sequence:
        return list(outputs)
    width = task.bin_bp if task.kind == "bins" else 1
    return [o[: -(-(lead + len(c)) // width)] for o, c, lead in zip(outputs, codes, leads, strict=True)]
