"""Vectors brought to mean 0 and variance 1, number by number, before angles or distances are taken.

The states of a network have a large part in common, and a few numbers with most of the variance: without this the
cosine of any two embeddings is near 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation of each number, float32 ``(D,)``; the latter is 1 where all vectors are equal.

    Examples
    --------
    >>> Scaling.of([np.array([[1.0, 5.0], [3.0, 5.0]])]).apply(np.array([[3.0, 5.0]])).tolist()
    [[1.0, 0.0]]
    """

    mean: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, blocks: Iterable[np.ndarray]) -> Scaling:
        """Measure vectors that come block by block, ``(n, D)`` each.

        Raises
        ------
        ValueError
            If there is none.
        """
        count, mean, squares = 0, np.zeros(1), np.zeros(1)
        for block in blocks:
            if len(block):
                # Chan, Golub and LeVeque's update, which loses no digits where the mean is large.
                here, n = block.mean(0, dtype=np.float64), len(block)
                delta = here - mean
                squares = squares + ((block - here) ** 2).sum(0) + delta**2 * (count * n / (count + n))
                mean = mean + delta * (n / (count + n))
                count += n
        if not count:
            raise ValueError("there is no vector to measure")
        spread = np.sqrt(squares / count).astype(np.float32)
        return cls(mean.astype(np.float32), np.where(spread > 0, spread, np.float32(1)))

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Scale vectors ``(n, D)``, to float32."""
        return ((values - self.mean) / self.spread).astype(np.float32)
