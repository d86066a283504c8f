"""A set of canonical k-mers that can be asked quickly, and where a sequence has them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numba import njit

from umbel.genome.runs import Runs
from umbel.genome.sequence import Codes
from umbel.genome.sketch import Hashes, first_roll, max_hash, mix, require_k, roll

_BASE = np.uint8(7)
_N = np.uint8(4)
_HALF = np.uint64(32)
_BLOCK = 1024
# mix(2**63): the hash of a number that no k-mer has, as they need 62 bits.
_FREE = np.uint64(0x481EC0A212A9F3DB)


class KmerSet:
    """Canonical k-mers, held by their hashes (see :func:`umbel.genome.sketch.sketch`).

    Parameters
    ----------
    hashes
        uint64 ``(n,)``, ascending, each once; a memory map will do.
    k
        Bases of a k-mer, 1 to 31.
    scaled
        The set holds one in so many k-mers of what it was made from; others are not asked for.

    Raises
    ------
    ValueError
        If the hashes do not ascend, or ``k`` is out of range.

    Examples
    --------
    >>> from umbel.genome.sequence import encode, revcomp
    >>> from umbel.genome.sketch import sketch
    >>> codes = encode(b"ACGGTACCATTTG")[0]
    >>> kmers = KmerSet(np.unique(sketch(codes[3:11], 7, 1)[0]), 7)
    >>> len(kmers), kmers.runs(codes).tolist(), kmers.runs(revcomp(codes)).tolist(), kmers.count(codes)
    (2, [[3, 11]], [[2, 10]], (2, 7))
    """

    def __init__(self, hashes: Hashes, k: int, scaled: int = 1):
        require_k(k)
        if len(hashes) > 1 and not _ascends(hashes):
            raise ValueError("hashes must ascend, each once")
        self.hashes = hashes
        self.k = k
        self.scaled = scaled
        # Three slots for two hashes: a place in memory is the cost of a question, so most are to be answered by one.
        self._table = np.full(len(hashes) * 3 // 2 + 8, _FREE)
        self._limit, self._scaled = np.uint64(max_hash(scaled)), np.uint64(scaled)
        _fill(hashes, self._scaled, self._table)

    def __len__(self) -> int:
        return len(self.hashes)

    def count(self, codes: Codes) -> tuple[int, int]:
        """Count the k-mers of ``codes`` that are in the set, and those that might be (with N or left out: not)."""
        hits, asked = _count(codes, self.k, self._limit, self._table, self._scaled)
        return int(hits), int(asked)

    def runs(self, codes: Codes, gap_bp: int = 0) -> Runs:
        """Find the runs of bases that k-mers of the set cover, those nearer than ``gap_bp`` made into one.

        Parameters
        ----------
        codes
            uint8 ``(L,)``, or nibbles.
        gap_bp
            With fewer bases than that between them, two runs become one; those that touch always do.

        Returns
        -------
        int64 ``(n, 2)``: start and end, ascending.
        """
        return self.runs_of_pieces(iter([(0, codes)]), gap_bp)

    def runs_of_pieces(self, pieces: Iterator[tuple[int, Codes]], gap_bp: int = 0) -> Runs:
        """Like :meth:`runs` for a contig that comes as (start, nibbles), each with ``k - 1`` bases of the next."""
        found = [np.empty((0, 2), np.int64)]
        begin = end = -1
        for start, nibbles in pieces:
            runs, begin, end = _runs(nibbles, start, self.k, self._limit, self._table, self._scaled, gap_bp, begin, end)
            # A copy, because the runs are the front of room for as many as there could have been.
            found.append(runs.copy())
        if end >= 0:
            found.append(np.array([[begin, end]], np.int64))
        return np.concatenate(found)


@njit(cache=True, nogil=True)
def _ascends(hashes):  # type: ignore[no-untyped-def]
    n_descents = 0
    for i in range(1, len(hashes)):
        n_descents += hashes[i] <= hashes[i - 1]
    return n_descents == 0


@njit(cache=True, nogil=True)
def _slot(hashed, scaled, n_slots):  # type: ignore[no-untyped-def]
    """Where to look first: hashes are even over ``2**64 / scaled``, and are spread in order over the slots."""
    return np.int64((hashed * scaled >> _HALF) * n_slots >> _HALF)


@njit(cache=True, nogil=True)
def _fill(hashes, scaled, table):  # type: ignore[no-untyped-def]
    n_slots = np.uint64(len(table))
    for i in range(len(hashes)):
        slot = _slot(hashes[i], scaled, n_slots)
        while table[slot] != _FREE:
            slot = slot + 1 if slot + 1 < len(table) else 0
        table[slot] = hashes[i]


@njit(cache=True, nogil=True)
def _hash_block(codes, start, end, k, limit, state, hashes, places):  # type: ignore[no-untyped-def]
    """Hash the k-mers that end at ``start`` to ``end``, and keep those of the sketch with the place of their end."""
    bits, high = first_roll(k)
    forward, backward = state[0], state[1]
    filled, n = np.int64(state[2]), 0
    for i in range(start, end):
        base = codes[i] & _BASE
        if base >= _N:
            filled = np.int64(0)
            continue
        forward, backward = roll(base, forward, backward, bits, high)
        filled += 1
        hashed = mix(min(forward, backward))
        hashes[n], places[n] = hashed, i
        # Always written, and overwritten where it does not count: a branch would be guessed wrong half of the time.
        n += (filled >= k) & (hashed <= limit)
    state[0], state[1], state[2] = forward, backward, np.uint64(filled)
    return n


@njit(cache=True, nogil=True)
def _ask_block(asked, n, table, scaled, waiting, is_in):  # type: ignore[no-untyped-def]
    """Look up ``n`` hashes. Without branches at first, so that the processor fetches many slots at once."""
    n_slots = np.uint64(len(table))
    n_waiting = 0
    for j in range(n):
        found = table[_slot(asked[j], scaled, n_slots)]
        is_in[j] = found == asked[j]
        waiting[n_waiting] = j
        n_waiting += (found != asked[j]) & (found != _FREE)
    for w in range(n_waiting):
        j = waiting[w]
        slot = _slot(asked[j], scaled, n_slots)
        while table[slot] != _FREE and table[slot] != asked[j]:
            slot = slot + 1 if slot + 1 < len(table) else 0
        is_in[j] = table[slot] == asked[j]


@njit(cache=True, nogil=True)
def _count(codes, k, limit, table, scaled):  # type: ignore[no-untyped-def]
    block, places = np.empty(_BLOCK, np.uint64), np.empty(_BLOCK, np.int64)
    waiting, is_in = np.empty(_BLOCK, np.int64), np.empty(_BLOCK, np.bool_)
    state = np.zeros(3, np.uint64)
    hits = asked = 0
    for first in range(0, len(codes), _BLOCK):
        n = _hash_block(codes, first, min(len(codes), first + _BLOCK), k, limit, state, block, places)
        _ask_block(block, n, table, scaled, waiting, is_in)
        asked += n
        for j in range(n):
            hits += is_in[j]
    return hits, asked


@njit(cache=True, nogil=True)
def _runs(codes, start, k, limit, table, scaled, gap_bp, begin, end):  # type: ignore[no-untyped-def]
    """Give the runs that are over, and the one that may go on; ``end`` is -1 where there is none yet."""
    block, places = np.empty(_BLOCK, np.uint64), np.empty(_BLOCK, np.int64)
    waiting, is_in = np.empty(_BLOCK, np.int64), np.empty(_BLOCK, np.bool_)
    state = np.zeros(3, np.uint64)
    runs = np.empty((len(codes) // (k + 1) + 2, 2), np.int64)
    n_runs = 0
    for first in range(0, len(codes), _BLOCK):
        n = _hash_block(codes, first, min(len(codes), first + _BLOCK), k, limit, state, block, places)
        _ask_block(block, n, table, scaled, waiting, is_in)
        for j in range(n):
            if not is_in[j]:
                continue
            place = start + places[j] - k + 1
            if end < 0:
                begin = place
            elif place > end and place - end >= gap_bp:
                runs[n_runs, 0], runs[n_runs, 1] = begin, end
                n_runs += 1
                begin = place
            end = place + k
    return runs[:n_runs], begin, end
