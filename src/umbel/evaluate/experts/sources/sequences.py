"""Labelled sequences of their own: FASTA, or tables of tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.data.labelled.copies import CopyRule, find_copies
from umbel.errors import ConfigError
from umbel.evaluate.experts.labels.labeller import file_facts
from umbel.evaluate.experts.labels.named import file_stem
from umbel.evaluate.experts.source import NO_CLASS, Labelling, Stretch
from umbel.evaluate.experts.sources.columns import column_labelling
from umbel.evaluate.experts.sources.sequence_files import SequenceFile, Wanted, draw, read_sequences
from umbel.evaluate.experts.sources.units import make_units
from umbel.evaluate.experts.statistics.units import effective_units
from umbel.evaluate.experts.totals import MAX_UNITS
from umbel.genome.sequence import Codes

Ints = npt.NDArray[np.int64]
FAMILY_ANI = 0.8
"""Identity from which on two sequences are of one family; clusters are of those with at least 0.9."""


class SequenceSource:
    r"""Sequences of one file or several, held in memory; each is a stretch.

    Several files make the labelling ``task``, whose classes are the files. Each label column makes one.

    A unit is a cluster of like sequences, cut where their classes differ: sequences of one ``group`` where every file
    has that column; else, for DNA, near-copies on either strand and what a chain of them joins
    (:func:`umbel.data.labelled.copies.find_copies`), and for text, exact copies. Where there are too many, clusters
    that follow each other and have the same classes are put together.

    Parameters
    ----------
    files
        Name to file; the names are the classes of ``task``.
    wanted
        Columns, and whether sequences are DNA or text.
    families
        Make the labelling ``family`` of so many largest families of like DNA sequences; 0 makes none. A family is
        looser than a cluster (an identity of 0.8, not 0.9), so that it may hold several units.
    n_sequences
        How many to draw at random, the same number of each file; 0 takes all.
    seed
        Of the draw.
    max_units
        At most :data:`~umbel.evaluate.experts.totals.MAX_UNITS`.

    Attributes
    ----------
    labellings, n_units, facts
        See :class:`~umbel.evaluate.experts.source.Source`.

    Raises
    ------
    LabelError
        See :func:`~umbel.evaluate.experts.sources.sequence_files.read_sequences`.
    ConfigError
        If files hold DNA and text, a column of labels says nothing, or families are asked for of text.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.csv"
    >>> _ = path.write_text("sequence,label\nACGTT,leaf\nCCGTA,root\nAACGT,leaf\n")
    >>> source = SequenceSource({"a": path})
    >>> source.labellings[0].classes, [source.stretch(i).unit for i in range(3)]
    (('leaf', 'root'), [0, 1, 0])
    """

    def __init__(
        self,
        files: Mapping[str, str | Path],
        wanted: Wanted | None = None,
        *,
        families: int = 0,
        n_sequences: int = 0,
        seed: int = 0,
        max_units: int = MAX_UNITS,
    ):
        if not files:
            raise ConfigError("no file of sequences is named: give at least one")
        if families < 0 or n_sequences < 0 or not 1 <= max_units <= MAX_UNITS:
            raise ConfigError(
                f"families is {families}, n_sequences {n_sequences} and max_units {max_units}: give 0 or more of the "
                f"first two, and 1 to {MAX_UNITS} units"
            )
        wanted = wanted or Wanted()
        read = [read_sequences(path, wanted) for path in files.values()]
        if len({one.kind for one in read}) > 1:
            raise ConfigError("some files hold DNA and others text: record them apart")
        kind = read[0].kind
        if families and kind == "text":
            raise ConfigError("families are of DNA, and these are texts: give them as a column")
        n_read = [len(one.names) for one in read]
        if n_sequences:
            rng = np.random.default_rng(seed)
            read = [draw(one, -(-n_sequences // len(read)), rng) for one in read]
        self._names = [name for one in read for name in one.names]
        self._contents = [content for one in read for content in one.contents]
        of_file = np.repeat(np.arange(len(read)), [len(one.names) for one in read])
        clusters, how = _clusters(read, self._contents)
        found = _labellings(read, list(files), of_file, wanted)
        if families:
            found.append(_families(self._contents, families, self._names))
        self.labellings: tuple[Labelling, ...] = tuple(labelling for labelling, _ in found)
        for name in (names := [labelling.name for labelling in self.labellings]):
            if names.count(name) > 1:
                raise ConfigError(f"two labellings are named {name!r}: name the column differently")
        self._classes = {labelling.name: classes for labelling, classes in found}
        kinds = list(zip(*(classes.tolist() for classes in self._classes.values()), strict=True))
        units = make_units(clusters, kinds or [()] * len(clusters), max_units)
        self._units, self.n_units = units.of_stretch, units.n_units
        sizes = np.bincount(clusters)
        notes = [note for labelling in self.labellings for note in labelling.facts.get("notes", [])]
        if units.n_straddling:
            notes.append(
                f"{units.n_straddling:,} of {np.count_nonzero(sizes):,} clusters have members of several classes: "
                "they are cut into units of one class each, which are not independent of each other."
            )
        self.facts: dict[str, Any] = {
            "kind": "sequences",
            "content": kind,
            "files": [{**file_facts(path), "task": name} for name, path in files.items()],
            "n_sequences": len(self._names),
            "n_sequences_read": n_read,
            "n_sequences_wanted": n_sequences,
            "seed": seed,
            "n_items": sum(map(len, self._contents)) if kind == "dna" else None,
            "clusters": how,
            "n_clusters": int(np.count_nonzero(sizes)),
            "effective_clusters": effective_units(np.asarray(sizes)),
            "n_straddling": units.n_straddling,
            "n_units": self.n_units,
            "unit": "neighbouring clusters of the same classes" if units.is_joined else "cluster and classes",
            "class_counts": {labelling.name: _counts(labelling, classes) for labelling, classes in found},
            "labellings": {labelling.name: labelling.facts for labelling in self.labellings},
            "notes": [*notes, *_unread(read, wanted)],
        }

    def __len__(self) -> int:
        return len(self._names)

    def stretch(self, i: int) -> Stretch:
        """Give the ith, in the order of the files."""
        return Stretch(
            self._names[i],
            0,
            self._contents[i],
            int(self._units[i]),
            {},
            {name: int(classes[i]) for name, classes in self._classes.items()},
        )


def _labellings(
    read: Sequence[SequenceFile], names: Sequence[str], of_file: Ints, wanted: Wanted
) -> list[tuple[Labelling, Ints]]:
    """Make ``task`` of several files, and one labelling of each label column."""
    found: list[tuple[Labelling, Ints]] = []
    if len(read) > 1:
        found.append((Labelling("task", tuple(names), "sequence", {"notes": []}), of_file))
        # Labels of different tasks that are not asked for need not mean the same.
        if wanted.labels is None and wanted.header is None:
            return found
    for column in dict.fromkeys(column for one in read for column in one.labels):
        cells = [cell for one in read for cell in one.labels.get(column, [""] * len(one.names))]
        found.append(column_labelling(column, cells))
    return found


def _clusters(read: Sequence[SequenceFile], contents: Sequence[Codes | str]) -> tuple[Ints, str]:
    """Give the cluster of each sequence, and say how it was found."""
    groups = [one.groups for one in read]
    if all(own is not None for own in groups):
        number: dict[str, int] = {}
        found = []
        for i, group in enumerate(group for own in groups for group in own or ()):
            # A row without a group is a cluster of its own.
            found.append(number.setdefault(f"group {group}" if group else f"row {i}", len(number)))
        return np.array(found, np.int64), "column group"
    if read[0].kind == "dna":
        codes = [content for content in contents if not isinstance(content, str)]
        return find_copies([codes]).group, "near-copies, on either strand"
    texts: dict[Any, int] = {}
    return np.array([texts.setdefault(content, len(texts)) for content in contents], np.int64), "exact copies"


def _families(contents: Sequence[Codes | str], n: int, names: Sequence[str]) -> tuple[Labelling, Ints]:
    """Label the sequences of the largest families; the others have no class."""
    codes = [content for content in contents if not isinstance(content, str)]
    group = find_copies([codes], CopyRule(min_ani=FAMILY_ANI)).group
    largest = [(root, size) for root, size in Counter(group.tolist()).most_common() if size > 1]
    # Counter keeps the order of first occurrence among equals, so that the choice is always the same.
    chosen = largest[:n]
    if len(chosen) < 2:
        raise ConfigError(
            f"{len(chosen)} families have two or more sequences, and a labelling needs two of them: leave families out"
        )
    number = {root: i for i, (root, _) in enumerate(chosen)}
    classes = np.array([number.get(root, NO_CLASS) for root in group.tolist()], np.int64)
    facts = {
        "min_ani": FAMILY_ANI,
        "first_members": [names[root] for root, _ in chosen],
        "sizes": [size for _, size in chosen],
        "n_families": len(largest),
        "notes": [f"{len(chosen):,} of {len(largest):,} families of two and more sequences are classes."],
    }
    return Labelling("family", tuple(f"family {i + 1}" for i in range(len(chosen))), "sequence", facts), classes


def _counts(labelling: Labelling, classes: Ints) -> dict[str, int]:
    n_classes = len(labelling.classes)
    counts = np.bincount(np.where(classes < 0, n_classes, classes), minlength=n_classes + 1)
    return dict(zip((*labelling.classes, "none"), counts.tolist(), strict=True))


def _unread(read: Sequence[SequenceFile], wanted: Wanted) -> list[str]:
    """Say where tables have label columns that were not read, or columns that could be."""
    notes = []
    for one in read:
        if len(read) > 1 and wanted.labels is None and one.labels and one.columns:
            notes.append(
                f"{one.path.name}: column {', '.join(one.labels)} is not read, as labels of several files need not "
                "mean the same; name it (labels=...) where they do."
            )
        elif wanted.labels is None and not one.labels and one.columns:
            notes.append(
                f"{one.path.name}: no column is named as labels usually are; name those to read (labels=...) among "
                f"{', '.join(one.columns)}."
            )
        if one.groups is not None and any(other.groups is None for other in read):
            notes.append(f"{one.path.name}: its groups are not used, as not every file has them.")
    return notes


def sequence_source(
    paths: str | Path | Sequence[str | Path] | Mapping[str, str | Path],
    wanted: Wanted | None = None,
    *,
    families: int = 0,
    n_sequences: int = 0,
    seed: int = 0,
) -> SequenceSource:
    """Make a source of files of sequences, each named as the file without its endings where no name is given.

    Raises
    ------
    ConfigError
        If two files have one name; and as :class:`SequenceSource`.
    LabelError
        As :class:`SequenceSource`.
    """
    if isinstance(paths, str | Path):
        paths = [paths]
    if not isinstance(paths, Mapping):
        named = {file_stem(path): path for path in paths}
        if len(named) < len(paths):
            raise ConfigError("two files have one name: rename one of them, or give names (a mapping of task to file)")
        paths = named
    return SequenceSource(paths, wanted, families=families, n_sequences=n_sequences, seed=seed)
