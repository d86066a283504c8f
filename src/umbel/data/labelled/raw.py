"""Rows of a labelled file before anything is judged: names, letters and label cells."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from umbel.data.labelled.cells import Cell, class_name, is_missing
from umbel.data.labelled.inference import NO_CLASS
from umbel.data.labelled.problems import Problem, ProblemKind


class RawRows:
    """Rows in the order of their file, and those refused so far.

    Parameters
    ----------
    source
        The file or files, as the user named them.
    label_names
        What the labels of a row are called.

    Attributes
    ----------
    rows, ids, letters, labels, sources
        One of each a row; labels are as many cells as ``label_names``.
    problems
        Rows refused.
    notes
        Lines to print.
    """

    def __init__(self, source: str, label_names: Sequence[str]):
        self.source, self.label_names = source, tuple(label_names)
        self.rows: list[int] = []
        self.ids: list[str] = []
        self.letters: list[bytes] = []
        self.labels: list[list[Cell]] = []
        self.sources: list[str] = []
        self.problems: list[Problem] = []
        self.notes: list[str] = []

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, row: int, id: str, letters: bytes, labels: Sequence[Cell], source: str = "") -> None:
        """Take a row in."""
        self.rows.append(row)
        self.ids.append(id)
        self.letters.append(letters)
        self.labels.append(list(labels))
        self.sources.append(source or self.source)

    def refuse(self, row: int, id: str, kind: ProblemKind, reason: str, source: str = "") -> None:
        """Say why a row cannot be used."""
        self.problems.append(Problem(source or self.source, row, id, kind, reason))

    def keep(self, is_kept: Sequence[bool]) -> None:
        """Leave the other rows out."""
        for name in ("rows", "ids", "letters", "labels", "sources"):
            column = getattr(self, name)
            setattr(self, name, [value for value, kept in zip(column, is_kept, strict=True) if kept])

    def join_words(self) -> RawRows:
        """Join rows that follow each other with one id: a word's class is that of each of its bases.

        A word without class leaves its bases without one.

        Examples
        --------
        >>> words = RawRows("a.csv", ["label"])
        >>> words.add(2, "g", b"ACG", ["exon"]), words.add(3, "g", b"T", ["intron"]), words.add(4, "h", b"A", ["exon"])
        (None, None, None)
        >>> joined = words.join_words()
        >>> joined.ids, joined.letters, joined.labels[0]
        (['g', 'h'], [b'ACGT', b'A'], [['exon', 'exon', 'exon', 'intron']])
        """
        joined = RawRows(self.source, self.label_names)
        joined.problems, joined.notes = (
            list(self.problems),
            [*self.notes, "rows that follow each other are one sequence"],
        )
        for name, group in groupby(range(len(self)), key=self.ids.__getitem__):
            places = list(group)
            classes: list[str] = []
            for i in places:
                cell = self.labels[i][0]
                own = NO_CLASS[0] if is_missing(cell) else class_name(cell)
                classes += [own] * len(self.letters[i])
            joined.add(self.rows[places[0]], name, b"".join(self.letters[i] for i in places), [classes])
        return joined
