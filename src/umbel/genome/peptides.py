"""Short peptides that a genome could encode, in all six frames: seeds that outlive the drift of DNA."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from umbel.genome.genetic_code import genetic_code
from umbel.genome.sequence import Codes
from umbel.genome.sketch import mix

LENGTH = 10
"""Amino acids of a peptide. Two unrelated ones agree once in 10^13; at 85 % identity one in five is whole."""
MIN_KINDS = 5
"""Peptides of fewer different amino acids are runs and simple repeats, and are left out."""

_N_KINDS = 21
_STOP = np.uint8(255)

Seeds = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]


def _letters() -> npt.NDArray[np.uint8]:
    """Amino acids ``(64,)`` of the codons as numbers from 0; a stop is 255."""
    letters = genetic_code(1).amino_acids
    kinds = sorted(set(letters.tolist()) - {ord("*")})
    return np.array([kinds.index(x) if x in kinds else _STOP for x in letters.tolist()], np.uint8)


_LETTERS = _letters()


def peptide_seeds(codes: Codes, one_in: int = 4) -> tuple[Seeds, Places]:
    """Hash the peptides of ten amino acids that either strand encodes, in any frame, and keep one in ``one_in``.

    Which are kept depends on the peptide alone, so two genomes keep the same ones.

    Parameters
    ----------
    codes
        uint8 ``(L,)``, 0..4. Peptides over N or a stop codon are skipped, and those of fewer than five kinds.
    one_in
        1 keeps all.

    Returns
    -------
    seeds
        uint64 ``(n,)``.
    places
        int64 ``(n,)``: the first of the 30 bases, on the forward strand.

    Raises
    ------
    ValueError
        If ``one_in`` is below 1.

    Examples
    --------
    >>> from umbel.genome.sequence import encode, revcomp
    >>> codes = encode(b"ATGGCTCGTAATGATTGTCAAGAAGGTCAT")[0]
    >>> set(peptide_seeds(codes, 1)[0]) == set(peptide_seeds(revcomp(codes), 1)[0])
    True
    """
    if one_in < 1:
        raise ValueError(f"one_in is {one_in}; it must be 1 or more")
    return _seeds(np.ascontiguousarray(codes), _LETTERS, np.uint64(one_in))


@njit(cache=True, nogil=True)
def _seeds(codes, letters, one_in):  # type: ignore[no-untyped-def]
    n = max(len(codes) - 3 * LENGTH + 1, 0)
    seeds = np.empty(2 * n // one_in + 16, np.uint64)
    places = np.empty(len(seeds), np.int64)
    found = 0
    # Of each codon, what it says forward and on the other strand.
    forward, backward = np.empty(len(codes), np.uint8), np.empty(len(codes), np.uint8)
    for i in range(len(codes) - 2):
        a, b, c = np.int64(codes[i]), np.int64(codes[i + 1]), np.int64(codes[i + 2])
        if a > 3 or b > 3 or c > 3:
            forward[i] = backward[i] = _STOP
        else:
            forward[i] = letters[16 * a + 4 * b + c]
            backward[i] = letters[16 * (3 - c) + 4 * (3 - b) + (3 - a)]
    for start in range(n):
        for strand in range(2):
            value, kinds, whole = np.uint64(0), np.int64(0), True
            for j in range(LENGTH):
                x = forward[start + 3 * j] if strand == 0 else backward[start + 3 * (LENGTH - 1 - j)]
                if x == _STOP:
                    whole = False
                    break
                value = value * np.uint64(_N_KINDS) + np.uint64(x)
                kinds |= np.int64(1) << np.int64(x)
            if not whole:
                continue
            n_kinds = 0
            while kinds:
                kinds &= kinds - 1
                n_kinds += 1
            hashed = mix(value)
            if n_kinds >= MIN_KINDS and hashed % one_in == 0:
                if found == len(seeds):
                    seeds = np.concatenate((seeds, np.empty(len(seeds), np.uint64)))
                    places = np.concatenate((places, np.empty(len(places), np.int64)))
                seeds[found], places[found] = hashed, start
                found += 1
    return seeds[:found].copy(), places[:found].copy()
