"""Coding genes of a GFF3 file, and what every substitution in them does to the protein."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from umbel.errors import AnnotationError
from umbel.genome.annotation import Gff3Row, gff3_rows, require_inside, some_names
from umbel.genome.genes import tops_of
from umbel.genome.genetic_code import STOP, GeneticCode
from umbel.genome.runs import Runs, as_runs, merge
from umbel.genome.sequence import Codes, N, complement

CLASSES = ("synonymous", "missense", "nonsense")
SYNONYMOUS, MISSENSE, NONSENSE = range(3)
NO_CLASS = 255

PROBLEMS = (
    "parts on several contigs or strands",
    "overlapping parts",
    "phases that do not follow from the lengths",
    "length no multiple of 3",
    "no start codon",
    "no stop codon",
    "stop codon inside",
)
"""Why a gene is left out, in the order in which it is asked."""


@dataclass(frozen=True)
class CodingTranscript:
    """The coding parts of a transcript, ``(start, end)`` and phase each, in the order of the contig."""

    name: str
    parts: tuple[tuple[int, int], ...]
    phases: tuple[int | None, ...]
    is_one_strand: bool = True

    def positions(self, strand: str) -> npt.NDArray[np.int64]:
        """Positions of the coding bases on the contig, in the order in which they are read.

        Examples
        --------
        >>> CodingTranscript("t", ((2, 4), (7, 8)), (0, 0)).positions("-").tolist()
        [7, 3, 2]
        """
        found = np.concatenate([np.arange(start, end) for start, end in self.parts])
        return found[::-1] if strand == "-" else found


@dataclass(frozen=True)
class CodingGene:
    """A gene with its transcripts that have CDS; ``start`` and ``end`` bound these."""

    name: str
    contig: str
    strand: str
    start: int
    end: int
    transcripts: tuple[CodingTranscript, ...]


@dataclass(frozen=True)
class CodingGenes:
    """What a GFF3 file says about coding genes, in the order of the file."""

    genes: tuple[CodingGene, ...]
    unknown_contigs: Mapping[str, int]
    """Contigs of CDS rows that the FASTA does not have, with their number."""
    n_without_parent: int
    """CDS rows that name no transcript, and are in no gene."""


@dataclass(frozen=True)
class GeneSubstitutions:
    """Every substitution of a gene's coding bases; n bases, in the order of the contig.

    Attributes
    ----------
    position
        int64 ``(n,)``, 0-based on the contig.
    ref
        uint8 ``(n,)``, the base on the forward strand.
    effect
        uint8 ``(n, 4)``: index into ``CLASSES`` for the forward strand's A, C, G, T instead; ``NO_CLASS`` for the base
        itself, in the first and the last codon, in a codon with N, and where the transcripts do not agree.
    codon_position
        uint8 ``(n,)``: 0, 1 or 2.
    """

    position: npt.NDArray[np.int64]
    ref: Codes
    effect: npt.NDArray[np.uint8]
    codon_position: npt.NDArray[np.uint8]


def read_coding_genes(path: str | Path, contig_lengths: Mapping[str, int]) -> CodingGenes:
    r"""Read the genes of a GFF3 file (plain, gzip or bgzip) that have CDS.

    A gene is what is above a transcript and has nothing above itself; a CDS may also name the gene itself as parent.

    Parameters
    ----------
    path
        The file.
    contig_lengths
        Name to length in bases.

    Raises
    ------
    AnnotationError
        With the line: a row that is not GFF3 or lies beyond the end of its contig, a parent that is not there, a CDS
        without strand or with a phase that is none; or no CDS on any contig of the FASTA.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.gff3"
    >>> rows = ["gene 1 9 . + . ID=g", "mRNA 1 9 . + . ID=t;Parent=g", "CDS 1 9 . + 0 Parent=t"]
    >>> _ = source.write_text("\n".join("\t".join(["chr1", ".", *row.split()]) for row in rows))
    >>> [(gene.name, gene.transcripts[0].parts) for gene in read_coding_genes(source, {"chr1": 9}).genes]
    [('g', ((0, 9),))]
    """
    rows: dict[str, list[Gff3Row]] = {}
    parts: dict[str, list[Gff3Row]] = {}
    unknown: dict[str, int] = {}
    n_without_parent = 0
    for identity, row in gff3_rows(path):
        if row.contig not in contig_lengths:
            if row.kind == "CDS":
                unknown[row.contig] = unknown.get(row.contig, 0) + 1
            continue
        require_inside(row, contig_lengths[row.contig], path)
        if row.kind == "CDS":
            _require_readable(row, path)
            n_without_parent += not row.parents
            for parent in row.parents:
                parts.setdefault(parent, []).append(row)
        elif identity:
            rows.setdefault(identity, []).append(row)
    if not parts:
        elsewhere = f"; it has CDS on {some_names(unknown)}, and the FASTA has no such contig" if unknown else ""
        raise AnnotationError(f"no CDS with a Parent on the contigs of the FASTA{elsewhere}", path)
    transcripts_of: dict[str, list[str]] = {}
    for transcript in parts:
        for gene in tops_of(path, transcript, rows):
            transcripts_of.setdefault(gene, []).append(transcript)
    genes = tuple(_gene(name, {t: parts[t] for t in transcripts}) for name, transcripts in transcripts_of.items())
    return CodingGenes(genes, unknown, n_without_parent)


def _require_readable(row: Gff3Row, path: str | Path) -> None:
    if row.strand not in ("+", "-"):
        raise AnnotationError(
            f"a CDS has strand {row.strand!r}, so nobody can say how it is read. Give it a strand, or leave it out.",
            path,
            row.line,
        )
    if row.phase not in ("0", "1", "2", "."):
        raise AnnotationError(f"a CDS has phase {row.phase!r}, which is none of 0, 1, 2 and '.'.", path, row.line)


def _gene(name: str, parts_of: Mapping[str, list[Gff3Row]]) -> CodingGene:
    first = next(iter(parts_of.values()))[0]
    transcripts = []
    for transcript, parts in parts_of.items():
        ordered = sorted(parts, key=lambda row: row.start)
        transcripts.append(
            CodingTranscript(
                transcript,
                tuple((row.start, row.end) for row in ordered),
                tuple(None if row.phase == "." else int(row.phase) for row in ordered),
                all((row.contig, row.strand) == (first.contig, first.strand) for row in ordered),
            )
        )
    start = min(start for each in transcripts for start, _ in each.parts)
    end = max(end for each in transcripts for _, end in each.parts)
    return CodingGene(name, first.contig, first.strand, start, end, tuple(transcripts))


def gene_problem(gene: CodingGene, codes: Codes, code: GeneticCode) -> str | None:
    """Say why a gene's substitutions cannot be told: the first of ``PROBLEMS`` that one of its transcripts has.

    Parameters
    ----------
    gene
        Of which ``codes`` ``(end - start,)`` are the bases, on the forward strand.
    code
        Whose start and stop codons are meant.
    """
    # Before any sequence is read: parts elsewhere do not belong to these codes.
    if not all(each.is_one_strand for each in gene.transcripts):
        return PROBLEMS[0]
    for transcript in gene.transcripts:
        starts, ends = np.array(transcript.parts).T
        if (starts[1:] < ends[:-1]).any():
            return PROBLEMS[1]
        if not _phases_follow(transcript, gene.strand):
            return PROBLEMS[2]
        read = _reading(transcript.positions(gene.strand), gene, codes)
        if len(read) % 3:
            return PROBLEMS[3]
        protein = code.translate(read)
        if "".join("ACGTN"[base] for base in read[:3]) not in code.starts:
            return PROBLEMS[4]
        if not protein.endswith("*"):
            return PROBLEMS[5]
        if "*" in protein[:-1]:
            return PROBLEMS[6]
    return None


def _phases_follow(transcript: CodingTranscript, strand: str) -> bool:
    """Whether each phase is the number of bases that finish the codon begun before; a missing one is not asked."""
    step = -1 if strand == "-" else 1
    before = 0
    for (start, end), phase in zip(transcript.parts[::step], transcript.phases[::step], strict=True):
        if phase is not None and phase != -before % 3:
            return False
        before += end - start
    return True


def _reading(positions: npt.NDArray[np.int64], gene: CodingGene, codes: Codes) -> Codes:
    """Bases at positions of the contig as the gene's strand has them."""
    found = codes[positions - gene.start]
    return complement(found) if gene.strand == "-" else found


def classify_substitutions(gene: CodingGene, codes: Codes, code: GeneticCode) -> GeneSubstitutions:
    """Tell of every substitution whether it is synonymous, missense or nonsense, where all transcripts agree.

    A base counts only where it is coding in every transcript of the gene that has CDS, in the same place of a codon,
    and a substitution only where it has the same class in each. The first and the last codon have no class: what
    changes there starts or ends the protein elsewhere.

    Parameters
    ----------
    gene
        Without a problem, see :func:`gene_problem`.
    codes
        Its bases ``(end - start,)``, on the forward strand.
    code
        The genetic code.

    Examples
    --------
    >>> from umbel.genome.genetic_code import genetic_code
    >>> from umbel.genome.sequence import encode
    >>> gene = CodingGene("g", "chr1", "+", 0, 9, (CodingTranscript("t", ((0, 9),), (0,)),))
    >>> found = classify_substitutions(gene, encode(b"ATGTATTAA")[0], genetic_code(1))
    >>> [CLASSES[effect] for effect in found.effect[5, :3]], int(found.effect[5, 3])
    (['nonsense', 'synonymous', 'nonsense'], 255)
    """
    length = gene.end - gene.start
    n_coding = np.zeros(length, np.int64)
    effect = np.full((length, 4), NO_CLASS, np.uint8)
    place = np.full(length, NO_CLASS, np.uint8)
    for number, transcript in enumerate(gene.transcripts):
        at = transcript.positions(gene.strand) - gene.start
        mine = _effects(_reading(at + gene.start, gene, codes), code)
        if gene.strand == "-":
            # Columns are the bases of the forward strand: A stands for the T that is read.
            mine = mine[:, ::-1]
        turn = np.tile(np.arange(3, dtype=np.uint8), len(at) // 3)
        if number:
            mine = np.where((mine == effect[at]) & (turn == place[at])[:, None], mine, NO_CLASS)
        effect[at], place[at] = mine, turn
        n_coding[at] += 1
    counted = np.flatnonzero(n_coding == len(gene.transcripts))
    return GeneSubstitutions(counted + gene.start, codes[counted], effect[counted], place[counted])


def _effects(read: Codes, code: GeneticCode) -> npt.NDArray[np.uint8]:
    """Class of each base ``(L,)`` of a reading frame changed to A, C, G, T, ``(L, 4)``."""
    amino_acids = code.amino_acids
    codons = read.reshape(-1, 3).astype(np.int64)
    known = np.minimum(codons, N - 1)
    weights = np.array([16, 4, 1])
    before = known @ weights
    # What stays of the codon, and then each base in its place.
    after = (before[:, None] - known * weights)[:, :, None] + np.arange(4) * weights[:, None]
    was, becomes = amino_acids[before][:, None, None], amino_acids[after]
    found = np.where(becomes == was, SYNONYMOUS, np.where(becomes == STOP, NONSENSE, MISSENSE)).astype(np.uint8)
    found[(codons[:, :, None] == np.arange(4)) | (codons == N).any(axis=1)[:, None, None]] = NO_CLASS
    found[[0, -1]] = NO_CLASS
    return found.reshape(-1, 4)


def shared_runs(genes: Sequence[CodingGene]) -> dict[str, Runs]:
    """Find the bases that are coding in more than one gene: contig to merged runs.

    Examples
    --------
    >>> def gene(start):
    ...     return CodingGene("g", "c", "+", start, start + 6, (CodingTranscript("t", ((start, start + 6),), (0,)),))
    >>> shared_runs([gene(0), gene(4)])["c"].tolist()
    [[4, 6]]
    """
    edges: dict[str, list[tuple[int, int]]] = {}
    for gene in genes:
        if all(each.is_one_strand for each in gene.transcripts):
            mine = merge(as_runs(part for each in gene.transcripts for part in each.parts))
            found = edges.setdefault(gene.contig, [])
            found += [(int(start), 1) for start in mine[:, 0]]
            found += [(int(end), -1) for end in mine[:, 1]]
    return {contig: _deep_runs(np.array(sorted(found))) for contig, found in edges.items()}


def _deep_runs(edges: npt.NDArray[np.int64]) -> Runs:
    """Where the depth that edges ``(n, 2)`` of position and step add up to is above 1."""
    depth = np.cumsum(edges[:, 1])
    deep = np.flatnonzero(depth[:-1] > 1)
    return merge(np.column_stack((edges[deep, 0], edges[deep + 1, 0])))
