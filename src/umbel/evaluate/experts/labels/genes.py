"""Labellings of a GFF3 file's genes: region, splice and start sites, strand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from umbel.evaluate.experts.labels.codons import CodonLabels
from umbel.evaluate.experts.labels.labeller import Labeller, RunLabels, made_of
from umbel.evaluate.experts.source import NO_CLASS, Labelling
from umbel.genome.class_runs import paint
from umbel.genome.named_features import told_unknown
from umbel.genome.transcripts import Transcript, Transcripts, read_transcripts

REGIONS = ("promoter", "5' UTR", "3' UTR", "CDS", "intron", "noncoding", "intergenic")
PROMOTER, FIVE_UTR, THREE_UTR, CDS, INTRON, NONCODING, INTERGENIC = range(7)
UPSTREAM_BP = 500

SITES = ("donor", "acceptor", "start codon", "stop codon", "TSS", "no site")
DONOR, ACCEPTOR, START_CODON, STOP_CODON, TSS, NO_SITE = range(6)
DONOR_BP, ACCEPTOR_BP, TSS_BP = (3, 6), (20, 3), (50, 10)
"""Bases before and behind the edge: of exon and intron, of intron and exon, upstream and transcribed."""
MIN_INTRON_BP = 20
"""Shorter gaps between exons, such as frame shifts, have no splice sites."""

STRANDS = ("+", "-", "both")
BOTH = 2

# A base that several features claim has the class that is painted last; -1 takes the class away.
_REGION_ORDER = (PROMOTER, INTRON, NONCODING, THREE_UTR, FIVE_UTR, CDS)
_SITE_ORDER = (TSS, ACCEPTOR, DONOR, STOP_CODON, START_CODON)

Feature = tuple[int, int, int]


@dataclass(frozen=True)
class GeneLabels:
    """The four labellings of a GFF3 file."""

    region: Labeller
    codon: Labeller
    sites: Labeller
    strand: Labeller

    def all(self) -> tuple[Labeller, ...]:
        """Give all of them."""
        return self.region, self.codon, self.sites, self.strand


def gene_labels(path: str | Path, contig_lengths: Mapping[str, int], upstream_bp: int = UPSTREAM_BP) -> GeneLabels:
    r"""Read a GFF3 file once, and make its labellings.

    A contig without any row has no classes. Neither has a transcript whose rows do not lie on one strand of one contig
    (trans-splicing), nor what it covers: the notes tell how many there are.

    - ``region``: every base, the first of CDS, 5' UTR, 3' UTR, noncoding (exons of transcripts without CDS), intron,
      promoter (``upstream_bp`` bases upstream of the first base of a transcript), intergenic. Features with nothing
      below them, such as a bare pseudogene, are intergenic.
    - ``codon position``: see :class:`~umbel.evaluate.experts.labels.codons.CodonLabels`.
    - ``site``: the first of start codon and stop codon (three coding bases each), donor (3 bases of the exon and 6 of
      the intron), acceptor (20 of the intron and 3 of the exon), TSS (50 bases upstream and 10 transcribed), no site.
      Gaps of fewer than 20 bases are no introns. A CDS that begins with a phase other than 0 has no start codon, one
      whose length is then no multiple of 3 no stop codon, and a coding transcript without 5' UTR no TSS.
    - ``strand``: of the gene, introns included; between genes there is none.

    Parameters
    ----------
    path
        GFF3, plain, gzip or bgzip.
    contig_lengths
        Name to length in bases, of the genome.
    upstream_bp
        Length of promoters.

    Raises
    ------
    AnnotationError
        As :func:`umbel.genome.transcripts.read_transcripts`.
    ValueError
        If ``upstream_bp`` is negative.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.gff3"
    >>> rows = ["mRNA 5 10 . + . ID=t", "exon 5 10 . + . Parent=t", "CDS 7 9 . + 0 Parent=t"]
    >>> _ = source.write_text("\n".join("\t".join(["chr1", ".", *row.split()]) for row in rows))
    >>> labels = gene_labels(source, {"chr1": 12}, upstream_bp=2)
    >>> [REGIONS[c] for c in labels.region.labels("chr1", 2, 11)][:6]
    ['promoter', 'promoter', "5' UTR", "5' UTR", 'CDS', 'CDS']
    """
    if upstream_bp < 0:
        raise ValueError(f"upstream_bp is {upstream_bp}: give 0 or more")
    found = read_transcripts(path, contig_lengths)
    name = Path(path).name
    notes = told_unknown(found.unknown_contigs, name)
    n_unclear = sum(not each.strand for each in found.transcripts)
    if n_unclear:
        notes.append(f"{name}: {n_unclear:,} transcripts do not lie on one strand: what they cover has no class.")
    bare = sorted(set(contig_lengths) - found.annotated)
    if bare:
        shown = ", ".join(bare[:3]) + (f" and {len(bare) - 3:,} more" if len(bare) > 3 else "")
        notes.append(f"{name}: {len(bare):,} contigs have no row, and no classes of genes ({shown}).")
    facts = made_of(path, notes, n_transcripts=len(found.transcripts))
    region = _painted(
        Labelling("region", REGIONS, facts={**facts, "upstream_bp": upstream_bp}),
        found,
        contig_lengths,
        lambda one: _regions(one, upstream_bp),
        (*_REGION_ORDER, NO_CLASS),
        INTERGENIC,
    )
    windows: dict[str, Any] = {"donor_bp": list(DONOR_BP), "acceptor_bp": list(ACCEPTOR_BP), "tss_bp": list(TSS_BP)}
    sites = _painted(
        Labelling("site", SITES, facts={**facts, **windows, "min_intron_bp": MIN_INTRON_BP}),
        found,
        contig_lengths,
        _sites,
        (*_SITE_ORDER, NO_CLASS),
        NO_SITE,
    )
    return GeneLabels(region, CodonLabels.of(found, facts), sites, _strands(found, contig_lengths, facts))


def _painted(
    labelling: Labelling,
    found: Transcripts,
    contig_lengths: Mapping[str, int],
    features: Callable[[Transcript], Iterator[Feature]],
    order: tuple[int, ...],
    rest: int,
) -> RunLabels:
    """Paint what each transcript claims; an unclear one takes the class away from what it covers."""
    of_contig: dict[str, list[Feature]] = {contig: [] for contig in sorted(found.annotated)}
    for one in found.transcripts:
        claimed = features(one) if one.strand else ((start, end, NO_CLASS) for start, end in (*one.spans, *one.exons))
        of_contig[one.contig].extend(claimed)
    runs = {
        contig: paint(np.array(rows, np.int64), order, contig_lengths[contig], rest)
        for contig, rows in of_contig.items()
    }
    return RunLabels(labelling, runs)


def _regions(one: Transcript, upstream_bp: int) -> Iterator[Feature]:
    is_plus = one.strand == "+"
    yield (one.start - upstream_bp, one.start, PROMOTER) if is_plus else (one.end, one.end + upstream_bp, PROMOTER)
    for start, end in one.spans:
        yield start, end, INTRON
    for start, end in one.exons:
        if one.coding is None:
            yield start, end, NONCODING
            continue
        first, last = one.coding
        yield start, min(end, first), FIVE_UTR if is_plus else THREE_UTR
        # What CDS leaves out of an exon between its first and last base is no UTR.
        yield max(start, first), min(end, last), NONCODING
        yield max(start, last), end, THREE_UTR if is_plus else FIVE_UTR
    for start, end in one.cds:
        yield start, end, CDS


def _sites(one: Transcript) -> Iterator[Feature]:
    is_plus = one.strand == "+"
    for (_, left), (right, _) in zip(one.exons, one.exons[1:], strict=False):
        if right - left < MIN_INTRON_BP:
            continue
        if is_plus:
            yield left - DONOR_BP[0], left + DONOR_BP[1], DONOR
            yield right - ACCEPTOR_BP[0], right + ACCEPTOR_BP[1], ACCEPTOR
        else:
            yield right - DONOR_BP[1], right + DONOR_BP[0], DONOR
            yield left - ACCEPTOR_BP[1], left + ACCEPTOR_BP[0], ACCEPTOR
    has_leader = one.coding is None or (one.start < one.coding[0] if is_plus else one.coding[1] < one.end)
    if has_leader:
        before, behind = TSS_BP
        yield (one.start - before, one.start + behind, TSS) if is_plus else (one.end - behind, one.end + before, TSS)
    if one.cds:
        coding = np.concatenate([np.arange(start, end) for start, end in one.cds])
        coding, phase = (coding, one.phases[0]) if is_plus else (coding[::-1], one.phases[-1])
        phase = phase or 0
        if phase == 0 and len(coding) >= 3:
            yield from ((place, place + 1, START_CODON) for place in coding[:3].tolist())
        if (len(coding) - phase) % 3 == 0 and len(coding) - phase >= 3:
            yield from ((place, place + 1, STOP_CODON) for place in coding[-3:].tolist())


def _strands(found: Transcripts, contig_lengths: Mapping[str, int], facts: Mapping[str, Any]) -> RunLabels:
    of_contig: dict[str, list[Feature]] = {contig: [] for contig in sorted(found.annotated)}
    for gene in found.genes:
        number = STRANDS.index(gene.strand) if gene.strand else NO_CLASS
        of_contig[gene.contig].append((gene.start, gene.end, number))
    runs = {}
    for contig, rows in of_contig.items():
        table = np.array(rows, np.int64).reshape(-1, 3)
        length = contig_lengths[contig]
        # Where both strands have a gene: each strand alone first, then what they have in common.
        alone = {number: paint(table[table[:, 2] == number], (number,), length) for number in (0, 1)}
        shared = [
            (max(a, c), min(b, d), BOTH)
            for (a, b), (c, d) in _overlaps(
                list(zip(alone[0].starts.tolist(), alone[0].ends.tolist(), strict=True)),
                list(zip(alone[1].starts.tolist(), alone[1].ends.tolist(), strict=True)),
            )
        ]
        both = np.array([*rows, *shared], np.int64).reshape(-1, 3)
        runs[contig] = paint(both, (0, 1, BOTH, NO_CLASS), length)
    return RunLabels(Labelling("strand", STRANDS, facts=dict(facts)), runs)


def _overlaps(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Give the pairs of sorted runs that overlap."""
    i = j = 0
    while i < len(one) and j < len(other):
        if one[i][0] < other[j][1] and other[j][0] < one[i][1]:
            yield one[i], other[j]
        if one[i][1] <= other[j][1]:
            i += 1
        else:
            j += 1
