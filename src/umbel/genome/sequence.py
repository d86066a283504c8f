"""Nucleotides as small integers: encode and decode letters, reverse and complement, pack 4 bits a base.

Codes are A 0, C 1, G 2, T 3 and N 4. Lower case means "repeat" (soft-masked) and is kept beside the codes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BASES = "ACGTN"
A, C, G, T, N = range(5)
IUPAC = "ACGTURYSWKMBDHVN"

Codes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

_REFUSED = 255
_LOWER_CASE = ord("a")
_UPPER = np.uint8(0xDF)
_SOFT_BIT = 8


def _letter_table() -> Codes:
    """256 entries from an ASCII letter to its code; ``_REFUSED`` for what is no nucleotide."""
    table = np.full(256, _REFUSED, np.uint8)
    for letter in IUPAC:
        code = BASES.index(letter) if letter in BASES else N
        table[[ord(letter), ord(letter.lower())]] = code
    return table


_CODE_OF_LETTER = _letter_table()
_CODE_BYTES = _CODE_OF_LETTER.tobytes()
# The commonest first, so that counting may stop when all are found.
_OTHER_LETTERS = "NRYSWKMBDHVU"
_LETTER_OF_CODE = np.frombuffer(BASES.encode(), np.uint8)
_COMPLEMENT = np.array([T, G, C, A, N], np.uint8)


def encode(ascii: bytes | bytearray) -> tuple[Codes, Mask, dict[str, int]]:
    """Turn nucleotide letters into codes, soft mask and a count of every letter that is not A, C, G or T.

    Parameters
    ----------
    ascii
        L letters without line ends; either case. U and the IUPAC ambiguity letters become N.

    Returns
    -------
    codes
        uint8 ``(L,)``, 0..4.
    soft_mask
        bool ``(L,)``, True where the letter was lower case.
    letters
        Upper-case letter to count, for N, U and each ambiguity letter seen, sorted by letter.

    Raises
    ------
    ValueError
        If a letter is no nucleotide; ``first_refused`` tells where.

    References
    ----------
    NC-IUB 1985, "Nomenclature for incompletely specified bases in nucleic acid sequences",
    doi:10.1093/nar/13.9.3021.

    Examples
    --------
    >>> codes, soft_mask, letters = encode(b"ACGTnRr")
    >>> codes.tolist(), soft_mask.tolist(), letters
    ([0, 1, 2, 3, 4, 4, 4], [False, False, False, False, True, False, True], {'N': 1, 'R': 2})
    """
    letters_L = np.frombuffer(ascii, np.uint8)
    # A bytearray, because arrays on immutable bytes are read-only.
    codes = np.frombuffer(bytearray(ascii).translate(_CODE_BYTES), np.uint8)
    highest = int(codes.max(initial=0))
    if highest == _REFUSED:
        position = first_refused(ascii)
        raise ValueError(f"{chr(ascii[position])!r} at position {position + 1} is no nucleotide letter")
    return codes, letters_L >= _LOWER_CASE, _count_others(letters_L, codes) if highest == N else {}


def _count_others(letters_L: Codes, codes: Codes) -> dict[str, int]:
    """Upper-case letter to count, for the letters that became N, sorted by letter."""
    upper_L = letters_L & _UPPER
    found: dict[str, int] = {}
    n_left = int(np.count_nonzero(codes == N))
    for letter in _OTHER_LETTERS:
        if n_left and (count := int(np.count_nonzero(upper_L == ord(letter)))):
            found[letter] = count
            n_left -= count
    return dict(sorted(found.items()))


def first_refused(ascii: bytes | bytearray) -> int:
    """Index of the first letter that :func:`encode` refuses, or -1.

    Examples
    --------
    >>> first_refused(b"ACGE"), first_refused(b"ACG")
    (3, -1)
    """
    is_refused = _CODE_OF_LETTER[np.frombuffer(ascii, np.uint8)] == _REFUSED
    return int(is_refused.argmax()) if is_refused.any() else -1


def decode(codes: Codes, soft_mask: Mask | None = None) -> str:
    """Turn codes ``(L,)`` back into letters; lower case where ``soft_mask`` is True.

    Examples
    --------
    >>> decode(np.array([0, 3, 4], np.uint8), np.array([False, True, False]))
    'AtN'
    """
    letters = _LETTER_OF_CODE[codes]
    if soft_mask is not None:
        letters = letters | np.where(soft_mask, np.uint8(0x20), np.uint8(0))
    return letters.tobytes().decode("ascii")


def reverse(codes: Codes) -> Codes:
    """Reverse the order of the bases (last axis), without complementing them.

    Examples
    --------
    >>> decode(reverse(encode(b"AACG")[0]))
    'GCAA'
    """
    return np.ascontiguousarray(codes[..., ::-1])


def complement(codes: Codes) -> Codes:
    """Complement each base, A with T and C with G, without reversing their order; N stays N.

    Examples
    --------
    >>> decode(complement(encode(b"AACGN")[0]))
    'TTGCN'
    """
    return _COMPLEMENT[codes]


def revcomp(codes: Codes) -> Codes:
    """Read the other strand: reverse the order (last axis) and complement the bases.

    Examples
    --------
    >>> decode(revcomp(encode(b"AACGN")[0]))
    'NCGTT'
    """
    return _COMPLEMENT[codes[..., ::-1]]


def pack(codes: Codes, soft_mask: Mask) -> Codes:
    """Store two bases a byte, the first in the low nibble; a nibble is ``code | soft << 3``.

    Parameters
    ----------
    codes
        uint8 ``(L,)``, 0..4.
    soft_mask
        bool ``(L,)``.

    Returns
    -------
    uint8 ``(ceil(L / 2),)``; the spare high nibble of an odd L is 0.

    Examples
    --------
    >>> pack(np.array([1, 3, 4], np.uint8), np.array([False, True, True])).tolist()
    [177, 12]
    """
    if codes.shape != soft_mask.shape:
        raise ValueError(f"codes {codes.shape} and soft_mask {soft_mask.shape} differ in length")
    nibbles = codes | np.left_shift(soft_mask, 3, dtype=np.uint8)
    packed = nibbles[0::2].copy()
    packed[: len(nibbles) // 2] |= nibbles[1::2] << 4
    return packed


def unpack(packed: Codes, start: int, end: int) -> tuple[Codes, Mask]:
    """Read bases ``start`` to ``end`` (0-based half-open) of what :func:`pack` made.

    Only the bytes that hold them are touched, so ``packed`` may be a memory map of a whole chromosome.

    Returns
    -------
    codes
        uint8 ``(end - start,)``, 0..4.
    soft_mask
        bool ``(end - start,)``.

    Raises
    ------
    ValueError
        If the range is not inside the packed bases.

    Examples
    --------
    >>> packed = pack(*encode(b"ACgtN")[:2])
    >>> decode(*unpack(packed, 1, 4))
    'Cgt'
    """
    if not 0 <= start <= end <= 2 * len(packed):
        raise ValueError(f"bases {start} to {end} are not inside 0 to {2 * len(packed)}")
    first = start // 2
    pairs = np.asarray(packed[first : -(-end // 2)])
    nibbles = np.empty(2 * len(pairs), np.uint8)
    nibbles[0::2] = pairs & 0x0F
    nibbles[1::2] = pairs >> 4
    nibbles = nibbles[start - 2 * first : end - 2 * first]
    return np.bitwise_and(nibbles, 0x07, dtype=np.uint8), nibbles >= _SOFT_BIT
