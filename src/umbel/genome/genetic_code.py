"""Genetic codes: which amino acid each codon stands for, and which codons begin a protein."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from umbel.errors import ConfigError
from umbel.genome.sequence import Codes, N

_NCBI_ORDER = "TCAG"
_OUR_ORDER = "ACGT"
STOP = ord("*")
UNKNOWN = ord("X")


@dataclass(frozen=True)
class GeneticCode:
    """A genetic code.

    Attributes
    ----------
    number
        Of NCBI's table.
    ncbi
        64 amino acids in NCBI's order: T, C, A, G, the first base slowest; ``*`` is a stop.
    starts
        Codons that may begin a protein here.
    """

    number: int
    ncbi: str
    starts: tuple[str, ...]

    @property
    def amino_acids(self) -> npt.NDArray[np.uint8]:
        """ASCII letters ``(64,)`` of the codons, A C G T, the first base slowest."""
        letters = np.frombuffer(self.ncbi.encode(), np.uint8).reshape(4, 4, 4)
        ours = [_NCBI_ORDER.index(base) for base in _OUR_ORDER]
        return np.ascontiguousarray(letters[np.ix_(ours, ours, ours)]).reshape(64)

    def translate(self, codes: Codes) -> str:
        """Translate whole codons ``(3 n,)``, the first as any other; a codon with N is ``X``.

        Examples
        --------
        >>> from umbel.genome.sequence import encode
        >>> genetic_code(1).translate(encode(b"ATGTGGNNNTAA")[0])
        'MWX*'
        """
        codons = codes.reshape(-1, 3).astype(np.int64)
        found = self.amino_acids[np.minimum(codons, N - 1) @ (16, 4, 1)]
        return np.where((codons == N).any(axis=1), UNKNOWN, found).astype(np.uint8).tobytes().decode()


# https://www.ncbi.nlm.nih.gov/Taxonomy/Utils/wprintgc.cgi, tables 1 and 11, which agree in every amino acid. Nuclear
# genes of plants begin with ATG; NCBI's other starts of table 1 (TTG, CTG) are of annotated exceptions.
_AMINO_ACIDS = "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"
_CODES = {
    1: GeneticCode(1, _AMINO_ACIDS, ("ATG",)),
    11: GeneticCode(11, _AMINO_ACIDS, ("ATG", "GTG", "TTG", "CTG", "ATT", "ATC", "ATA")),
}


def genetic_code(number: int) -> GeneticCode:
    """Give the standard code (1), or that of bacteria and plastids (11), which differs in the starts it allows.

    Raises
    ------
    ConfigError
        If it is another.

    References
    ----------
    Elzanowski & Ostell, "The genetic codes", NCBI Taxonomy, tables 1 and 11.

    Examples
    --------
    >>> genetic_code(11).starts[:2]
    ('ATG', 'GTG')
    """
    if number not in _CODES:
        raise ConfigError(f"genetic code {number} is not known: give 1 (standard) or 11 (bacteria and plastids)")
    return _CODES[number]
