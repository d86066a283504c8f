"""Read nucleotide FASTA or 2bit as codes and soft mask: piece by piece, or one contig at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from umbel.errors import FastaError
from umbel.genome.lines import read_blocks
from umbel.genome.piece import FastaPiece
from umbel.genome.sequence import Codes, Mask, encode, first_refused
from umbel.genome.twobit import is_twobit, read_twobit

__all__ = ["FastaPiece", "FastaRecord", "read_fasta", "read_pieces"]

_NEWLINE, _HEADER = b"\n>"
# Blanks behind a sequence line belong to its end; all but the newline may stand at the end of a block.
_BLANKS = b" \t\r\v\f"


@dataclass(frozen=True, eq=False)
class FastaRecord:
    """One contig of a FASTA file."""

    name: str
    """First word of the header, verbatim."""
    codes: Codes
    """uint8 ``(L,)``: A 0, C 1, G 2, T 3, N 4."""
    soft_mask: Mask
    """bool ``(L,)``: True where the letter was lower case."""
    letters: dict[str, int]
    """How often each letter other than A, C, G and T was seen; all of them became N."""
    line: int
    """1-based line of the header; 0 in a format without lines."""


def read_fasta(path: str | Path) -> Iterator[FastaRecord]:
    r"""Yield the records of a FASTA or 2bit file in order; memory holds one contig.

    Raises
    ------
    FastaError
        As in :func:`read_pieces`.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.fa"
    >>> _ = source.write_text(">chr1 first\nACGT\nnn\n>chr2\nRG\n")
    >>> [(record.name, len(record.codes), record.letters, record.line) for record in read_fasta(source)]
    [('chr1', 6, {'N': 2}, 1), ('chr2', 2, {'R': 1}, 4)]
    """
    for piece in read_pieces(path, sys.maxsize):
        yield FastaRecord(piece.name, piece.codes, piece.soft_mask, piece.letters, piece.line)


def read_pieces(
    path: str | Path, piece_bp: int = 1 << 24, on_bytes: Callable[[int], None] | None = None
) -> Iterator[FastaPiece]:
    r"""Yield the contigs of a FASTA or 2bit file in order, in pieces; memory holds two pieces at most.

    FASTA may be plain, gzip or bgzip. Sequences may span lines, which may end in LF or CRLF; blank lines are allowed.

    Parameters
    ----------
    path
        The file; what it is is told by its content.
    piece_bp
        Bases of every piece but the last of a contig, which has 1 to ``piece_bp``.
    on_bytes
        Told how many more bytes of the file on disk were used up; over the whole file these add up to its size.

    Raises
    ------
    FastaError
        With file, line and remedy: no such file, empty file, text before the first header, empty or duplicate name,
        record without sequence, letters that are no nucleotides, truncated or damaged gzip or 2bit.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.fa"
    >>> _ = source.write_text(">chr1 first\nACGT\nnn\n>chr2\nRG\n")
    >>> [(piece.name, piece.start, piece.end, piece.is_last) for piece in read_pieces(source, 4)]
    [('chr1', 0, 4, False), ('chr1', 4, 6, True), ('chr2', 0, 2, True)]
    """
    if piece_bp < 1:
        raise ValueError(f"piece_bp is {piece_bp}: give at least 1")
    if is_twobit(path):
        yield from read_twobit(path, piece_bp, on_bytes)
        return
    line_of_name: dict[str, int] = {}
    contig: _Contig | None = None
    for is_header, line, section in _sections(path, on_bytes):
        if is_header:
            if contig is not None:
                yield contig.finish()
            name = _name(path, line, section)
            if name in line_of_name:
                raise FastaError(
                    f"contig {name!r} was already named in line {line_of_name[name]}. Give every contig its own name.",
                    path,
                    line,
                )
            line_of_name[name] = line
            contig = _Contig(path, name, line, piece_bp)
        elif contig is not None:
            yield from contig.add(line, section)
        else:
            _require_blank(path, line, section)
    if contig is None:
        raise FastaError("the file is empty: it holds no FASTA record. Check how it was made.", path)
    yield contig.finish()


def _sections(path: str | Path, on_bytes: Callable[[int], None] | None) -> Iterator[tuple[bool, int, bytes]]:
    """Yield (whether it is a header line, 1-based line at its start, bytes) of header lines and what lies between.

    What lies between two headers comes in one section or several, which may end within a line, but never within
    blanks that may yet turn out to be the end of a line.
    """
    line, held, is_line_start = 1, b"", True
    for block in read_blocks(path, FastaError, on_bytes):
        text = held + block if held else block
        held, place = b"", 0
        while place < len(text):
            if is_line_start and text[place] == _HEADER:
                end = text.find(b"\n", place) + 1
                if not end:
                    held = text[place:]
                    # With the line ends of old Macs the whole file would be one header.
                    _require_no_bare_cr(path, line, held.rstrip(b"\r"))
                    break
                yield True, line, text[place:end]
                line, place = line + 1, end
                continue
            end = text.find(b">", place + 1)
            while end > 0 and text[end - 1] != _NEWLINE:
                end = text.find(b">", end + 1)
            section = text[place:end] if end > 0 else text[place:]
            if end < 0:
                whole = section.rstrip(_BLANKS)
                section, held = whole, section[len(whole) :]
            if section:
                yield False, line, section
                line += int(np.count_nonzero(np.frombuffer(section, np.uint8) == _NEWLINE))
                is_line_start = section[-1] == _NEWLINE
            place = end if end > 0 else len(text)
    if held.startswith(b">") and is_line_start:
        yield True, line, held


def _name(path: str | Path, number: int, line: bytes) -> str:
    """Name of a header line: what stands between '>' and the first blank."""
    header = line[1:].rstrip(b"\r\n")
    _require_no_bare_cr(path, number, header)
    try:
        text = header.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FastaError("the header is not UTF-8 text. Rename the contig.", path, number) from error
    if not text or text[0].isspace():
        raise FastaError("the header has no name directly after '>'. Write '>name'.", path, number)
    return text.split(maxsplit=1)[0]


def _require_no_bare_cr(path: str | Path, line: int, header: bytes) -> None:
    if b"\r" in header:
        raise FastaError("line ends are bare CR, as on old Macs. Convert them to LF.", path, line)


def _require_blank(path: str | Path, line: int, section: bytes) -> None:
    """Refuse text before the first header."""
    for number, text in enumerate(section.split(b"\n"), start=line):
        if text := text.rstrip():
            raise FastaError(
                f"the file does not begin with a '>' header but with {text[:20].decode('ascii', 'replace')!r}. "
                "Is this a FASTA file?",
                path,
                number,
            )


class _Contig:
    """A contig while it is read: what is known of the piece that grows."""

    def __init__(self, path: str | Path, name: str, line: int, piece_bp: int):
        self.path, self.name, self.line, self.piece_bp = path, name, line, piece_bp
        self.start = self.filled = 0
        self.codes: list[Codes] = []
        self.soft_masks: list[Mask] = []
        self.letters: dict[str, int] = {}

    def add(self, line: int, section: bytes) -> Iterator[FastaPiece]:
        """Take bases from lines, the first of which is ``line``; yield the pieces that are full and not the last."""
        n_cr = section.count(b"\r") if b"\r" in section else 0
        bases = section.translate(None, b"\r\n" if n_cr and n_cr == section.count(b"\r\n") else b"\n")
        try:
            encoded = [(part, encode(part)) for part in self._parts(bases)]
        except ValueError:
            encoded = [(part, encode(part)) for part in self._parts(self._line_by_line(line, section))]
        for part, (codes, soft_mask, letters) in encoded:
            if self.filled == self.piece_bp:
                yield self._piece(is_last=False)
            self.codes.append(codes)
            self.soft_masks.append(soft_mask)
            for letter, count in letters.items():
                self.letters[letter] = self.letters.get(letter, 0) + count
            self.filled += len(part)

    def _parts(self, bases: bytes) -> Iterator[bytes]:
        """Cut where pieces end."""
        place, end = 0, self.piece_bp - self.filled
        while place < len(bases):
            if end > place:
                yield bases[place:end]
            place, end = max(place, end), end + self.piece_bp

    def _line_by_line(self, line: int, section: bytes) -> bytes:
        """Bases of a section with blanks behind its lines, or with a letter that is refused: then say where."""
        lines = [text.rstrip() for text in section.split(b"\n")]
        for number, text in enumerate(lines, start=line):
            if (position := first_refused(text)) >= 0:
                raise FastaError(
                    f"{chr(text[position])!r} in contig {self.name!r} is no nucleotide letter. "
                    "Give nucleotide FASTA, without gaps, digits or amino acids.",
                    self.path,
                    number,
                )
        return b"".join(lines)

    def finish(self) -> FastaPiece:
        """Return the last piece."""
        if not self.filled:
            raise FastaError(
                f"contig {self.name!r} has no sequence below its header. Remove the record, or complete the file.",
                self.path,
                self.line,
            )
        return self._piece(is_last=True)

    def _piece(self, is_last: bool) -> FastaPiece:
        codes = self.codes[0] if len(self.codes) == 1 else np.concatenate(self.codes)
        soft_mask = self.soft_masks[0] if len(self.soft_masks) == 1 else np.concatenate(self.soft_masks)
        letters = dict(sorted(self.letters.items()))
        piece = FastaPiece(self.name, self.start, codes, soft_mask, letters, self.line, is_last)
        self.start += self.filled
        self.filled = 0
        self.codes, self.soft_masks, self.letters = [], [], {}
        return piece
