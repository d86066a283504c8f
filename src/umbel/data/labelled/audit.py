"""Copies between training, dev and test examples: counted, shown, and refused where a dev set repeats training rows."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.data.labelled.copies import Copies, CopyRule, find_copies
from umbel.data.labelled.examples import Examples
from umbel.data.labelled.problems import row_list
from umbel.data.labelled.sketches import canonical_keys
from umbel.errors import LabelError

SHOWN = 20
"""Examples of each sort of copy that an audit shows."""


def audit(splits: Mapping[str, Examples], rule: CopyRule | None = None) -> dict[str, Any]:
    """Count copies within and between the parts of a data set; see :func:`.copies.find_copies` for what they are.

    Parameters
    ----------
    splits
        Name of a part, such as ``train``, ``dev`` and ``test``, to its examples.

    Returns
    -------
    A dict ready for JSON:

    ``sizes``
        Examples of each part.
    ``within``
        For each part: ``repeats``, examples that repeat an earlier one exactly; ``near_groups`` and
        ``in_near_groups``, groups of two and more near-copies and the examples in them; ``conflicts``, sequences with
        two targets.
    ``between``
        For each pair such as ``train/test``: of the later part's examples how many have an exact copy (``exact``), a
        near-copy, exact ones included (``near``), or a chain of near-copies to one (``chained``) in the earlier part;
        ``exact_share`` and the like as shares of the later part; ``conflicts``, how many have an exact copy with
        another target; and in ``exact_shown``, ``near_shown``, ``conflicts_shown`` the first 20 of each:
        ``[id, row, id of the copy, its row]``, the later part's first.
    ``settings``
        ``min_ani``, ``k``, ``scaled``.

    Examples
    --------
    >>> from umbel.data.labelled.task import Task
    >>> codes = np.random.default_rng(0).integers(0, 4, (3, 100)).astype(np.uint8)
    >>> def part(sequences, source):
    ...     n = len(sequences)
    ...     ids = tuple(f"row-{i + 2}" for i in range(n))
    ...     targets = np.zeros(n, int)
    ...     return Examples(Task("binary", ("0", "1")), ids, tuple(sequences), targets, source, np.arange(n) + 2)
    >>> found = audit({"train": part(codes, "a.csv"), "test": part([3 - codes[1, ::-1], codes[2, 9:]], "b.csv")})
    >>> pair = found["between"]["train/test"]
    >>> pair["exact"], pair["near"], pair["near_shown"][0]
    (1, 2, ['row-2', 2, 'row-3', 3])
    """
    names = list(splits)
    parts = list(splits.values())
    rule = rule or CopyRule()
    copies = find_copies([part.codes for part in parts], rule)
    edges = np.cumsum([0, *map(len, parts)])
    where = [slice(start, end) for start, end in pairwise(edges.tolist())]
    digests = [[np.asarray(target).tobytes() for target in part.targets] for part in parts]
    return {
        "sizes": {name: len(part) for name, part in splits.items()},
        "within": {name: _within(copies, where[i], digests[i]) for i, name in enumerate(names)},
        "between": {
            f"{names[a]}/{names[b]}": _between(copies, where, parts, digests, a, b)
            for a, b in combinations(range(len(names)), 2)
        },
        "settings": {"min_ani": rule.min_ani, "k": copies.k, "scaled": copies.scaled},
    }


def _within(copies: Copies, where: slice, digests: list[bytes]) -> dict[str, int]:
    exact, group = copies.exact[where], copies.group[where]
    sizes = np.unique(group, return_counts=True)[1]
    targets: dict[int, set[bytes]] = {}
    for own, digest in zip(exact.tolist(), digests, strict=True):
        targets.setdefault(own, set()).add(digest)
    return {
        "repeats": len(exact) - len(np.unique(exact)),
        "near_groups": int((sizes > 1).sum()),
        "in_near_groups": int(sizes[sizes > 1].sum()),
        "conflicts": sum(len(found) > 1 for found in targets.values()),
    }


def _between(
    copies: Copies, where: list[slice], parts: list[Examples], digests: list[list[bytes]], a: int, b: int
) -> dict[str, Any]:
    earlier, later = copies.exact[where[a]], copies.exact[where[b]]
    of_earlier: dict[int, list[int]] = {}
    for i, own in enumerate(earlier.tolist()):
        of_earlier.setdefault(own, []).append(i)
    exact: list[tuple[int, int]] = []
    conflicts: list[tuple[int, int]] = []
    for j, own in enumerate(later.tolist()):
        if own in of_earlier:
            exact.append((j, of_earlier[own][0]))
            other = next((i for i in of_earlier[own] if digests[a][i] != digests[b][j]), None)
            if other is not None:
                conflicts.append((j, other))
    partner = copies.partner[where[b], a]
    near = [(int(j), int(partner[j]) - where[a].start) for j in np.flatnonzero(partner >= 0)]
    n_chained = int(np.isin(copies.group[where[b]], copies.group[where[a]]).sum())
    n = max(len(parts[b]), 1)

    def shown(pairs: list[tuple[int, int]]) -> list[list[Any]]:
        return [
            [parts[b].ids[j], int(parts[b].rows[j]), parts[a].ids[i], int(parts[a].rows[i])] for j, i in pairs[:SHOWN]
        ]

    return {
        "exact": len(exact),
        "near": len(near),
        "chained": n_chained,
        "exact_share": len(exact) / n,
        "near_share": len(near) / n,
        "chained_share": n_chained / n,
        "conflicts": len(conflicts),
        "exact_shown": shown(exact),
        "near_shown": shown(near),
        "conflicts_shown": shown(conflicts),
    }


def audit_lines(found: Mapping[str, Any]) -> list[str]:
    """Say in a few lines what :func:`audit` found.

    Examples
    --------
    >>> pair = {"exact": 2, "near": 5, "near_share": 0.05, "conflicts": 1}
    >>> within = {"repeats": 0, "near_groups": 3, "in_near_groups": 7, "conflicts": 0}
    >>> settings = {"min_ani": 0.9, "k": 15, "scaled": 1}
    >>> audit_lines({"within": {"train": within}, "between": {"train/test": pair}, "settings": settings})
    ... # doctest: +NORMALIZE_WHITESPACE
    ['train: 0 exact repeats, 7 examples in 3 groups of near-copies',
     'test: 2 examples have an exact copy in train, 5 (5.0 %) a near-copy (identity of about 0.9 and more),
      1 of them with another label']
    """
    lines = []
    for name, own in found["within"].items():
        line = (
            f"{name}: {own['repeats']:,} exact repeats, {own['in_near_groups']:,} examples in "
            f"{own['near_groups']:,} groups of near-copies"
        )
        lines.append(line + (f", {own['conflicts']:,} sequences with two targets" if own["conflicts"] else ""))
    for name, pair in found["between"].items():
        earlier, _, later = name.partition("/")
        line = (
            f"{later}: {pair['exact']:,} examples have an exact copy in {earlier}, {pair['near']:,} "
            f"({pair['near_share']:.1%}".replace("%", " %")
            + f") a near-copy (identity of about {found['settings']['min_ani']} and more)"
        )
        lines.append(line + (f", {pair['conflicts']:,} of them with another label" if pair["conflicts"] else ""))
    return lines


def require_disjoint(train: Examples, other: Examples, *, allow: bool = False) -> npt.NDArray[np.int64]:
    """See that no sequence of ``other`` (dev or test) is one of the training file's, on either strand.

    Parameters
    ----------
    allow
        The user wants it so: give the repeated examples, and raise nothing.

    Returns
    -------
    int64: indices in ``other`` of the examples that repeat one; empty where there are none.

    Raises
    ------
    LabelError
        With the rows of both files.

    Examples
    --------
    >>> from umbel.data.labelled.task import Task
    >>> codes = (np.array([0, 1, 1], np.uint8),)
    >>> own = Examples(Task("binary", ("0", "1")), ("a",), codes, np.zeros(1, int), "t.csv", np.array([2]))
    >>> require_disjoint(own, own)
    Traceback (most recent call last):
    ...
    umbel.errors.LabelError: t.csv, line 2: 1 of 1 sequences is in t.csv too: row 2 repeats row 2 of it. \
Take them out of one of the two files, or say that repeats are meant; a score on them tells what was learnt by heart.
    """
    first: dict[bytes, int] = {}
    for i, key in enumerate(canonical_keys(train.codes)):
        first.setdefault(key, i)
    pairs = [(j, first[key]) for j, key in enumerate(canonical_keys(other.codes)) if key in first]
    repeated = np.array([j for j, _ in pairs], np.int64)
    if pairs and not allow:
        mine = row_list([int(other.rows[j]) for j, _ in pairs])
        j, i = min(pairs, key=lambda pair: int(other.rows[pair[0]]))
        example = (
            f"{mine} repeats row {train.rows[i]} of it"
            if len(pairs) == 1
            else f"{mine}; row {other.rows[j]} repeats row {train.rows[i]} of it"
        )
        raise LabelError(
            f"{len(pairs):,} of {len(other):,} sequences {'is' if len(pairs) == 1 else 'are'} in {train.source} too: "
            f"{example}. Take them out of one of the two files, or say that repeats are meant; a score on them tells "
            "what was learnt by heart.",
            other.source,
            int(other.rows[j]),
        )
    return repeated
