"""The sequence around a variant, with either allele, and which of its bases are hidden together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from umbel.genome.sequence import Codes, Mask, N, encode
from umbel.genome.variant import Genome, Variant
from umbel.predict.phases import strided


@dataclass(frozen=True)
class VariantWindow:
    """A variant between its flanks, which both alleles share.

    Attributes
    ----------
    variant
        Left-normalised.
    left, right
        Codes of the flanks; shorter than asked for at the ends of a contig.
    """

    variant: Variant
    left: Codes
    right: Codes

    def sequence(self, letters: str) -> Codes:
        """Put an allele between the flanks."""
        return np.concatenate([self.left, encode(letters.encode("ascii"))[0], self.right])

    @property
    def ref(self) -> Codes:
        """The window as the genome has it."""
        return self.sequence(self.variant.ref)

    @property
    def alt(self) -> Codes:
        """The window with the other allele."""
        return self.sequence(self.variant.alt)

    @property
    def has_n(self) -> bool:
        """Whether a base of the flanks is not known."""
        return bool((self.left == N).any() or (self.right == N).any())

    @property
    def least_known(self) -> int:
        """Known bases of the window, with the allele that leaves fewer."""
        known = int((self.left < N).sum() + (self.right < N).sum())
        return known + min(len(self.variant.ref), len(self.variant.alt))

    @property
    def changed(self) -> Mask:
        """Where in ``ref`` a substitution differs, bool ``(L,)``."""
        mask = np.zeros(len(self.left) + len(self.variant.ref) + len(self.right), bool)
        mask[[len(self.left) + i for i in self.variant.changed]] = True
        return mask

    def phases(self, allele_bp: int, n_passes: int) -> Codes:
        """Say in which pass each base is hidden, of the window with an allele of ``allele_bp``.

        The left flank is counted from its left end and the right one from its right end, and bases of the allele are
        hidden in passes of their own: so a base of the flanks is hidden together with the same others, whatever
        the allele.

        Returns
        -------
        uint8 ``(L,)``: 0 to ``n_passes - 1`` in the flanks, and from ``n_passes`` on in the allele.

        Examples
        --------
        >>> window = VariantWindow(Variant("c", 3, "", "AC"), *np.zeros((2, 3), np.uint8))
        >>> window.phases(0, 2).tolist(), window.phases(2, 2).tolist()
        ([0, 1, 0, 0, 1, 0], [0, 1, 0, 2, 3, 0, 1, 0])
        """
        allele = strided(allele_bp, n_passes) + np.uint8(n_passes)
        return np.concatenate([strided(len(self.left), n_passes), allele, strided(len(self.right), n_passes)[::-1]])


def cut_window(variant: Variant, genome: Genome, flank_bp: int) -> VariantWindow:
    """Read up to ``flank_bp`` bases on either side of a variant."""
    length = genome.lengths[variant.contig]
    left = genome.fetch(variant.contig, max(0, variant.start - flank_bp), variant.start)
    right = genome.fetch(variant.contig, variant.end, min(length, variant.end + flank_bp))
    return VariantWindow(variant, left, right)
