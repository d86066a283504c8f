"""What streaming costs a model on a file: measured on one stretch, and said in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from umbel.errors import CheckpointError, FastaError
from umbel.genome.fasta import read_fasta
from umbel.genome.sequence import Codes
from umbel.model.streaming import needs_overlap, streaming_cost
from umbel.predict.predictor import Predictor


@dataclass(frozen=True)
class MeasuredCost:
    """How far streamed hidden states are from those of one pass over the same tokens.

    Attributes
    ----------
    contig, start
        Where the stretch begins, 0-based.
    n_tokens
        Its tokens, ``[CLS]`` included.
    max_difference, mean_difference
        Over tokens: the norm of the difference over the norm of the one-pass state.
    """

    contig: str
    start: int
    n_tokens: int
    max_difference: float
    mean_difference: float


@dataclass(frozen=True)
class StreamingReport:
    """How a file was streamed, and what that costs; ``cost`` is None where it was not measured."""

    chunk_tokens: int
    overlap_tokens: int
    has_attention: bool
    cost: MeasuredCost | None = None

    def as_dict(self) -> dict[str, Any]:
        """Give the report as JSON has it."""
        return asdict(self)

    @property
    def is_telling(self) -> bool:
        """Whether some window saw less than the stretch on which the cost was measured."""
        if self.cost is None:
            return False
        last_start = (self.cost.n_tokens - 1) // self.chunk_tokens * self.chunk_tokens
        return self.cost.n_tokens > self.chunk_tokens + self.overlap_tokens or last_start > self.overlap_tokens

    def in_words(self) -> str:
        """Say it in one line.

        Examples
        --------
        >>> StreamingReport(2048, 0, False, MeasuredCost("chr1", 0, 4096, 2.1e-6, 3e-7)).in_words()
        'no attention, so streaming equals one pass: over 4,096 tokens the hidden states differ by 2.1e-06 at most'
        """
        cost = self.cost
        if not self.has_attention:
            words = "no attention, so streaming equals one pass"
            if cost is None:
                return f"{words} (not measured)"
            return (
                f"{words}: over {cost.n_tokens:,} tokens the hidden states differ by {cost.max_difference:.2g} at most"
            )
        words = f"attention saw {self.overlap_tokens:,} tokens on either side"
        if cost is None:
            return f"{words}: what that costs was not measured"
        if not self.is_telling:
            return f"{words}: the {cost.n_tokens:,} tokens compared with one pass are within sight of every window"
        mean, most = (f"{100 * x:.2g} %" for x in (cost.mean_difference, cost.max_difference))
        return (
            f"{words}: against one pass over {cost.n_tokens:,} tokens the hidden states differ by {mean} on average, "
            f"{most} at most"
        )


@dataclass(frozen=True)
class Survey:
    """What a file holds.

    Attributes
    ----------
    n_bases
        All its bases.
    contig, start, codes
        The stretch to measure on: the first bases of the contig that has most A, C, G and T, from the first of them
        on. ``contig`` is None where there are none.
    """

    n_bases: int
    contig: str | None
    start: int
    codes: Codes


def survey(source: Path, predictor: Predictor, check_tokens: int) -> Survey:
    """Read a file once, before anything is computed.

    Raises
    ------
    FastaError
        If it is no FASTA, or a contig is shorter than one token of the model.
    """
    total, most = 0, 0
    contig, start, stretch = None, 0, np.zeros(0, np.uint8)
    longest_token = int(predictor.tokens.lengths.max())
    for record in read_fasta(source):
        length, known = len(record.codes), record.codes < 4
        if length < predictor.min_bases:
            raise FastaError(
                f"contig {record.name!r} has {length} bases, and this model's tokens have {predictor.min_bases}. "
                "Leave it out.",
                source,
                record.line,
            )
        total += length
        if int(known.sum()) > most:
            most, contig = int(known.sum()), record.name
            start = min(int(known.argmax()), length - predictor.min_bases)
            stretch = record.codes[start : start + check_tokens * longest_token].copy()
    return Survey(total, contig, start, stretch)


def measure(predictor: Predictor, on: Survey, chunk: int, overlap: int, check_tokens: int) -> MeasuredCost | None:
    """Compare streaming with one pass over at most ``check_tokens`` tokens; None where there is nothing to compare.

    Raises
    ------
    CheckpointError
        If hidden states are not finite.
    """
    if on.contig is None or not check_tokens:
        return None
    if needs_overlap(predictor.backbone) and predictor.config.max_tokens:
        check_tokens = min(check_tokens, predictor.config.max_tokens)
    ids = predictor.tokens.encode(on.codes).ids[:check_tokens]
    found = streaming_cost(predictor.backbone, torch.from_numpy(ids).to(predictor.device), chunk=chunk, overlap=overlap)
    if not np.isfinite(found.max_difference):
        raise CheckpointError(
            f"hidden states are not finite in the {len(ids):,} tokens from base {on.start + 1:,} of contig "
            f"{on.contig!r} on: the weights are damaged, or their training diverged. Use another checkpoint"
        )
    return MeasuredCost(on.contig, on.start, found.n_tokens, found.max_difference, found.mean_difference)
