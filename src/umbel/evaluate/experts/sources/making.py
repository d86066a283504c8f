"""A genome with every labelling that its files allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from umbel.errors import ConfigError
from umbel.evaluate.experts.labels.genes import UPSTREAM_BP, gene_labels
from umbel.evaluate.experts.labels.groups import GroupLabels, read_groups
from umbel.evaluate.experts.labels.labeller import Labeller
from umbel.evaluate.experts.labels.named import bed_labels, repeat_labels, type_labels
from umbel.evaluate.experts.labels.soft_mask import SoftMaskLabels
from umbel.evaluate.experts.labels.tracks import Track
from umbel.evaluate.experts.sources.genome import N_STRETCHES, STRETCH_BP, GenomeSource
from umbel.evaluate.experts.totals import MAX_UNITS
from umbel.genome.interval import Interval
from umbel.genome.reference import Reference


def genome_source(
    fasta: str | Path,
    annotation: str | Path | None = None,
    *,
    repeats: str | Path | None = None,
    tracks: Mapping[str, str | Path] | None = None,
    features: Sequence[str] = (),
    beds: Sequence[str | Path] = (),
    groups: str | Path | None = None,
    stretch_bp: int = STRETCH_BP,
    n_stretches: int = N_STRETCHES,
    seed: int = 0,
    contigs: Sequence[str] = (),
    regions: str | Path | Sequence[Interval] | None = None,
    upstream_bp: int = UPSTREAM_BP,
    max_units: int = MAX_UNITS,
) -> GenomeSource:
    r"""Open a genome with all labellings that the files allow.

    Parameters
    ----------
    fasta
        FASTA or 2bit.
    annotation
        GFF3 of genes: labellings ``region``, ``codon position``, ``site`` and ``strand``, and ``feature`` of the types
        named in ``features``.
    repeats
        BED, GFF3 or RepeatMasker's .out: labelling ``repeat``; without it, that is the soft mask of the FASTA.
    tracks
        Name to bigWig or bedGraph file; each is a labelling.
    features
        Types (column 3) of the annotation.
    beds
        BED files; each is a labelling, named as its file.
    groups
        Table of contigs; each column is a labelling.
    stretch_bp, n_stretches, seed, contigs, regions, max_units
        See :class:`~umbel.evaluate.experts.sources.genome.GenomeSource`.
    upstream_bp
        Length of promoters.

    Raises
    ------
    InputError
        If a file is wrong, or of another assembly.
    ConfigError
        If types are asked for without annotation; and as :class:`~umbel.evaluate.experts.sources.genome.GenomeSource`.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.fa"
    >>> _ = path.write_text(">chr1\nACGTacgtACGT\n")
    >>> with genome_source(path) as source:
    ...     [labelling.name for labelling in source.labellings]
    ['repeat']
    """
    if features and annotation is None:
        raise ConfigError(f"features of type {', '.join(features)} are asked for: give the GFF3 file that has them")
    genome = Reference.open(fasta)
    try:
        lengths = genome.lengths
        labellers: list[Labeller | Track | GroupLabels] = []
        if annotation is not None:
            labellers += gene_labels(annotation, lengths, upstream_bp).all()
            if features:
                labellers.append(type_labels(annotation, lengths, features))
        labellers.append(SoftMaskLabels(genome) if repeats is None else repeat_labels(repeats, lengths))
        labellers += [bed_labels(path, lengths) for path in beds]
        labellers += [Track(name, path, lengths) for name, path in (tracks or {}).items()]
        if groups is not None:
            labellers += read_groups(groups, lengths)
    except BaseException:
        genome.close()
        raise
    return GenomeSource(
        genome,
        labellers,
        stretch_bp=stretch_bp,
        n_stretches=n_stretches,
        seed=seed,
        contigs=contigs,
        regions=regions,
        max_units=max_units,
    )
