"""Suites made from a genome: windows by annotation, and bulk expression along the length of input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from umbel.data.labelled.examples import Examples
from umbel.evaluate.annotation_probe import PROMOTER_BP, read_annotated_windows
from umbel.evaluate.expression import LENGTHS_BP, read_expression_examples
from umbel.evaluate.suites.manifest import SplitName, Suite
from umbel.evaluate.suites.own import OwnDataset, write_suite

_ROLE_OF: dict[SplitName, str] = {"train": "train", "dev": "valid", "test": "test"}
_OWN = "the user's own files"


def annotation_suite(
    folder: str | Path,
    fasta: str | Path,
    gff3: str | Path,
    transposons: str | Path,
    roles: Mapping[str, str],
    *,
    probe_bp: int = 512,
    n_per_class: int = 1_000,
    seed: int = 0,
    contig_names: Mapping[str, str] | None = None,
) -> tuple[Suite, dict[str, Any]]:
    """Write the suite ``annotation``: whether a window is exon, intron, promoter, transposable element or intergenic.

    Chromosomes are held out as ``roles`` say; see :func:`umbel.evaluate.annotation_probe.read_annotated_windows` for
    the classes, arguments and errors. A window keeps the strand of the FASTA, and its class holds for both.

    Returns
    -------
    The suite, and what is to be known about its windows.
    """
    found = read_annotated_windows(
        fasta,
        gff3,
        transposons,
        roles,
        probe_bp=probe_bp,
        n_per_class=n_per_class,
        seed=seed,
        contig_names=contig_names or None,
    )
    note = (
        f"Windows of {probe_bp} bp, at least 90 % of one class; promoter: {PROMOTER_BP:,} bases before a transcript. "
        f"Contigs: {', '.join(f'{contig} {role}' for contig, role in roles.items())}."
    )
    datasets = {"annotation": OwnDataset(_splits(found.examples), "macro_f1", stranded=False, notes=(note,))}
    suite = write_suite(folder, "annotation", "Windows by annotation", datasets, licence=_OWN, page=Path(gff3).name)
    return suite, dict(found.facts)


def expression_suite(
    folder: str | Path,
    table: str | Path,
    gff3: str | Path,
    fasta: str | Path,
    roles: Mapping[str, str],
    *,
    lengths_bp: Sequence[int] = (),
) -> tuple[Suite, dict[str, Any]]:
    """Write the suite ``expression``: ln(1 + expression) of a gene in each tissue, from windows of several lengths.

    One dataset a length (512 to 8,192 bp unless given), of the same genes; see
    :func:`umbel.evaluate.expression.read_expression_examples` for arguments and errors.

    Returns
    -------
    The suite, and how many genes were used and left out.
    """
    found = read_expression_examples(table, gff3, fasta, roles, lengths_bp=lengths_bp or LENGTHS_BP)
    note = "ln(1 + x) of bulk expression; windows on the gene's strand, its first base in the middle."
    datasets = {
        f"expression_{length}": OwnDataset(_splits(examples), "pearson2", stranded=True, notes=(note,))
        for length, examples in found.examples.items()
    }
    title = "Bulk expression along the length of input"
    suite = write_suite(folder, "expression", title, datasets, licence=_OWN, page=Path(table).name)
    return suite, dict(found.facts)


def _splits(by_role: Mapping[str, Examples]) -> dict[SplitName, Examples]:
    return {split: by_role[role] for split, role in _ROLE_OF.items()}
