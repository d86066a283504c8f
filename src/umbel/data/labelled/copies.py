"""Sequences that are copies of each other, exact or nearly, on either strand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from umbel.data.labelled.examples import Examples
from umbel.data.labelled.linking import likeness, link, roots
from umbel.data.labelled.sketches import MOST_HASHES, Sketches, canonical_keys, fitting_kmers, sketch_all
from umbel.genome.sequence import Codes

Indices = npt.NDArray[np.int64]

MIN_ANI = 0.9
MIN_HASHES = 8
"""Sequences with fewer different k-mers (low complexity, very short) have exact copies only."""
MAX_COPIES = 64
"""K-mers in more sequences than this are compared among neighbours only."""
NEIGHBOURS = 8
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
    group_of_unique = roots(parents)
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
    link(
        hashes,
        owners,
        sketches.hashes,
        sketches.first,
        needed,
        likeness(sketches.hashes, sketches.first),
        in_set,
        rule.max_copies,
        rule.neighbours,
        parents,
        partner,
    )
    return parents, partner
