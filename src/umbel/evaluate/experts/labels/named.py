"""Labellings of features with names: classes of repeats, types of a GFF3 file, intervals of a BED file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from umbel.errors import ConfigError
from umbel.evaluate.experts.labels.labeller import RunLabels, made_of
from umbel.evaluate.experts.source import Labelling
from umbel.genome.class_runs import paint
from umbel.genome.named_features import (
    UNNAMED,
    NamedFeatures,
    read_bed_names,
    read_repeat_classes,
    read_types,
    told_unknown,
)

MOST_CLASSES = 12
"""Kinds with fewest bases beyond this many are put together."""


def repeat_labels(path: str | Path, contig_lengths: Mapping[str, int]) -> RunLabels:
    r"""Label bases with classes of repeats or transposable elements: ``repeat``.

    Of several classes at a base the one with fewest bases in the genome stands; the 12 with most bases have a class of
    their own, the others are ``other repeat``. A contig without any row has no classes.

    Parameters
    ----------
    path
        BED, GFF3 or RepeatMasker's .out; see :func:`umbel.genome.named_features.read_repeat_classes`.
    contig_lengths
        Name to length in bases, of the genome.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.bed"
    >>> _ = source.write_text("chr1\t2\t4\tLTR/Gypsy\n")
    >>> labels = repeat_labels(source, {"chr1": 9})
    >>> labels.labelling.classes, labels.labels("chr1", 1, 5).tolist()
    (('LTR/Gypsy', 'no repeat'), [1, 0, 0, 1])
    """
    found = read_repeat_classes(path, contig_lengths)
    return _labels("repeat", path, found, contig_lengths, "repeat", "other repeat", "no repeat", found.annotated)


def type_labels(path: str | Path, contig_lengths: Mapping[str, int], types: Sequence[str]) -> RunLabels:
    r"""Label bases with the features of some types of a GFF3 file: ``feature``.

    Of several at a base the one with fewest bases in the genome stands. A contig without any row has no classes.

    Raises
    ------
    AnnotationError
        With the types that there are, if one is not there.
    ConfigError
        If there are more than 12 types.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.gff3"
    >>> _ = source.write_text("chr1\t.\ttRNA\t3\t4\t.\t+\t.\tID=a\n")
    >>> labels = type_labels(source, {"chr1": 9}, ["tRNA"])
    >>> labels.labelling.classes, labels.labels("chr1", 1, 5).tolist()
    (('tRNA', 'no such feature'), [1, 0, 0, 1])
    """
    if len(set(types)) > MOST_CLASSES:
        raise ConfigError(f"{len(set(types))} types of features: give at most {MOST_CLASSES}")
    found = read_types(path, contig_lengths, types)
    return _labels("feature", path, found, contig_lengths, "", "", "no such feature", found.annotated)


def bed_labels(path: str | Path, contig_lengths: Mapping[str, int], name: str | None = None) -> RunLabels:
    r"""Label bases with the intervals of a BED file: names (column 4) are classes.

    Of several at a base the one with fewest bases stands; the 12 names with most bases have a class of their own. More
    than 12 names that are all different are names of places, not of classes: there is one class then, ``inside``, as
    there is for intervals without names.

    Parameters
    ----------
    path, contig_lengths
        As for :func:`repeat_labels`.
    name
        Of the labelling; that of the file, without endings, if None.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "peaks.bed.gz"
    >>> _ = source.write_text("chr1\t2\t4\n")
    >>> labels = bed_labels(source, {"chr1": 9})
    >>> labels.labelling.name, labels.labelling.classes
    ('peaks', ('inside', 'outside'))
    """
    found = read_bed_names(path, contig_lengths)
    name = name or file_stem(path)
    notes = []
    if len(found.names) > MOST_CLASSES and (found.counts == 1).all():
        notes.append(f"{Path(path).name}: all {len(found.names):,} names are different, so they are no classes.")
        one = {
            contig: np.column_stack((rows[:, :2], np.zeros(len(rows), np.int64)))
            for contig, rows in found.of_contig.items()
        }
        found = NamedFeatures((UNNAMED,), one, found.counts.sum(keepdims=True), found.annotated, found.unknown_contigs)
    everywhere = frozenset(contig_lengths)
    return _labels(name, path, found, contig_lengths, "inside", "other name", "outside", everywhere, notes)


def file_stem(path: str | Path) -> str:
    """Name of a file without its endings.

    Examples
    --------
    >>> file_stem("a/open.leaf.bed.gz")
    'open.leaf'
    """
    name = Path(path).name.removesuffix(".gz")
    return name.rsplit(".", 1)[0] if "." in name[1:] else name


def _labels(
    name: str,
    path: str | Path,
    found: NamedFeatures,
    contig_lengths: Mapping[str, int],
    unnamed: str,
    other: str,
    rest: str,
    contigs: frozenset[str],
    notes: Sequence[str] = (),
) -> RunLabels:
    """Make classes of kinds, and paint those with most bases first."""
    bases = found.bases()
    # Most bases first; of equals, the one that the file names first.
    order = np.argsort(-bases, kind="stable")
    # Words of ours that the file uses as a name are told apart.
    unnamed = unnamed if unnamed not in found.names else f"{unnamed} without name"
    names = [found.names[kind] or unnamed for kind in order.tolist()]
    told = [*notes, *told_unknown(found.unknown_contigs, Path(path).name)]
    rest = rest if rest not in names else f"{rest} (none named)"
    kept = names[:MOST_CLASSES]
    classes = [*kept, rest]
    class_of = np.empty(len(names), np.int64)
    class_of[order] = np.minimum(np.arange(len(names)), MOST_CLASSES)
    if len(names) > MOST_CLASSES:
        other = other if other not in names else f"{other} (rare)"
        classes = [*kept, other, rest]
        put = {names[i]: int(bases[order[i]]) for i in range(MOST_CLASSES, len(names))}
        shown = ", ".join(f"{kind} ({n:,} bases)" for kind, n in list(put.items())[:3])
        more = f" and {len(put) - 3:,} more" if len(put) > 3 else ""
        told.append(f"{Path(path).name}: {len(put):,} rare classes are put together as {other!r}: {shown}{more}.")
    facts = made_of(path, told, features={kind: int(found.counts[i]) for kind, i in zip(names, order, strict=True)})
    runs = {}
    for contig in sorted(contigs):
        rows = found.of_contig.get(contig, np.empty((0, 3), np.int64)).copy()
        rows[:, 2] = class_of[rows[:, 2]]
        painted = tuple(range(len(classes) - 1))
        runs[contig] = paint(rows, painted, contig_lengths[contig], len(classes) - 1)
    return RunLabels(Labelling(name, tuple(classes), facts=facts), runs)
