"""Columns of cells as labellings of sequences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from umbel.data.labelled.cells import class_name, is_missing, is_number, sorted_names
from umbel.errors import ConfigError
from umbel.evaluate.experts.labels.quantiles import quantile_edges, quantile_labels, quantile_names
from umbel.evaluate.experts.source import NO_CLASS, Labelling

MOST_CLASSES = 40
"""Classes of a labelling of sequences; those with fewest sequences beyond are put together."""
N_QUANTILES = 4


def column_labelling(name: str, cells: Sequence[str]) -> tuple[Labelling, npt.NDArray[np.int64]]:
    """Make a labelling of a column, and give the class of each row, ``(n,)``; -1 where the cell says nothing.

    Words are classes, and so are whole numbers where there are at most 40 of them. Other numbers are cut into quarters
    at their quantiles (``edges`` in the facts). Of more than 40 classes those with fewest rows are ``other``.

    Parameters
    ----------
    name
        Of the labelling.
    cells
        Text, ``(n,)``.

    Raises
    ------
    ConfigError
        If no cell says anything.

    Examples
    --------
    >>> labelling, classes = column_labelling("tissue", ["leaf", "root", "", "leaf"])
    >>> labelling.classes, classes.tolist()
    (('leaf', 'root'), [0, 1, -1, 0])
    >>> column_labelling("tpm", ["0.5", "1.5", "2.5", "8.5"])[0].classes
    ('<= 0.5', '0.5 to 1.5', '1.5 to 2.5', '> 2.5')
    """
    told = ["" if is_missing(cell) else class_name(cell) for cell in cells]
    count = Counter(cell for cell in told if cell)
    if not count:
        raise ConfigError(f"column {name!r} says nothing of any sequence: leave it out, or name another")
    numbers = all(map(is_number, count))
    are_whole = all(cell.lstrip("+-").isdigit() for cell in count)
    if numbers and (not are_whole or len(count) > MOST_CLASSES):
        values = np.array([float(cell) if cell else np.nan for cell in told])
        edges = quantile_edges(values, N_QUANTILES)
        if len(edges):
            facts = {"edges": edges.tolist(), "notes": [f"Column {name!r} holds numbers: its classes are quantiles."]}
            return Labelling(name, quantile_names(edges), "sequence", facts), quantile_labels(values, edges).astype(
                np.int64
            )
    names, notes = list(sorted_names(set(count))), []
    if len(names) > MOST_CLASSES:
        largest = [kind for kind, _ in sorted(count.items(), key=lambda item: (-item[1], item[0]))[: MOST_CLASSES - 1]]
        rest = [kind for kind in names if kind not in set(largest)]
        other = "other" if "other" not in largest else "other (rare)"
        notes.append(
            f"Column {name!r} has {len(names):,} classes: the {len(rest):,} with fewest sequences are {other!r}."
        )
        names = [*sorted_names(largest), other]
        told = [other if cell and cell not in set(largest) else cell for cell in told]
    number = {kind: i for i, kind in enumerate(names)}
    classes = np.array([number[cell] if cell else NO_CLASS for cell in told], np.int64)
    return Labelling(name, tuple(names), "sequence", {"notes": notes}), classes
