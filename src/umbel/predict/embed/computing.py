"""Windows to vectors: reading and tokenising ahead in one thread, the network in this one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from umbel.data.tokenizers import Tokens
from umbel.genome.sequence import Codes, revcomp
from umbel.predict.choices import Strand
from umbel.predict.embed.read_ahead import read_ahead
from umbel.predict.embed.settings import EmbedSettings
from umbel.predict.embed.source import Source
from umbel.predict.embed.windows import Integers, Windows
from umbel.predict.predictor import Predictor

BASES_PER_PART = 2**18
"""Bases that are computed and stored together, about; what a killed run repeats at most."""
ROWS_PER_PART = 4_096
"""Most windows of such a part."""


@dataclass(frozen=True)
class _Prepared:
    """A part before the network: real bases of each window, and the tokens of each reading of those that have any."""

    n_bases: Integers
    readings: list[list[np.ndarray]]


@dataclass(frozen=True)
class Vectors:
    """A part behind it.

    Attributes
    ----------
    n_bases
        Real bases (A, C, G, T) of each window, int64 ``(n,)``.
    values
        float32 ``(n, D)``; zeros where there are no real bases.
    """

    n_bases: Integers
    values: np.ndarray


def rows_per_part(windows: Windows) -> int:
    """Windows of a part; it depends on nothing but the windows, so that a call that goes on makes the same parts."""
    return max(1, min(ROWS_PER_PART, BASES_PER_PART // max(1, windows.longest)))


def prepare(codes: list[Codes], tokens: Tokens, strand: Strand) -> _Prepared:
    """Count and tokenise windows."""
    n_bases = np.array([np.count_nonzero(window < 4) for window in codes], np.int64)
    shown = [window for window, n in zip(codes, n_bases, strict=True) if n]
    readings = []
    if strand in ("forward", "both"):
        readings.append([tokens.encode(window).ids for window in shown])
    if strand in ("revcomp", "both"):
        readings.append([tokens.encode(revcomp(window)).ids for window in shown])
    return _Prepared(n_bases, readings)


def compute(predictor: Predictor, prepared: _Prepared, settings: EmbedSettings) -> Vectors:
    """Run the network on a part: the same as :meth:`Predictor.embed` of each window, within 1e-5."""
    values = np.zeros((len(prepared.n_bases), predictor.config.d_model), np.float32)
    if prepared.n_bases.any():
        found = [predictor.embed_tokens(ids, settings.layer, settings.pooling) for ids in prepared.readings]
        values[prepared.n_bases > 0] = found[0] if len(found) == 1 else (found[0] + found[1]) / 2
    return Vectors(prepared.n_bases, values)


def vectors(
    predictor: Predictor, source: Source, windows: Windows, settings: EmbedSettings, first: int = 0
) -> Iterator[Vectors]:
    """Give the windows from ``first`` on, part by part."""
    size = rows_per_part(windows)
    parts = (
        prepare(source.read(windows.cuts(start, start + size)), predictor.tokens, settings.strand)
        for start in range(first, len(windows), size)
    )
    for prepared in read_ahead(parts):
        yield compute(predictor, prepared, settings)


def all_vectors(predictor: Predictor, source: Source, windows: Windows, settings: EmbedSettings) -> Vectors:
    """Give every row at once, in memory: for a few queries or a sample, and not for a genome."""
    found = list(vectors(predictor, source, windows, settings))
    n_bases, values = (np.concatenate([getattr(part, name) for part in found]) for name in ("n_bases", "values"))
    if settings.per == "window":
        return Vectors(n_bases, values)
    begins = np.cumsum(windows.counts) - windows.counts
    counts = np.add.reduceat(n_bases, begins)
    totals = np.add.reduceat(values.astype(np.float64) * n_bases[:, None], begins)
    return Vectors(counts, (totals / np.maximum(counts, 1)[:, None]).astype(np.float32))
