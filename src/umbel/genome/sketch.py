"""Sketches of a sequence: those of its canonical k-mers whose hash is small (FracMinHash)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from umbel.genome.sequence import Codes

MAX_K = 31

Hashes = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]

_ONE, _TWO, _THREE = np.uint64(1), np.uint64(2), np.uint64(3)
_FIRST, _SECOND, _LAST = np.uint64(30), np.uint64(27), np.uint64(31)
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_TIMES, _AND_TIMES = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
# Bits 0 to 2 of a nibble are the base; bit 3, the soft mask, plays no part.
_BASE = np.uint8(7)
_N = np.uint8(4)


def max_hash(scaled: int) -> int:
    """Largest hash that a sketch of one in ``scaled`` k-mers keeps.

    Examples
    --------
    >>> max_hash(1) == 2**64 - 1, max_hash(64) == 2**58 - 1
    (True, True)
    """
    return 2**64 // scaled - 1


def sketch(codes: Codes, k: int, scaled: int) -> tuple[Hashes, Positions]:
    """Hash every canonical k-mer and keep those with a hash of at most ``max_hash(scaled)``.

    A k-mer is read as a number, 2 bits a base, the first base highest; the canonical one is the lesser of the k-mer
    and its reverse complement. The hash is the finaliser of SplitMix64, which is a bijection: two hashes are the same
    if and only if the canonical k-mers are.

    Parameters
    ----------
    codes
        uint8 ``(L,)``, 0..4; nibbles with the soft bit will do. K-mers with N are skipped.
    k
        1 to 31.
    scaled
        One in so many k-mers is kept; 1 keeps all.

    Returns
    -------
    hashes
        uint64 ``(n,)``, in the order of the sequence, repeated where the k-mer is.
    positions
        int64 ``(n,)``: where each k-mer begins.

    Raises
    ------
    ValueError
        If ``k`` or ``scaled`` is out of range.

    References
    ----------
    Irber et al. 2022, "Lightweight compositional analysis of metagenomes with FracMinHash and minimum metagenome
    covers", doi:10.1101/2022.01.11.475838. Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195 (the hash).

    Examples
    --------
    >>> from umbel.genome.sequence import encode, revcomp
    >>> codes = encode(b"ACGTNACGGTACC")[0]
    >>> hashes, positions = sketch(codes, 5, 1)
    >>> positions.tolist(), set(hashes) == set(sketch(revcomp(codes), 5, 1)[0])
    ([5, 6, 7, 8], True)
    """
    require_k(k)
    if scaled < 1:
        raise ValueError(f"scaled is {scaled}: give at least 1")
    expected = len(codes) / scaled
    room = min(len(codes), int(expected + 6 * expected**0.5) + 64)
    parts: list[tuple[Hashes, Positions]] = []
    start = 0
    while not parts or start < len(codes):
        hashes, positions = np.empty(room, np.uint64), np.empty(room, np.int64)
        n, start = sketch_kernel(codes, start, k, np.uint64(max_hash(scaled)), hashes, positions)
        parts.append((hashes[:n], positions[:n]))
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def require_k(k: int) -> None:
    """Refuse a k-mer that does not fit into 62 bits, so that no code of 64 bits is a k-mer's."""
    if not 1 <= k <= MAX_K:
        raise ValueError(f"k is {k}: give 1 to {MAX_K}")


@njit(cache=True, nogil=True)
def mix(code):  # type: ignore[no-untyped-def]
    """Finaliser of SplitMix64: a bijection of 64 bits whose every output bit depends on every input bit."""
    x = code + _GAMMA
    x = (x ^ (x >> _FIRST)) * _TIMES
    x = (x ^ (x >> _SECOND)) * _AND_TIMES
    return x ^ (x >> _LAST)


@njit(cache=True, nogil=True)
def first_roll(k):  # type: ignore[no-untyped-def]
    """Bits of a k-mer, and how far left its first base stands: what :func:`roll` needs."""
    high = np.uint64(2 * (k - 1))
    return (_ONE << np.uint64(2 * k)) - _ONE, high


@njit(cache=True, nogil=True)
def roll(base, forward, backward, bits, high):  # type: ignore[no-untyped-def]
    """Take one base more into a k-mer and into its reverse complement, and leave the oldest out."""
    code = np.uint64(base)
    return ((forward << _TWO) | code) & bits, (backward >> _TWO) | ((_THREE - code) << high)


@njit(cache=True, nogil=True)
def sketch_kernel(codes, start, k, limit, hashes, positions):  # type: ignore[no-untyped-def]
    """Fill ``hashes`` and ``positions``; give their number, and the k-mer to go on from where they were too short."""
    bits, high = first_roll(k)
    forward = backward = np.uint64(0)
    filled = n = 0
    for i in range(start, len(codes)):
        base = codes[i] & _BASE
        if base >= _N:
            filled = 0
            continue
        forward, backward = roll(base, forward, backward, bits, high)
        filled += 1
        if filled < k:
            continue
        hashed = mix(min(forward, backward))
        if hashed <= limit:
            if n == len(hashes):
                return n, i - k + 1
            hashes[n], positions[n] = hashed, i - k + 1
            n += 1
    return n, len(codes)
