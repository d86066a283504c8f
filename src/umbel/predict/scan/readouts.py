"""What is read from a model along a genome: tracks of numbers, and perhaps a label of every base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from umbel.genome.sequence import Codes
from umbel.predict.tracks.track import Track


@dataclass(frozen=True)
class Reading:
    """What the model says of one window of L bases.

    Attributes
    ----------
    values
        float32 ``(tracks, n)``, n = L / ``step_bp`` rounded up; NaN where there is no value.
    labels
        uint8 ``(L,)``, or None.
    """

    values: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8] | None = None


class Readout(Protocol):
    """One way to read a model along a genome."""

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The tracks, in the order of the rows of :attr:`Reading.values`."""

    @property
    def step_bp(self) -> int:
        """Bases that a value stands for; 0 where it is the whole window."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels; none where bases have no labels."""

    @property
    def min_bases(self) -> int:
        """Bases of the shortest sequence that can be read."""

    @property
    def facts(self) -> dict[str, Any]:
        """What identifies the model and the way it is read, as JSON values."""

    def read(self, codes: Sequence[Codes]) -> list[Reading]:
        """Read windows, ``(L_i,)`` each, every one with at least one real base."""


def without_n(values: npt.NDArray[np.float32], codes: Codes, step_bp: int) -> npt.NDArray[np.float32]:
    """Take away the values of stretches that hold no A, C, G or T.

    Parameters
    ----------
    values
        ``(tracks, n)``; changed.
    codes
        ``(L,)``.
    step_bp
        Bases of a value; 0 for all.

    Examples
    --------
    >>> without_n(np.ones((1, 3), np.float32), np.array([0, 4, 4, 4, 1]), 2)
    array([[ 1., nan,  1.]], dtype=float32)
    """
    values[:, ~(real_bases(codes, step_bp) > 0)] = np.nan
    return values


def real_bases(codes: Codes, step_bp: int) -> npt.NDArray[np.int64]:
    """Count A, C, G and T in each stretch of ``step_bp`` bases; in all of them for 0."""
    known = (codes < 4).astype(np.int64)
    return np.add.reduceat(known, np.arange(0, len(codes), step_bp or len(codes)))


def bin_means(values: npt.NDArray[np.float32], codes: Codes, bin_bp: int) -> npt.NDArray[np.float32]:
    """Average ``(tracks, L)`` over the real bases of each bin, ``(tracks, bins)``; NaN where there are none.

    Examples
    --------
    >>> bin_means(np.array([[1.0, 2, 3, 4, 9]], np.float32), np.array([0, 0, 4, 1, 4]), 2)
    array([[1.5, 4. , nan]], dtype=float32)
    """
    known = codes < 4
    starts = np.arange(0, len(codes), bin_bp)
    sums = np.add.reduceat(np.where(known, values, 0).astype(np.float64), starts, axis=1)
    count = np.add.reduceat(known.astype(np.int64), starts)
    return np.where(count > 0, sums / np.maximum(count, 1), np.nan).astype(np.float32)
