"""A linear model of k-mer frequencies, the yardstick of every sequence task; k and penalty are chosen on dev.

Of a sequence: the share of each word of k bases. Of a base: the shares within 32 bases on either side of it, and which
base stands at each of the 21 places from 10 before to 10 behind it. Of a bin: the shares within it, and those within it
and 32 bases on either side. What lies beyond the ends of a sequence is not there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, hstack

from umbel.data.labelled.examples import Examples, is_known
from umbel.data.labelled.task import Task
from umbel.evaluate.baselines.interface import Array, drawn_rows, finite, require_splits
from umbel.evaluate.baselines.kmer_counts import dense_shares, joined, sparse_shares, word_columns
from umbel.evaluate.baselines.linear import LOSS, LinearFit, fit_linear
from umbel.evaluate.scores.predictions import Scores, flattened
from umbel.progress import Reporter, reporter_or_silent

WORD_SIZES = (1, 2, 3, 4, 5, 6)
FLANK_BP = 32
NEAR_BP = 10
MAX_ROWS = 200_000
"""Most rows (examples, bases or bins) of train, and of dev, that a fit uses; drawn by the seed where there are more."""
MAX_BYTES = 4 << 30
"""Features that would take more are not tried."""

_SCORED_AT_ONCE = 100_000


@dataclass(frozen=True)
class Kmer:
    """Logistic regression or ridge on k-mer frequencies.

    Attributes
    ----------
    word_sizes
        Values of k that are tried, ascending; of equals the first is kept.
    stranded
        Count a word and its reverse complement apart. Along sequences they always are.
    select
        What dev chooses by: ``loss``, or a metric of :func:`umbel.evaluate.scores.definitions.score`.
    """

    word_sizes: tuple[int, ...] = WORD_SIZES
    stranded: bool = False
    select: str = LOSS
    max_rows: int = MAX_ROWS
    name: str = "kmer"

    def fit(self, train: Examples, dev: Examples, *, seed: int = 0, reporter: Reporter | None = None) -> FittedKmer:
        """Fit every k and penalty on train, and keep what is best on dev; see :class:`Kmer`.

        Raises
        ------
        LabelError
            If train or dev is empty, or they are of two tasks.
        ConfigError
            If there is no such metric as ``select``.
        """
        require_splits(train, dev)
        started = time.perf_counter()
        canonical = not (self.stranded or train.task.is_along_sequence)
        parts = [_chosen_rows(each, self.max_rows, seed) for each in (train, dev)]
        progress = reporter_or_silent(reporter).start("k-mers", len(self.word_sizes), "sizes")
        best: tuple[int, LinearFit] | None = None
        tried: dict[str, float | None] = {}
        skipped: list[int] = []
        for k in self.word_sizes:
            if best is not None and max(part.bytes_of(k, canonical) for part in parts) > MAX_BYTES:
                skipped.append(k)
                continue
            train_x, dev_x = (part.features(k, canonical) for part in parts)
            fit = fit_linear(train.task, train_x, parts[0].targets, dev_x, parts[1].targets, select=self.select)
            tried[str(k)] = finite(fit.dev_score)
            if best is None or fit.dev_score > best[1].dev_score:
                best = k, fit
            progress.advance(note=f"k={k}")
        progress.close()
        assert best is not None
        k, fit = best
        facts = {
            "chosen": {"k": k, "penalty": fit.penalty, "by": self.select, "dev": finite(fit.dev_score)},
            "dev_of_k": tried,
            "k_too_large": skipped,
            "canonical": canonical,
            "n_train_rows": parts[0].n_rows,
            "n_dev_rows": parts[1].n_rows,
            "n_features": fit.n_features,
            "n_parameters": fit.n_parameters,
            "is_converged": fit.is_converged,
            "seconds": time.perf_counter() - started,
        }
        return FittedKmer(fit, k, canonical, facts)


@dataclass(frozen=True, eq=False)
class FittedKmer:
    """The linear model of one k."""

    fit: LinearFit
    k: int
    canonical: bool
    facts: dict[str, Any]

    def scores(self, examples: Examples) -> Scores:
        """Scores of every example, base or bin, ``(rows, outputs)``."""
        stretches = Stretches.of(examples)
        found = [
            self.fit.scores(
                stretches.take(np.arange(first, min(first + _SCORED_AT_ONCE, stretches.n_rows))).features(
                    self.k, self.canonical
                )
            )
            for first in range(0, stretches.n_rows, _SCORED_AT_ONCE)
        ]
        return np.concatenate([np.empty((0, examples.task.n_outputs), np.float32), *found])


@dataclass(frozen=True, eq=False)
class Stretches:
    """What the features of each row are counted in: a stretch of all sequences laid end to end.

    Attributes
    ----------
    codes
        All sequences.
    starts, ends
        Of the stretch of each row, ``(rows,)``.
    inner
        Start and end of the row itself, without what is beside it, ``(rows, 2)``.
    centres
        Index of the base itself; None where a row is no single base.
    bounds
        Start and end of the sequence of each row, ``(rows, 2)``.
    targets
        ``(rows,)`` or ``(rows, outputs)``.
    """

    task: Task
    codes: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    inner: npt.NDArray[np.int64]
    centres: npt.NDArray[np.int64] | None
    bounds: npt.NDArray[np.int64]
    targets: Array

    @classmethod
    def of(cls, examples: Examples) -> Stretches:
        """One row an example, base or bin."""
        task = examples.task
        codes, begins = joined(examples.codes)
        targets, units = flattened(task, examples.targets)
        bounds = np.column_stack([begins[:-1], begins[1:]])[units]
        if not task.is_along_sequence:
            return cls(task, codes, bounds[:, 0], bounds[:, 1], bounds, None, bounds, targets)
        bin_bp = task.bin_bp if task.kind == "bins" else 1
        first_row = np.searchsorted(units, np.arange(len(examples)))
        place = (np.arange(len(units)) - first_row[units]) * bin_bp + bounds[:, 0]
        inner = np.column_stack([place, np.minimum(place + bin_bp, bounds[:, 1])])
        starts = np.maximum(place - FLANK_BP, bounds[:, 0])
        ends = np.minimum(place + bin_bp + FLANK_BP, bounds[:, 1])
        return cls(task, codes, starts, ends, inner, place if bin_bp == 1 else None, bounds, targets)

    @property
    def n_rows(self) -> int:
        """Examples, bases or bins."""
        return len(self.starts)

    def take(self, rows: npt.NDArray[np.int64]) -> Stretches:
        """Give some of the rows."""
        return replace(
            self,
            starts=self.starts[rows],
            ends=self.ends[rows],
            inner=self.inner[rows],
            centres=None if self.centres is None else self.centres[rows],
            bounds=self.bounds[rows],
            targets=self.targets[rows],
        )

    def _n_words(self, k: int) -> float:
        return float(np.maximum(self.ends - self.starts - k + 1, 0).mean())

    def _is_dense(self, k: int, n_columns: int) -> bool:
        return self.centres is None and (n_columns <= 256 or self._n_words(k) > n_columns / 4)

    def bytes_of(self, k: int, canonical: bool) -> int:
        """Memory that the features take."""
        n_columns = int(word_columns(k, canonical).max()) + 1
        if self._is_dense(k, n_columns):
            return 4 * self.n_rows * n_columns * (1 + self.task.is_along_sequence)
        return int(8 * self.n_rows * min(self._n_words(k), n_columns))

    def features(self, k: int, canonical: bool) -> Any:
        """Shares of words, ``(rows, columns)`` float32; sparse where most are 0."""
        n_columns = int(word_columns(k, canonical).max()) + 1
        counted = dense_shares if self._is_dense(k, n_columns) else sparse_shares
        shares = counted(self.codes, self.starts, self.ends, k, canonical)
        if self.centres is not None:
            return hstack([shares, self._near_bases()], format="csr")
        if not self.task.is_along_sequence:
            return shares
        inside = counted(self.codes, self.inner[:, 0], self.inner[:, 1], k, canonical)
        return np.hstack([inside, shares]) if isinstance(shares, np.ndarray) else hstack([inside, shares], format="csr")

    def _near_bases(self) -> Any:
        """One column for each base at each place near the centre, ``(rows, places * 4)``."""
        assert self.centres is not None
        offsets = np.arange(-NEAR_BP, NEAR_BP + 1)
        place = self.centres[:, None] + offsets
        inside = (place >= self.bounds[:, :1]) & (place < self.bounds[:, 1:])
        base = np.where(inside, self.codes[np.where(inside, place, 0)], 4)
        row, column = np.nonzero(base < 4)
        ones = np.ones(len(row), np.float32)
        shape = (self.n_rows, 4 * len(offsets))
        return csr_matrix((ones, (row, 4 * column + base[row, column])), shape=shape)


def _chosen_rows(examples: Examples, most: int, seed: int) -> Stretches:
    """Rows with a target, and at most ``most`` of them."""
    stretches = Stretches.of(examples)
    if examples.task.is_along_sequence:
        known = is_known(examples.task, stretches.targets)
        stretches = stretches.take(np.flatnonzero(known if known.ndim == 1 else known.any(axis=1)))
    return stretches.take(drawn_rows(stretches.n_rows, most, seed))
