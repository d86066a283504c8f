"""Windows of exon, intron, promoter, transposable element and intergenic sequence, cut from an annotated assembly.

They are labelled examples like any others, so that every row of a benchmark (frozen embeddings, k-mers, GC, random
weights) can be fitted on them. Windows lie side by side: neighbours resemble each other, and intervals from resampling
single windows are somewhat too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.data.labelled.examples import Examples
from umbel.data.labelled.task import Task
from umbel.errors import AnnotationError, ConfigError
from umbel.evaluate.genome_roles import ROLES, read_roles
from umbel.genome.annotation import INTERGENIC, read_gff3, region_runs
from umbel.genome.annotation import INTRON as GENE_INTRON
from umbel.genome.genes import read_genes
from umbel.genome.sequence import Codes
from umbel.genome.transposons import read_transposons

TASK = Task("multiclass", ("exon", "intergenic", "intron", "promoter", "te"))
PROMOTER_BP = 1000
MIN_CLASS_FRAC = 0.9
MAX_N_FRAC = 0.05
MIN_PER_CLASS = 10

_NO_CLASS = len(TASK.names)


@dataclass(frozen=True)
class AnnotatedWindows:
    """Examples of every role, and what is to be known about them."""

    examples: Mapping[str, Examples]
    """``train``, ``valid``, ``test``, in genome order."""
    facts: Mapping[str, Any]
    """As plain JSON: windows of each class, rules, and rows of the annotation that were passed over."""


def read_annotated_windows(
    fasta: str | Path,
    gff3: str | Path,
    transposons: str | Path,
    roles: Mapping[str, str],
    *,
    probe_bp: int = 512,
    n_per_class: int = 1000,
    seed: int = 0,
    contig_names: Mapping[str, str] | None = None,
) -> AnnotatedWindows:
    """Cut contigs into windows, keep those that are at least 90 % of one class, and draw at most n of each class.

    A base is *te* inside a transposable element, *exon* inside an exon, UTR or CDS; a base that is both has no class.
    Of the others it is *intron* inside a transcript, *promoter* within the 1,000 bases before the first base of a
    transcript, on its strand (-1000..-1; the first transcribed base is 0), and else *intergenic*. Windows do not
    overlap; of one with more than 5 % N nothing is made.

    Parameters
    ----------
    fasta, gff3, transposons
        Of one assembly; for the formats see :func:`umbel.genome.fasta.read_fasta`,
        :func:`umbel.genome.annotation.read_gff3` and :func:`umbel.genome.transposons.read_transposons`.
    roles
        Contig (or ``contig:first-last``) to ``train``, ``valid`` or ``test``. What has no role is not used.
    probe_bp
        Length of a window.
    n_per_class
        Most windows of one class in one role, drawn without replacement by ``seed``.
    seed
        Same seed, same windows.
    contig_names
        Contig in the file of transposable elements to contig in the FASTA, where they differ.

    Raises
    ------
    ConfigError
        If a role is wrong or has no contig, or ``probe_bp`` is below 1.
    AnnotationError
        If an annotation is broken or belongs to another assembly, or a role has fewer than 10 windows of a class.
    """
    if probe_bp < 1:
        raise ConfigError(f"probe_bp is {probe_bp}: a window has at least 1 base")
    assembly = read_roles(fasta, roles)
    annotation = read_gff3(gff3, assembly.lengths)
    used = {contig: assembly.lengths[contig] for contig in assembly.codes}
    starts = read_genes(gff3, used).transcripts
    elements = read_transposons(transposons, used, contig_names)
    runs = region_runs((feature for feature in annotation.features if feature.contig in used), used)
    classes = {
        contig: class_of_bases(
            used[contig],
            runs[contig],
            [_upstream(each.start, each.end, each.strand) for each in starts if each.contig == contig],
            elements.runs[contig],
        )
        for contig in used
    }
    examples: dict[str, Examples] = {}
    counts: dict[str, dict[str, int]] = {}
    for role in ROLES:
        places: list[tuple[str, int]] = []
        labels: list[npt.NDArray[np.int64]] = []
        for stretch in assembly.stretches[role]:
            within = slice(stretch.start, stretch.end)
            found = _window_labels(classes[stretch.contig][within], assembly.codes[stretch.contig][within], probe_bp)
            clear = np.flatnonzero(found >= 0)
            labels.append(found[clear])
            places += [(stretch.contig, stretch.start + int(i) * probe_bp) for i in clear]
        every_label = np.concatenate(labels)
        chosen = _drawn(every_label, n_per_class, seed, role)
        examples[role] = _examples([places[i] for i in chosen], every_label[chosen], assembly.codes, probe_bp, fasta)
        found_counts = np.bincount(examples[role].targets, minlength=len(TASK.names))
        counts[role] = dict(zip(TASK.names, found_counts.tolist(), strict=True))
        few = [f"{count} {name}" for name, count in counts[role].items() if count < MIN_PER_CLASS]
        if few:
            raise AnnotationError(
                f"the {role} contigs have only {' and '.join(few)} windows of {probe_bp} bp that are at least "
                f"{MIN_CLASS_FRAC:.0%} of one class; the probe needs {MIN_PER_CLASS} of each. Shorten the windows, or "
                f"give {role} more contigs.",
                gff3,
            )
    facts = {
        "probe_bp": probe_bp,
        "promoter_bp": PROMOTER_BP,
        "class_counts": counts,
        "roles": dict(roles),
        "gff3_rows_on_other_contigs": dict(annotation.unknown_contigs),
        "repeats_of_other_classes": elements.n_other,
        "transposons_on_other_contigs": dict(elements.unknown_contigs),
    }
    return AnnotatedWindows(examples, facts)


def class_of_bases(
    length: int,
    runs: npt.NDArray[np.int64],
    upstream: list[tuple[int, int]],
    elements: npt.NDArray[np.int64],
) -> npt.NDArray[np.uint8]:
    """Class of every base of a contig, index into the names of :data:`TASK`; 5 where it has none.

    Examples
    --------
    >>> runs = np.array([[0, 4, 0], [4, 6, 3], [6, 8, 1]])
    >>> class_of_bases(8, runs, [(2, 4)], np.array([[5, 7]])).tolist()
    [1, 1, 3, 3, 0, 5, 4, 2]
    """
    exon, intergenic, intron, promoter, te = range(len(TASK.names))
    classes = np.full(length, intergenic, np.uint8)
    for start, end in upstream:
        classes[max(0, start) : max(0, end)] = promoter
    for start, end, region in runs:
        if region != INTERGENIC:
            classes[start:end] = intron if region == GENE_INTRON else exon
    for start, end in elements:
        here = classes[start:end]
        here[:] = np.where((here == exon) | (here == _NO_CLASS), _NO_CLASS, te)
    return classes


def _upstream(start: int, end: int, strand: str) -> tuple[int, int]:
    return (start - PROMOTER_BP, start) if strand == "+" else (end, end + PROMOTER_BP)


def _window_labels(classes: npt.NDArray[np.uint8], codes: Codes, probe_bp: int) -> npt.NDArray[np.int64]:
    """Class of each window of a contig, -1 where it is not clear."""
    n = len(classes) // probe_bp
    by_window, bases = (x[: n * probe_bp].reshape(n, probe_bp) for x in (classes, codes))
    has_bases = (bases > 3).mean(axis=1) <= MAX_N_FRAC
    labels = np.full(n, -1, np.int64)
    for label in range(len(TASK.names)):
        labels[((by_window == label).mean(axis=1) >= MIN_CLASS_FRAC) & has_bases] = label
    return labels


def _drawn(labels: npt.NDArray[np.int64], n_per_class: int, seed: int, role: str) -> npt.NDArray[np.int64]:
    """Draw at most n windows of each class; their indices, ascending."""
    chosen = []
    for label in range(len(TASK.names)):
        rng = np.random.default_rng([seed, ROLES.index(role), label])
        chosen.append(rng.permutation(np.flatnonzero(labels == label))[:n_per_class])
    return np.sort(np.concatenate(chosen))


def _examples(
    places: list[tuple[str, int]],
    labels: npt.NDArray[np.int64],
    codes: Mapping[str, Codes],
    probe_bp: int,
    fasta: str | Path,
) -> Examples:
    return Examples(
        TASK,
        tuple(f"{contig}:{start + 1}-{start + probe_bp}" for contig, start in places),
        tuple(codes[contig][start : start + probe_bp] for contig, start in places),
        labels,
        str(fasta),
        np.arange(1, len(places) + 1),
    )
