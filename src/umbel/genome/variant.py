"""A difference from a genome at one place, in the one form that equal differences share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from umbel.genome.sequence import Codes, decode

Kind = Literal["snv", "mnv", "insertion", "deletion", "complex", "none"]
"""``mnv``: several bases for as many others; ``complex``: bases for more or fewer; ``none``: both alleles are equal."""

_FIRST_LOOK_BP, _LONGEST_LOOK_BP = 64, 1 << 16


class Genome(Protocol):
    """What is asked of a genome here; :class:`~umbel.genome.reference.Reference` is one."""

    lengths: dict[str, int]

    def fetch(self, contig: str, start: int, end: int) -> Codes:
        """Read bases ``start`` to ``end``, 0-based half-open."""
        ...


@dataclass(frozen=True)
class Variant:
    """Bases ``ref`` from ``start`` (0-based) of a contig replaced by ``alt``; upper-case letters, either may be empty.

    Examples
    --------
    >>> variant = Variant("chr1", 9, "ACG", "ATTG")
    >>> variant.end, variant.kind, variant.trimmed()
    (12, 'complex', Variant(contig='chr1', start=10, ref='C', alt='TT'))
    """

    contig: str
    start: int
    ref: str
    alt: str

    @property
    def end(self) -> int:
        """Where the replaced bases end."""
        return self.start + len(self.ref)

    @cached_property
    def kind(self) -> Kind:
        """What kind of difference this is, whatever surrounds it in ``ref`` and ``alt``.

        Examples
        --------
        >>> [Variant("c", 0, ref, alt).kind for ref, alt in (("AC", "AG"), ("AC", "A"), ("A", "CA"), ("CAC", "GAG"))]
        ['snv', 'deletion', 'insertion', 'mnv']
        """
        least = self.trimmed()
        ref, alt = least.ref, least.alt
        if len(ref) == len(alt):
            return "none" if not ref else "snv" if len(ref) == 1 else "mnv"
        return "insertion" if not ref else "deletion" if not alt else "complex"

    @property
    def changed(self) -> tuple[int, ...]:
        """Positions in ``ref`` at which a substitution differs; empty where lengths differ.

        Examples
        --------
        >>> Variant("c", 0, "ACG", "TCA").changed
        (0, 2)
        """
        if len(self.ref) != len(self.alt):
            return ()
        return tuple(i for i, (a, b) in enumerate(zip(self.ref, self.alt, strict=True)) if a != b)

    def trimmed(self) -> Variant:
        """Take away what both alleles share: at the end first, then at the start.

        Examples
        --------
        >>> Variant("c", 5, "AAA", "AA").trimmed()
        Variant(contig='c', start=5, ref='A', alt='')
        """
        ref, alt = self.ref, self.alt
        shorter = min(len(ref), len(alt))
        behind = 0
        while behind < shorter and ref[-1 - behind] == alt[-1 - behind]:
            behind += 1
        before = 0
        while before < shorter - behind and ref[before] == alt[before]:
            before += 1
        if not before and not behind:
            return self
        return Variant(
            self.contig, self.start + before, ref[before : len(ref) - behind], alt[before : len(alt) - behind]
        )


def left_normalise(variant: Variant, genome: Genome) -> Variant:
    """Give the form that all ways to write the same insertion or deletion share: the leftmost, without shared bases.

    It is what ``bcftools norm -f`` writes, without the base that VCF repeats before an insertion or deletion
    (:func:`anchored` puts it there).

    Parameters
    ----------
    variant
        Its ``ref`` is what the genome has there.
    genome
        Read leftwards from the variant, as far as it can be shifted.

    References
    ----------
    Tan, Abecasis and Kang 2015, "Unified representation of genetic variants", doi:10.1093/bioinformatics/btv112.

    Examples
    --------
    >>> class Repeat:
    ...     lengths = {"c": 8}
    ...     def fetch(self, contig, start, end):
    ...         return np.array([1, 0, 2, 0, 2, 0, 2, 3], np.uint8)[start:end]
    >>> left_normalise(Variant("c", 5, "AG", ""), Repeat())
    Variant(contig='c', start=1, ref='AG', alt='')
    """
    least = variant.trimmed()
    letters = least.ref or least.alt
    if bool(least.ref) == bool(least.alt):
        return least
    pattern = np.frombuffer(letters.encode("ascii"), np.uint8)[::-1]
    shift, look = 0, _FIRST_LOOK_BP
    while shift < least.start:
        end = least.start - shift
        before = decode(genome.fetch(least.contig, max(0, end - look), end))
        seen = np.frombuffer(before.encode("ascii"), np.uint8)[::-1]
        differs = seen != pattern[(shift + np.arange(len(seen))) % len(pattern)]
        if differs.any():
            shift += int(differs.argmax())
            break
        shift += len(seen)
        look = min(2 * look, _LONGEST_LOOK_BP)
    turned = letters[len(letters) - shift % len(letters) :] + letters[: len(letters) - shift % len(letters)]
    start = least.start - shift
    return Variant(least.contig, start, turned, "") if least.ref else Variant(least.contig, start, "", turned)


def anchored(variant: Variant, genome: Genome) -> Variant:
    """Give a variant the neighbouring base that VCF wants where an allele is empty: that before, or else that behind.

    Raises
    ------
    ValueError
        If the variant is a whole contig.

    Examples
    --------
    >>> class Short:
    ...     lengths = {"c": 3}
    ...     def fetch(self, contig, start, end):
    ...         return np.array([0, 1, 2], np.uint8)[start:end]
    >>> anchored(Variant("c", 1, "C", ""), Short()), anchored(Variant("c", 0, "", "T"), Short())
    (Variant(contig='c', start=0, ref='AC', alt='A'), Variant(contig='c', start=0, ref='A', alt='TA'))
    """
    if variant.ref and variant.alt:
        return variant
    if variant.start:
        base = decode(genome.fetch(variant.contig, variant.start - 1, variant.start))
        return Variant(variant.contig, variant.start - 1, base + variant.ref, base + variant.alt)
    if variant.end >= genome.lengths[variant.contig]:
        raise ValueError(f"there is no base beside {variant}, which is the whole contig")
    base = decode(genome.fetch(variant.contig, variant.end, variant.end + 1))
    return Variant(variant.contig, 0, variant.ref + base, variant.alt + base)
