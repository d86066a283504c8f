"""Soft mask of a genome as two classes."""

from __future__ import annotations

from umbel.evaluate.experts.source import Labelling, Labels
from umbel.genome.reference import Reference

SOFT_CLASSES = ("soft-masked", "not masked")


class SoftMaskLabels:
    r"""Lower case and upper case of a FASTA file: ``repeat``.

    Parameters
    ----------
    genome
        Open as long as labels are asked for.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> source = Path(tempfile.mkdtemp()) / "a.fa"
    >>> _ = source.write_text(">chr1\nACgtN\n")
    >>> with Reference.open(source) as genome:
    ...     SoftMaskLabels(genome).labels("chr1", 1, 4).tolist()
    [1, 0, 0]
    """

    def __init__(self, genome: Reference):
        self._genome = genome
        self.labelling = Labelling("repeat", SOFT_CLASSES, facts={"files": [], "notes": [], "from": "soft mask"})

    def labels(self, contig: str, start: int, end: int) -> Labels:
        """Give 0 where the letter is in lower case, else 1."""
        _, soft_mask = self._genome.fetch_masked(contig, start, end)
        return (~soft_mask).astype("int16")
