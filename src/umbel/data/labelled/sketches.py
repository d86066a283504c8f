"""Sketches of many sequences as flat arrays, and the k-mers that fit their number and size."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from umbel.genome.sequence import Codes, revcomp
from umbel.genome.sketch import first_roll, max_hash, mix, roll

SHORTEST_K, LONGEST_K = 15, 21
MOST_HASHES = 1 << 26
"""K-mers kept of all sequences together; beyond it, one in 2, 4, 8, ... of them."""

_CHANCE = 0.01
_BASE = np.uint8(7)
_N = np.uint8(4)


@dataclass(frozen=True)
class KmerSettings:
    """Which k-mers sequences are compared by: of ``k`` bases, one in ``scaled`` of them."""

    k: int
    scaled: int


def fitting_kmers(n_bases: int, most_hashes: int = MOST_HASHES) -> KmerSettings:
    """Choose k-mers for sequences of ``n_bases`` in all.

    ``k`` is the least, of 15 to 21, with which a k-mer of random sequence is met by chance in another one with a
    probability of at most 1 %; ``scaled`` is the least power of 2 that leaves at most ``most_hashes`` k-mers.

    Examples
    --------
    >>> fitting_kmers(100_000), fitting_kmers(17_000_000), fitting_kmers(1_200_000_000)
    (KmerSettings(k=15, scaled=1), KmerSettings(k=16, scaled=1), KmerSettings(k=19, scaled=32))
    """
    needed = math.log(max(n_bases, 1) * 2 / _CHANCE, 4)
    scaled = 1
    while n_bases / scaled > most_hashes:
        scaled *= 2
    return KmerSettings(min(max(math.ceil(needed), SHORTEST_K), LONGEST_K), scaled)


def canonical_keys(codes: Sequence[Codes]) -> list[bytes]:
    """Name each sequence by its content, the same on either strand: 16 bytes.

    Examples
    --------
    >>> one, other = np.array([0, 0, 1], np.uint8), np.array([2, 3, 3], np.uint8)
    >>> keys = canonical_keys([one, other, one[:2]])
    >>> keys[0] == keys[1], keys[0] == keys[2]
    (True, False)
    """
    keys = []
    for sequence in codes:
        forward, backward = sequence.tobytes(), revcomp(sequence).tobytes()
        keys.append(hashlib.blake2b(min(forward, backward), digest_size=16).digest())
    return keys


@dataclass(frozen=True)
class Sketches:
    """Different k-mer hashes of each sequence, sorted: those of sequence i are from ``first[i]`` to ``first[i + 1]``.

    Attributes
    ----------
    hashes
        uint64.
    first
        int64 ``(n + 1,)``.
    settings
        Which k-mers they are of.
    """

    hashes: npt.NDArray[np.uint64]
    first: npt.NDArray[np.int64]
    settings: KmerSettings

    def sizes(self) -> npt.NDArray[np.int64]:
        """Count the hashes of each sequence, ``(n,)``."""
        return np.diff(self.first)

    def owners(self) -> npt.NDArray[np.int32]:
        """Give the sequence that each hash is of."""
        return np.repeat(np.arange(len(self.first) - 1, dtype=np.int32), self.sizes())


def sketch_all(codes: Sequence[Codes], settings: KmerSettings) -> Sketches:
    """Sketch every sequence; see :func:`umbel.genome.sketch.sketch` for what is hashed.

    Examples
    --------
    >>> codes = np.array([0, 0, 0, 0, 1], np.uint8)
    >>> sketch_all([codes, codes[:1]], KmerSettings(3, 1)).sizes().tolist()
    [2, 0]
    """
    limit = np.uint64(max_hash(settings.scaled))
    parts, sizes = [], np.zeros(len(codes) + 1, np.int64)
    # In portions, so that the bases of all are not there twice.
    for begin in range(0, len(codes), 4096):
        portion = codes[begin : begin + 4096]
        lengths = np.array([len(sequence) for sequence in portion], np.int64)
        hashes, counts = _sketch_portion(
            np.concatenate([np.ascontiguousarray(sequence) for sequence in portion]),
            np.concatenate(([0], np.cumsum(lengths))),
            settings.k,
            limit,
        )
        parts.append(hashes)
        sizes[begin + 1 : begin + 1 + len(portion)] = counts
    joined = np.concatenate(parts) if parts else np.empty(0, np.uint64)
    return Sketches(joined, np.cumsum(sizes), settings)


@njit(cache=True, nogil=True)
def _sketch_portion(bases: Any, first: Any, k: int, limit: Any) -> Any:
    """Different hashes of each sequence, sorted, end to end; and how many each has."""
    bits, high = first_roll(k)
    out = np.empty(len(bases), np.uint64)
    counts = np.zeros(len(first) - 1, np.int64)
    n = 0
    for s in range(len(first) - 1):
        forward = backward = np.uint64(0)
        filled, begin = 0, n
        for i in range(first[s], first[s + 1]):
            base = bases[i] & _BASE
            if base >= _N:
                filled = 0
                continue
            forward, backward = roll(base, forward, backward, bits, high)
            filled += 1
            if filled >= k:
                hashed = mix(min(forward, backward))
                if hashed <= limit:
                    out[n] = hashed
                    n += 1
        own = np.sort(out[begin:n])
        n = begin
        for i in range(len(own)):
            if i == 0 or own[i] != own[i - 1]:
                out[n] = own[i]
                n += 1
        counts[s] = n - begin
    return out[:n].copy(), counts
