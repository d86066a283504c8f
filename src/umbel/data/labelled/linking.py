"""Near-copies joined: the k-mers of many sequences gone through one by one, and the pairs that share them judged."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from umbel.genome.sketch import mix

_N_ORDERS = 4
# Pairs that were judged and are no copies, as far as they fit.
_MEMORY = 1 << 20


@njit(cache=True, nogil=True)
def likeness(hashes: Any, first: Any) -> Any:
    """Least hash of each sequence under a few permutations, ``(n, orders)``: alike sequences often have the same."""
    n = len(first) - 1
    least = np.full((n, _N_ORDERS), np.uint64(0xFFFFFFFFFFFFFFFF))
    for s in range(n):
        for i in range(first[s], first[s + 1]):
            for o in range(_N_ORDERS):
                value = mix(hashes[i] ^ np.uint64(o + 1))
                least[s, o] = min(value, least[s, o])
    return least


@njit(cache=True, nogil=True)
def _root(parents: Any, i: Any) -> Any:
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i


@njit(cache=True, nogil=True)
def roots(parents: Any) -> Any:
    """Give the root of each sequence in a union-find: the least of those joined, int64 ``(n,)``."""
    found = np.empty(len(parents), np.int64)
    for i in range(len(parents)):
        found[i] = _root(parents, i)
    return found


@njit(cache=True, nogil=True)
def _share_enough(hashes: Any, first: Any, a: Any, b: Any, needed: Any) -> Any:
    """Tell whether two sorted runs have ``needed`` hashes in common."""
    i, i_end, j, j_end = first[a], first[a + 1], first[b], first[b + 1]
    left = needed
    while left > 0 and i_end - i >= left and j_end - j >= left:
        if hashes[i] == hashes[j]:
            left -= 1
            i += 1
            j += 1
        elif hashes[i] < hashes[j]:
            i += 1
        else:
            j += 1
    return left <= 0


@njit(cache=True, nogil=True)
def _is_wanted(parents: Any, partner: Any, in_set: Any, a: Any, b: Any) -> Any:
    """Tell whether it is of use to know if a and b are copies."""
    if _root(parents, a) != _root(parents, b):
        return True
    for s in range(in_set.shape[1]):
        is_new = (in_set[b, s] and partner[a, s] < 0) or (in_set[a, s] and partner[b, s] < 0)
        if is_new:
            return True
    return False


@njit(cache=True, nogil=True)
def _judge(
    a: Any,
    b: Any,
    sketch: Any,
    first: Any,
    needed: Any,
    in_set: Any,
    parents: Any,
    partner: Any,
    failed: Any,
) -> None:
    """Compare two sequences where it is of use, and join them if they are near-copies."""
    if not _is_wanted(parents, partner, in_set, a, b):
        return
    key = (np.uint64(min(a, b)) << np.uint64(32)) | np.uint64(max(a, b))
    slot = np.int64(mix(key) % np.uint64(len(failed)))
    # A pair that shares a few k-mers is proposed by each of them.
    if failed[slot] == key:
        return
    fewer = a if first[a + 1] - first[a] <= first[b + 1] - first[b] else b
    if needed[fewer] == 0 or not _share_enough(sketch, first, a, b, needed[fewer]):
        failed[slot] = key
        return
    one, other = _root(parents, a), _root(parents, b)
    parents[max(one, other)] = min(one, other)
    for s in range(in_set.shape[1]):
        if in_set[b, s] and partner[a, s] < 0:
            partner[a, s] = b
        if in_set[a, s] and partner[b, s] < 0:
            partner[b, s] = a


@njit(cache=True, nogil=True)
def link(
    hashes: Any,
    owners: Any,
    sketch: Any,
    first: Any,
    needed: Any,
    likeness: Any,
    in_set: Any,
    max_copies: int,
    neighbours: int,
    parents: Any,
    partner: Any,
) -> None:
    """Go through the index, hash by hash, and judge the pairs that each proposes.

    Parameters
    ----------
    hashes, owners
        All hashes, sorted, and the sequence that each is of; among equal hashes owners ascend.
    sketch, first
        The hashes by sequence; see :class:`~umbel.data.labelled.sketches.Sketches`.
    needed
        int64 ``(n,)``: hashes that another must share with a sequence that has fewer than it; 0 judges none.
    likeness
        As :func:`likeness` gives it.
    in_set
        bool ``(n, sets)``: the sets that a sequence is in.
    max_copies, neighbours
        See :class:`~umbel.data.labelled.copies.CopyRule`.
    parents, partner
        int64 ``(n,)`` and ``(n, sets)``, filled: the union-find, and a near-copy in each set.
    """
    failed = np.zeros(_MEMORY, np.uint64)
    begin = 0
    while begin < len(hashes):
        end = begin + 1
        while end < len(hashes) and hashes[end] == hashes[begin]:
            end += 1
        n = end - begin
        if n > max_copies:
            order = int(hashes[begin] % np.uint64(_N_ORDERS))
            keys = np.empty(n, np.uint64)
            for i in range(n):
                keys[i] = likeness[owners[begin + i], order]
            # Owners ascend by content, and a stable sort keeps that among equals.
            members = owners[begin:end][np.argsort(keys, kind="mergesort")]
            reach = neighbours
        else:
            members = owners[begin:end]
            reach = n
        for i in range(n):
            for j in range(i + 1, min(n, i + 1 + reach)):
                _judge(members[i], members[j], sketch, first, needed, in_set, parents, partner, failed)
        begin = end
