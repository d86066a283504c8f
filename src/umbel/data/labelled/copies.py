"""Sequences that are copies of each other, exact or nearly, on either strand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from umbel.data.labelled.examples import Examples
from umbel.data.labelled.sketches import MOST_HASHES, Sketches, canonical_keys, fitting_kmers, sketch_all
from umbel.genome.sequence import Codes
from umbel.genome.sketch import mix

Indices = npt.NDArray[np.int64]

MIN_ANI = 0.9
MIN_HASHES = 8
"""Sequences with fewer different k-mers (low complexity, very short) have exact copies only."""
MAX_COPIES = 64
"""K-mers in more sequences than this are compared among neighbours only."""
NEIGHBOURS = 8
_N_ORDERS = 4
_MEMORY = 1 << 20
_NONE = -1


@dataclass(frozen=True)
class CopyRule:
    """When two sequences count as near-copies.

    Attributes
    ----------
    min_ani
        Average nucleotide identity over the shorter sequence; the share of its k-mers asked for is ``min_ani ** k``.
    max_copies, neighbours
        A k-mer in more than ``max_copies`` sequences proposes as pairs only sequences that stand at most
        ``neighbours`` apart in an order of likeness.
    most_hashes
        See :data:`umbel.data.labelled.sketches.MOST_HASHES`.
    """

    min_ani: float = MIN_ANI
    max_copies: int = MAX_COPIES
    neighbours: int = NEIGHBOURS
    most_hashes: int = MOST_HASHES


@dataclass(frozen=True)
class Copies:
    """Which examples of one or several sets are copies.

    Attributes
    ----------
    exact
        int64 ``(n,)``: the first example with the same sequence, on either strand; an example that is the first has
        its own index.
    group
        int64 ``(n,)``: examples that are near-copies of each other, or joined by a chain of near-copies, have the same
        number: the index of the first of them.
    partner
        int64 ``(n, n_sets)``: a near-copy of the example in each set (exact ones included), other than itself, or -1.
    k, scaled
        The k-mers that were compared.
    """

    exact: Indices
    group: Indices
    partner: Indices
    k: int
    scaled: int


def find_groups(examples: Examples, rule: CopyRule | None = None) -> Indices:
    """Give near-copies one number, the index of the first of them: int64 ``(n,)``.

    See :func:`find_copies` for what near-copies are.

    Examples
    --------
    >>> from umbel.data.labelled.task import Task
    >>> codes = np.random.default_rng(0).integers(0, 4, (2, 100)).astype(np.uint8)
    >>> several = (codes[0], codes[1], 3 - codes[0, ::-1])
    >>> task = Task("regression", ("y",))
    >>> examples = Examples(task, ("a", "b", "c"), several, np.zeros((3, 1), np.float32), "x.csv", np.arange(3))
    >>> find_groups(examples).tolist()
    [0, 1, 0]
    """
    return find_copies([examples.codes], rule).group


def find_copies(sets: Sequence[Sequence[Codes]], rule: CopyRule | None = None) -> Copies:
    """Find exact copies and near-copies, on either strand, within and between sets of sequences.

    Two sequences are near-copies if they share at least ``min_ani ** k`` times as many different canonical k-mers as
    the one with fewer has: what copies with substitutions at independent places are expected to share at an identity
    of ``min_ani``. So one that holds the other, or overlaps a good part of it (0.21 of its k-mers with the settings
    given and k = 15), is a near-copy as well. At exactly ``min_ani``, half of the copies are found; each percent of
    identity more brings it near to all.

    The k-mers are looked up in an index, so time grows with the number of k-mers and of copies, not with its square.
    Very frequent k-mers (repeats) would make it so: one in more than ``max_copies`` sequences proposes only neighbours
    in an order of likeness (least hash under one of four permutations). What this loses: two members of a large
    repeat family that share such k-mers alone and never stand close to each other, or to another member that links
    them. They are in the same group in most cases, but ``partner`` may not name them. Sequences with fewer than 8
    different k-mers have exact copies only. Where ``scaled`` is above 1, shares are estimated from a sample of k-mers.

    The groups do not depend on the order of the sequences.

    Parameters
    ----------
    sets
        Base codes, uint8 ``(L_i,)`` each; the indices of the answer go through the sets one after the other.

    References
    ----------
    Ondov et al. 2016, "Mash", doi:10.1186/s13059-016-0997-x (identity from shared k-mers); Broder 1997, "On the
    resemblance and containment of documents", doi:10.1109/SEQUEN.1997.666900 (containment, least hashes).

    Examples
    --------
    >>> codes = np.random.default_rng(0).integers(0, 4, (3, 100)).astype(np.uint8)
    >>> copies = find_copies([[codes[0], codes[1]], [codes[2], codes[0][10:]]])
    >>> copies.exact.tolist(), copies.group.tolist(), copies.partner.tolist()
    ([0, 1, 2, 3], [0, 1, 2, 0], [[-1, 3], [-1, -1], [-1, -1], [0, -1]])
    """
    rule = rule or CopyRule()
    codes = [sequence for one in sets for sequence in one]
    sets_of = np.repeat(np.arange(len(sets)), [len(one) for one in sets])
    settings = fitting_kmers(sum(map(len, codes)), rule.most_hashes)
    unique, exact = _unique(codes)
    # By content, so that no order of the files shows in the groups.
    sketches = sketch_all([codes[i] for i in unique], settings)
    in_set = np.zeros((len(unique), len(sets)), bool)
    place = np.empty(len(codes), np.int64)
    place[unique] = np.arange(len(unique))
    unique_of = place[exact]
    in_set[unique_of, sets_of] = True
    parents, partner = _near(sketches, in_set, rule, settings.k)
    group_of_unique = _roots(parents)
    first_of_group = np.full(len(unique), len(codes), np.int64)
    np.minimum.at(first_of_group, group_of_unique[unique_of], np.arange(len(codes)))
    group = first_of_group[group_of_unique[unique_of]]
    return Copies(exact, group, _partners(unique_of, sets_of, partner, len(sets)), settings.k, settings.scaled)


def _unique(codes: Sequence[Codes]) -> tuple[Indices, Indices]:
    """First example of each different sequence, ordered by content; and for every example, that first one."""
    keys = canonical_keys(codes)
    first: dict[bytes, int] = {}
    exact = np.array([first.setdefault(key, i) for i, key in enumerate(keys)], np.int64)
    return np.array([first[key] for key in sorted(first)], np.int64), exact


def _partners(unique_of: Indices, sets_of: Indices, partner: Indices, n_sets: int) -> Indices:
    """Turn partners among unique sequences into partners among examples, other than the example itself."""
    n = len(unique_of)
    found = np.full((n, n_sets), _NONE, np.int64)
    for s in range(n_sets):
        members = np.flatnonzero(sets_of == s)
        # The first two examples of each unique sequence in this set, to have another than oneself.
        order = members[np.argsort(unique_of[members], kind="stable")]
        owner = unique_of[order]
        starts = np.flatnonzero(np.diff(owner, prepend=-1) != 0)
        one = np.full(len(partner), _NONE, np.int64)
        two = np.full(len(partner), _NONE, np.int64)
        one[owner[starts]] = order[starts]
        has_two = np.append(starts[1:], len(owner)) - starts > 1
        two[owner[starts[has_two]]] = order[starts[has_two] + 1]
        itself = one[unique_of]
        found[:, s] = np.where(itself == np.arange(n), two[unique_of], itself)
        near = partner[unique_of, s]
        through = np.where(near >= 0, one[near], _NONE)
        found[:, s] = np.where(found[:, s] >= 0, found[:, s], through)
    return found


def _near(sketches: Sketches, in_set: npt.NDArray[np.bool_], rule: CopyRule, k: int) -> tuple[Indices, Indices]:
    """Join near-copies: parents of a union-find ``(n,)``, and a partner in each set ``(n, n_sets)``, or -1."""
    n = len(in_set)
    parents = np.arange(n, dtype=np.int64)
    partner = np.full(in_set.shape, _NONE, np.int64)
    if not len(sketches.hashes):
        return parents, partner
    order = np.argsort(sketches.hashes, kind="stable")
    hashes, owners = sketches.hashes[order], sketches.owners()[order]
    del order
    share = rule.min_ani**k
    needed = np.where(sketches.sizes() >= MIN_HASHES, np.ceil(share * sketches.sizes() - 1e-9), 0).astype(np.int64)
    _link(
        hashes,
        owners,
        sketches.hashes,
        sketches.first,
        needed,
        _likeness(sketches.hashes, sketches.first),
        in_set,
        rule.max_copies,
        rule.neighbours,
        parents,
        partner,
    )
    return parents, partner


@njit(cache=True, nogil=True)
def _likeness(hashes: Any, first: Any) -> Any:
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
def _roots(parents: Any) -> Any:
    roots = np.empty(len(parents), np.int64)
    for i in range(len(parents)):
        roots[i] = _root(parents, i)
    return roots


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
def _link(
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
    """Go through the index, hash by hash, and judge the pairs that each proposes."""
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
