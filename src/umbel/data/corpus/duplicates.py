"""Near-duplicates: which segments are copies of each other, which of them leak, and which stay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from umbel.data.corpus.joins import Pairs

UNIQUE = -1
"""Cluster of a segment without copies, and the copy of a segment that stays."""

NO_ROLE, TRAIN, VALID, TEST = range(4)
"""Roles in the order in which they claim a cluster: the test has it before validation, and that before training."""

Segments = npt.NDArray[np.int64]

# A segment belongs to the copies of s if it alone holds this share of what a copy must.
_FAIR_SHARE = 0.25


def containment_of_ani(ani: float, k: int) -> float:
    """Share of the k-mers of a stretch that a copy of average nucleotide identity ``ani`` is expected to hold.

    With substitutions that fall independently with chance ``1 - ani``, a k-mer is untouched with chance ``ani ** k``.

    References
    ----------
    Ondov et al. 2016, "Mash: fast genome and metagenome distance estimation using MinHash",
    doi:10.1186/s13059-016-0997-x, section "Mash distance"; Hera, Pierce-Ward and Koslicki 2023, "Deriving confidence
    intervals for mutation rates across a wide range of evolutionary distances using FracMinHash",
    doi:10.1101/gr.277651.123 (the same of the sketches kept here).

    Examples
    --------
    >>> round(containment_of_ani(0.95, 21), 3), round(containment_of_ani(0.98, 31), 3)
    (0.341, 0.535)
    """
    return ani**k


@dataclass(frozen=True)
class CopyRule:
    """When s is held by a segment t and the one behind it: they have this share of its hashes."""

    min_share: float
    """As :func:`containment_of_ani` gives it; above 0."""
    min_hashes: int
    """Segments that fewer hashes can be judged by are copies of none."""

    def holds(self, pairs: Pairs, judged: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
        """Tell of which pairs (s, t) the segments t and t + 1 together hold s; ``(n_pairs,)``."""
        n_judged = judged[pairs.s]
        return (pairs.union >= self.min_share * n_judged) & (n_judged >= self.min_hashes)

    def is_judged(self, judged: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
        """Tell which segments have enough hashes to be judged; ``(n_segments,)``."""
        return judged >= self.min_hashes


def clusters(pairs: Pairs, judged: npt.NDArray[np.uint32], rule: CopyRule) -> Segments:
    """Join every segment with the neighbours that hold a copy of it, and what is so joined, into one cluster.

    Of the two neighbours that together hold s, one that holds less than a quarter of the share asked for is not
    joined: a copy that just touches a segment does not make it a copy.

    Parameters
    ----------
    pairs
        As :func:`umbel.data.corpus.joins.reduce_pairs` leaves them, with a share of at most ``rule.min_share``.
    judged
        uint32 ``(n_segments,)``: hashes that each segment is judged by.
    rule
        What counts as a copy.

    Returns
    -------
    int64 ``(n_segments,)``: the cluster's smallest segment, or ``UNIQUE`` where there is no copy.

    Examples
    --------
    >>> column = lambda *values: np.array(values, np.uint32)
    >>> pairs = Pairs(column(0, 3), column(3, 0), column(40, 40), column(30, 2), column(0, 0))
    >>> clusters(pairs, column(100, 100, 100, 100, 100, 100), CopyRule(0.34, 16)).tolist()
    [0, -1, -1, 0, 0, -1]
    """
    holds = rule.holds(pairs, judged)
    found = Pairs(*(column[holds] for column in pairs))
    fair = _FAIR_SHARE * rule.min_share * judged[found.s]
    parents = np.arange(len(judged), dtype=np.int64)
    _join(parents, found.s, found.t, found.shared >= fair)
    _join(parents, found.s, found.t + np.uint32(1), found.shared_next >= np.maximum(fair, 1))
    return _roots(parents)


@njit(cache=True, nogil=True)
def _root(parents, i):  # type: ignore[no-untyped-def]
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i


@njit(cache=True, nogil=True)
def _join(parents, s, t, is_joined):  # type: ignore[no-untyped-def]
    """Union-find; the smaller of two roots stays, so that a cluster's root is its smallest member."""
    for i in range(len(s)):
        if is_joined[i]:
            a, b = _root(parents, np.int64(s[i])), _root(parents, np.int64(t[i]))
            parents[max(a, b)] = min(a, b)


@njit(cache=True, nogil=True)
def _roots(parents):  # type: ignore[no-untyped-def]
    sizes = np.zeros(len(parents), np.int64)
    roots = np.empty(len(parents), np.int64)
    for i in range(len(parents)):
        roots[i] = _root(parents, i)
        sizes[roots[i]] += 1
    for i in range(len(parents)):
        if sizes[roots[i]] == 1:
            roots[i] = UNIQUE
    return roots


def find_leaks(cluster: Segments, role: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Tell which segments have, in their cluster, a segment of a role that comes before their own.

    Parameters
    ----------
    cluster
        As :func:`clusters` gives it.
    role
        ``(n_segments,)``: ``NO_ROLE``, ``TRAIN``, ``VALID`` or ``TEST``.

    Returns
    -------
    bool ``(n_segments,)``: training segments with a copy in validation or test, validation ones with a copy in the
    test. Segments without a role are no leaks, and make none.

    Examples
    --------
    >>> cluster = np.array([0, 0, -1, 3, 3, 3])
    >>> find_leaks(cluster, np.array([TRAIN, TEST, TRAIN, TRAIN, TRAIN, NO_ROLE])).tolist()
    [True, False, False, False, False, False]
    """
    first_claim = np.zeros(len(cluster), np.int64)
    in_cluster = cluster != UNIQUE
    np.maximum.at(first_claim, cluster[in_cluster], role[in_cluster])
    leaks = np.zeros(len(cluster), bool)
    leaks[in_cluster] = (role[in_cluster] != NO_ROLE) & (first_claim[cluster[in_cluster]] > role[in_cluster])
    return leaks


def keep_best(
    pairs: Pairs,
    judged: npt.NDArray[np.uint32],
    rule: CopyRule,
    rank: npt.NDArray[np.number],
    group: npt.NDArray[np.integer],
) -> Segments:
    """Keep the best of all copies: go through the segments by rank, and leave out what those kept already hold.

    A segment is left out if a segment that was kept before it, or two neighbours that were, hold it; so whatever is
    left out has a copy that stays. Of two segments of which only the better is held by the other (a short contig in a
    long one), both stay: give a lower rank to what should hold the others.

    Parameters
    ----------
    pairs, judged, rule
        As for :func:`clusters`.
    rank
        ``(n_segments,)``; the lower is kept, and of equal ones the first.
    group
        ``(n_segments,)``: copies are looked for within a group only, such as a role, or a role in a species. Segments
        of a negative group are left as they are, and hold nothing.

    Returns
    -------
    int64 ``(n_segments,)``: the kept segment that has most of a segment that is left out, or ``UNIQUE``.

    Examples
    --------
    >>> column = lambda *values: np.array(values, np.uint32)
    >>> pairs = Pairs(column(0, 1), column(1, 0), column(90, 90), column(0, 0), column(0, 0))
    >>> judged, rule = column(100, 100, 100), CopyRule(0.34, 16)
    >>> keep_best(pairs, judged, rule, np.array([2, 1, 0]), np.zeros(3, int)).tolist()
    [1, -1, -1]
    """
    order = np.argsort(rank, kind="stable")
    first_pair = np.searchsorted(pairs.s, np.arange(len(judged) + 1))
    return _keep_best(
        order, first_pair, *pairs[1:], rule.min_share * judged, rule.is_judged(judged), group.astype(np.int64)
    )


@njit(cache=True, nogil=True)
def _keep_best(  # type: ignore[no-untyped-def]
    order, first_pair, t, shared, shared_next, shared_both, needed, is_judged, group
):
    copy_of = np.full(len(order), UNIQUE, np.int64)
    is_kept = np.zeros(len(order), np.bool_)
    for s in order:
        if group[s] < 0:
            continue
        most = np.int64(0)
        for i in range(first_pair[s], first_pair[s + 1]) if is_judged[s] else range(0):
            here = is_kept[t[i]] and group[t[i]] == group[s]
            behind = shared_next[i] > 0 and is_kept[t[i] + 1] and group[t[i] + 1] == group[s]
            found = np.int64(0)
            if here and behind:
                found = np.int64(shared[i]) + shared_next[i] - shared_both[i]
            elif here:
                found = np.int64(shared[i])
            elif behind:
                found = np.int64(shared_next[i])
            if found >= needed[s] and found > most:
                most = found
                copy_of[s] = t[i] + 1 if behind and (not here or shared_next[i] > shared[i]) else np.int64(t[i])
        is_kept[s] = copy_of[s] == UNIQUE
    return copy_of
