"""Splice sites, start and stop codons of annotated genes, and decoys: the same letters elsewhere in the same gene."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from umbel.errors import AnnotationError
from umbel.genome.annotation import bed_rows, some_names
from umbel.genome.reference import Reference
from umbel.genome.runs import Runs, as_runs, fill, merge
from umbel.genome.sequence import Codes, encode, revcomp
from umbel.genome.transcripts import Span, Transcript

SiteKind = Literal["donor", "acceptor", "start codon", "stop codon"]
SITE_KINDS: tuple[SiteKind, ...] = get_args(SiteKind)
MOTIFS: Mapping[SiteKind, tuple[str, ...]] = {
    "donor": ("GT",),
    "acceptor": ("AG",),
    "start codon": ("ATG",),
    "stop codon": ("TAA", "TAG", "TGA"),
}
"""Letters of each kind; sites with others (a GC donor) are no examples, and are no decoys either."""
MIN_INTRON_BP = 20
_TRIES = 8


class Site(NamedTuple):
    """Where the letters of a site are: ``start`` is the lowest of their coordinates, on either strand."""

    contig: str
    start: int
    strand: str


class Locus(NamedTuple):
    """Bases that overlapping transcripts of one strand cover together."""

    contig: str
    strand: str
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class SiteWindows:
    """Sites and as many decoys, on the strand of their gene.

    Attributes
    ----------
    codes
        uint8 ``(n, flank_bp + motif_bp + flank_bp)``; no N.
    is_site
        bool ``(n,)``.
    locus
        int64 ``(n,)``: number of the locus, ascending from 0; each has as many sites as decoys.
    flank_bp, motif_bp
        The letters of the site are ``codes[:, flank_bp : flank_bp + motif_bp]``.
    """

    kind: SiteKind
    codes: Codes
    is_site: npt.NDArray[np.bool_]
    locus: npt.NDArray[np.int64]
    flank_bp: int
    motif_bp: int

    def __len__(self) -> int:
        return len(self.codes)


def sites_of(transcripts: Iterable[Transcript], kind: SiteKind) -> set[Site]:
    """Find the sites of one kind; transcripts that do not lie on one strand have none.

    Gaps of fewer than 20 bases between exons are no introns. A codon that an intron parts is left out, and so are the
    start of a CDS that begins with a phase other than 0 and the end of one that is then no multiple of 3 long.

    Examples
    --------
    >>> one = Transcript("t", "c", "+", ((0, 99),), ((0, 9), (40, 99)), ((3, 9), (40, 70)), (0, 0), (3, 70))
    >>> [sorted(place.start for place in sites_of([one], kind)) for kind in SITE_KINDS]
    [[9], [38], [3], [67]]
    """
    return {site for one in transcripts if one.strand for site in _of_transcript(one, kind)}


def _of_transcript(one: Transcript, kind: SiteKind) -> Iterator[Site]:
    is_plus = one.strand == "+"
    if kind in ("donor", "acceptor"):
        at_left = (kind == "donor") == is_plus
        for (_, left), (right, _) in pairwise(one.exons):
            if right - left >= MIN_INTRON_BP:
                yield Site(one.contig, left if at_left else right - 2, one.strand)
        return
    if not one.cds:
        return
    first_phase = one.phases[0 if is_plus else -1] or 0
    n_coding = sum(end - start for start, end in one.cds) - first_phase
    if (kind == "start codon" and first_phase) or (kind == "stop codon" and n_coding % 3):
        return
    start, end = one.cds[0] if (kind == "start codon") == is_plus else one.cds[-1]
    if end - start >= 3:
        yield Site(one.contig, start if (kind == "start codon") == is_plus else end - 3, one.strand)


def loci_of(transcripts: Iterable[Transcript]) -> list[Locus]:
    """Join transcripts that overlap on one strand; sorted by contig, strand and start."""
    spans: dict[tuple[str, str], list[Span]] = {}
    for one in transcripts:
        if one.strand:
            spans.setdefault((one.contig, one.strand), []).append((one.start, one.end))
    return [
        Locus(contig, strand, int(start), int(end))
        for (contig, strand), own in sorted(spans.items())
        for start, end in merge(as_runs(own))
    ]


def read_introns(path: str | Path, contig_names: Mapping[str, str]) -> tuple[Transcript, ...]:
    r"""Make transcripts without CDS of a BED file of introns; those of one name are one transcript.

    What lies before its first and behind its last intron is not known: the transcript is given one base of exon there.

    Parameters
    ----------
    path
        BED of 6 columns.
    contig_names
        Contig in this file to contig in the genome; rows of others are passed over.

    Raises
    ------
    AnnotationError
        If a row is broken, the file has no row on these contigs, or introns of one name overlap or are on two strands.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.bed"
    >>> _ = source.write_text("Chr5\t20\t90\tt\t0\t-\n")
    >>> read_introns(source, {"Chr5": "5"})[0].exons
    ((19, 20), (90, 91))
    """
    found: dict[tuple[str, str], list[tuple[int, int, str]]] = {}
    others: dict[str, None] = {}
    for row in bed_rows(path):
        if row.contig in contig_names:
            found.setdefault((contig_names[row.contig], row.name), []).append((row.start, row.end, row.strand))
        else:
            others[row.contig] = None
    if not found:
        raise AnnotationError(
            f"no intron on {some_names(contig_names)}; the file has {some_names(others) or 'no row'}.", path
        )
    made = []
    for (contig, name), rows in found.items():
        rows.sort()
        edges = [rows[0][0] - 1, *(place for start, end, _ in rows for place in (start, end)), rows[-1][1] + 1]
        if len({strand for _, _, strand in rows}) > 1 or any(a >= b for a, b in pairwise(edges)):
            raise AnnotationError(f"introns of {name} overlap, or lie on two strands.", path)
        exons = tuple(zip(edges[::2], edges[1::2], strict=True))
        made.append(Transcript(name, contig, rows[0][2], ((edges[0], edges[-1]),), exons, (), (), None))
    return tuple(made)


def draw_sites(
    reference: Reference,
    transcripts: Iterable[Transcript],
    kind: SiteKind,
    n: int,
    flank_bp: int,
    *,
    per_locus: int = 1,
    contigs: Iterable[str] = (),
    avoid: Mapping[str, Runs] | None = None,
    seed: int = 0,
) -> SiteWindows:
    """Draw sites, and for each a decoy: the same letters on the same strand inside the same locus, and no site.

    So neither a gene's composition nor the letters themselves can tell the two apart.

    Parameters
    ----------
    reference, transcripts
        Of one assembly.
    kind
        Which sites.
    n
        Most sites; and as many decoys.
    flank_bp
        Bases shown on either side.
    per_locus
        Most sites of one locus.
    contigs
        Only these; empty: all.
    avoid
        Contig to stretches that no window may touch.
    seed
        Same seed, same sites.

    Raises
    ------
    AnnotationError
        If not a single site can be drawn.
    """
    known = [one for one in transcripts if one.contig in reference.lengths]
    only = set(contigs) or set(reference.lengths)
    of_locus: dict[tuple[str, str], list[int]] = {}
    real = sites_of(known, kind)
    for site in real:
        of_locus.setdefault((site.contig, site.strand), []).append(site.start)
    starts = {key: np.array(sorted(own)) for key, own in of_locus.items()}
    motifs = [encode(text.encode())[0] for text in MOTIFS[kind]]
    loci = [locus for locus in loci_of(known) if locus.contig in only and (locus.contig, locus.strand) in starts]
    rng = np.random.default_rng([seed, SITE_KINDS.index(kind)])
    windows: list[Codes] = []
    numbers: list[int] = []
    for i in rng.permutation(len(loci)).tolist():
        if len(windows) >= 2 * n:
            break
        locus = loci[i]
        usable = _Usable(reference, locus, len(motifs[0]), flank_bp, (avoid or {}).get(locus.contig))
        own = starts[locus.contig, locus.strand]
        inside = own[(own >= locus.start) & (own + len(motifs[0]) <= locus.end)]
        number, taken = (numbers[-1] + 1 if numbers else 0), 0
        chosen: set[int] = set()
        real_here = set(inside.tolist())
        for place in rng.permutation(inside).tolist():
            if taken == per_locus or len(windows) >= 2 * n:
                break
            shown = usable.window(place)
            if shown is None:
                continue
            letters = shown[flank_bp : flank_bp + len(motifs[0])]
            if not any(np.array_equal(letters, motif) for motif in motifs):
                continue
            others = [at for at in usable.places(letters) if at not in chosen and at not in real_here]
            for at in rng.permutation(others)[:_TRIES].tolist():
                decoy = usable.window(int(at))
                if decoy is not None:
                    windows += [shown, decoy]
                    numbers += [number, number]
                    chosen.add(int(at))
                    taken += 1
                    break
    if not windows:
        raise AnnotationError(
            f"no {kind} with a decoy on {some_names(sorted(only))}: {len(real)} sites in {len(loci)} genes. Give a "
            f"genome with genes there, or fewer than {flank_bp} flanking bases.",
            reference.path,
        )
    is_site = np.tile([True, False], len(windows) // 2)
    return SiteWindows(kind, np.stack(windows), is_site, np.array(numbers, np.int64), flank_bp, len(motifs[0]))


class _Usable:
    """The bases of a locus and of the flanks of its windows, read once."""

    def __init__(self, reference: Reference, locus: Locus, motif_bp: int, flank_bp: int, avoid: Runs | None):
        self.locus, self.motif_bp, self.flank_bp = locus, motif_bp, flank_bp
        self.first = max(0, locus.start - flank_bp)
        last = min(reference.lengths[locus.contig], locus.end + flank_bp)
        self.codes = reference.fetch(locus.contig, self.first, last)
        self.bad = self.codes > 3
        if avoid is not None:
            fill(self.bad, avoid, self.first, np.True_)

    def window(self, start: int) -> Codes | None:
        """Bases around the letters at ``start``, on the strand of the locus; None where some are missing or bad."""
        low = start - self.flank_bp - self.first
        high = start + self.motif_bp + self.flank_bp - self.first
        if low < 0 or high > len(self.codes) or self.bad[low:high].any():
            return None
        shown = self.codes[low:high]
        return revcomp(shown) if self.locus.strand == "-" else shown

    def places(self, letters: Codes) -> list[int]:
        """Where else in the locus these letters, as read on its strand, stand."""
        wanted = revcomp(letters) if self.locus.strand == "-" else letters
        inside = self.codes[self.locus.start - self.first : self.locus.end - self.first]
        n = len(inside) - len(wanted) + 1
        same = np.ones(max(0, n), bool)
        for offset, base in enumerate(wanted.tolist()):
            same &= inside[offset : offset + len(same)] == base
        return (np.flatnonzero(same) + self.locus.start).tolist()
