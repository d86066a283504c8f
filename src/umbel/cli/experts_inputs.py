"""What commands about experts need and are given: packages; a genome and its genes, or files of sequences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from umbel.errors import ConfigError
from umbel.extras import require_packages

_TABLES = (".csv", ".tsv", ".parquet", ".jsonl", ".csv.gz", ".tsv.gz", ".jsonl.gz")


def require_expert_packages() -> None:
    """See that what the statistics and pages of experts need is installed."""
    require_packages("umbel experts", "train", ("scipy", "sklearn", "matplotlib", "jinja2"))


def are_sequences(inputs: Sequence[Path], is_told: bool) -> bool:
    """Tell tables, or FASTA where ``is_told``, from a genome.

    Examples
    --------
    >>> are_sequences([Path("a.csv")], False), are_sequences([Path("a.fa")], False)
    (True, False)
    """
    return is_told or inputs[0].name.lower().endswith(_TABLES)


def fasta_and_gff3(inputs: Sequence[Path]) -> tuple[Path, Path | None]:
    """Take one or two files as a genome and its genes.

    Raises
    ------
    ConfigError
        If there are more.
    """
    if len(inputs) > 2:
        raise ConfigError(
            f"a genome is FASTA and GFF3, and there are {len(inputs)} files: --bed and --repeats name more"
        )
    return inputs[0], inputs[1] if len(inputs) > 1 else None
