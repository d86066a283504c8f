"""What becomes of each allele of a record: a variant to score, or the reason why there is none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from umbel.genome.sequence import N, decode, encode
from umbel.genome.variant import Genome, Variant, left_normalise
from umbel.genome.vcf import VcfRecord
from umbel.predict.variants.windows import VariantWindow, cut_window


class Fate(StrEnum):
    """What became of an allele."""

    SCORED = "scored"
    REF_MISMATCH = "ref_mismatch"
    NO_CONTIG = "no_contig"
    BEYOND_CONTIG = "beyond_contig"
    TOO_LONG = "too_long"
    NO_SEQUENCE = "no_sequence"
    N_AT_ALLELE = "n_at_allele"
    SHORT_WINDOW = "short_window"
    PLACEHOLDER = "placeholder"
    EQUAL = "equal"


FILTERS: Mapping[str, str] = {
    "UMBEL_REF_MISMATCH": "REF is not what the reference has at this position, no score",
    "UMBEL_NO_CONTIG": "The reference has no contig of this name, no score",
    "UMBEL_BEYOND_CONTIG": "POS or REF lies outside the contig, no score",
    "UMBEL_TOO_LONG": "An allele is longer than the limit, it has no score",
    "UMBEL_NO_SEQUENCE": "The record does not tell the bases of an allele, it has no score",
    "UMBEL_N_IN_WINDOW": "An N or ambiguity letter lies in the window, at an allele itself there is no score",
    "UMBEL_SHORT_WINDOW": "Fewer known bases around an allele than the model needs, it has no score",
}
"""Name and meaning of each FILTER, in the order in which they are written."""

_FILTER_OF = {
    Fate.REF_MISMATCH: "UMBEL_REF_MISMATCH",
    Fate.NO_CONTIG: "UMBEL_NO_CONTIG",
    Fate.BEYOND_CONTIG: "UMBEL_BEYOND_CONTIG",
    Fate.TOO_LONG: "UMBEL_TOO_LONG",
    Fate.NO_SEQUENCE: "UMBEL_NO_SEQUENCE",
    Fate.N_AT_ALLELE: "UMBEL_N_IN_WINDOW",
    Fate.SHORT_WINDOW: "UMBEL_SHORT_WINDOW",
}
# Alleles that stand for "deleted elsewhere" or "anything else": there is nothing to score, and nothing is wrong.
_PLACEHOLDERS = ("*", "<*>", "<NON_REF>", ".")
_LETTERS = re.compile("[ACGTURYSWKMBDHVN]+", re.IGNORECASE)
_SYMBOLIC_DELETION = re.compile(r"<DEL(:[^<>]*)?>")
_SYMBOLIC_DUPLICATION = ("<DUP>", "<DUP:TANDEM>")


@dataclass(frozen=True)
class Allele:
    """An allele, what became of it, and where it is scored its window.

    Attributes
    ----------
    variant
        Left-normalised, its contig named as in the reference; None where there is none.
    window
        None where there is no score.
    """

    fate: Fate
    variant: Variant | None = None
    window: VariantWindow | None = None

    @property
    def filter(self) -> str | None:
        """The FILTER that it gives to its record."""
        if self.window is not None and self.window.has_n:
            return "UMBEL_N_IN_WINDOW"
        return _FILTER_OF.get(self.fate)


@dataclass(frozen=True)
class Limits:
    """What an allele and its window may be.

    Attributes
    ----------
    max_allele_bp, flank_bp
        Longest allele, and bases on either side of it.
    min_bases
        Known bases that a window must have.
    """

    max_allele_bp: int
    flank_bp: int
    min_bases: int = 1


def alleles_of(record: VcfRecord, contig: str | None, genome: Genome, limits: Limits) -> list[Allele]:
    """Resolve every allele of a record alone, in the order of ALT; none where ALT is ``.``.

    Parameters
    ----------
    contig
        The record's contig as the genome names it, None where it has none.
    """
    fate = _fate_of_record(record, contig, genome)
    if fate is not None or contig is None:
        return [Allele(fate or Fate.NO_CONTIG)] * len(record.alts)
    return [_allele(record, number, contig, genome, limits) for number in range(len(record.alts))]


def _fate_of_record(record: VcfRecord, contig: str | None, genome: Genome) -> Fate | None:
    """Say what is wrong with all alleles alike, if anything is."""
    if contig is None or contig not in genome.lengths:
        return Fate.NO_CONTIG
    start, end = record.pos - 1, record.pos - 1 + len(record.ref)
    if start < 0 or end > genome.lengths[contig]:
        return Fate.BEYOND_CONTIG
    if not is_letters(record.ref):
        return Fate.NO_SEQUENCE
    told, there = encode(record.ref.encode("ascii"))[0], genome.fetch(contig, start, end)
    return Fate.REF_MISMATCH if ((told != there) & (told < N) & (there < N)).any() else None


def _allele(record: VcfRecord, number: int, contig: str, genome: Genome, limits: Limits) -> Allele:
    alt = record.alts[number]
    if alt in _PLACEHOLDERS:
        return Allele(Fate.PLACEHOLDER)
    if is_letters(alt):
        variant = Variant(contig, record.pos - 1, record.ref.upper(), alt.upper()).trimmed()
    else:
        found = _symbolic(record, number, contig, genome, limits)
        if isinstance(found, Fate):
            return Allele(found)
        variant = found
    if variant.kind == "none":
        return Allele(Fate.EQUAL)
    if max(len(variant.ref), len(variant.alt)) > limits.max_allele_bp:
        return Allele(Fate.TOO_LONG, variant)
    there = decode(genome.fetch(contig, variant.start, variant.end))
    if set(variant.ref + variant.alt + there) - set("ACGT"):
        return Allele(Fate.N_AT_ALLELE, variant)
    variant = left_normalise(variant, genome)
    window = cut_window(variant, genome, limits.flank_bp)
    if window.least_known < limits.min_bases:
        return Allele(Fate.SHORT_WINDOW, variant)
    return Allele(Fate.SCORED, variant, window)


def symbolic_length(record: VcfRecord, number: int) -> int | None:
    """Bases that ``<DEL>`` or ``<DUP>`` is about: SVLEN of the allele, or END - POS; None where these do not tell.

    Where both are told of the only allele they must agree.

    Examples
    --------
    >>> def told(info):
    ...     return symbolic_length(VcfRecord(1, ("c", "10", ".", "A", "<DEL>", ".", ".", info), 10), 0)
    >>> told("END=15"), told("SVLEN=-5"), told("SVLEN=-5;END=15"), told("SVLEN=-5;END=19"), told(".")
    (5, 5, 5, None, None)
    """
    lengths = (record.info("SVLEN") or "").split(",")
    by_length = _whole_number(lengths[number].lstrip("-")) if number < len(lengths) else None
    end = _whole_number(record.info("END") or "")
    by_end = None if end is None else end - record.pos
    if by_length and by_end is not None and len(record.alts) == 1 and by_length != by_end:
        return None
    length = by_length or by_end
    return length if length is not None and length > 0 else None


def is_symbolic_change(alt: str) -> bool:
    """Whether an allele is a deletion or a tandem duplication without letters."""
    return _SYMBOLIC_DELETION.fullmatch(alt) is not None or alt in _SYMBOLIC_DUPLICATION


def is_letters(allele: str) -> bool:
    """Whether an allele is told in letters, of either case, ambiguous ones among them."""
    return _LETTERS.fullmatch(allele) is not None


def _whole_number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() else None


def _symbolic(record: VcfRecord, number: int, contig: str, genome: Genome, limits: Limits) -> Variant | Fate:
    """Turn ``<DEL>`` and ``<DUP>`` into letters: the bases behind POS, away or once more."""
    alt = record.alts[number]
    length = symbolic_length(record, number)
    if not is_symbolic_change(alt) or length is None:
        return Fate.NO_SEQUENCE
    if record.pos + length > genome.lengths[contig]:
        return Fate.BEYOND_CONTIG
    if length > limits.max_allele_bp:
        return Fate.TOO_LONG
    letters = decode(genome.fetch(contig, record.pos, record.pos + length))
    if alt in _SYMBOLIC_DUPLICATION:
        return Variant(contig, record.pos + length, "", letters)
    return Variant(contig, record.pos, letters, "")
