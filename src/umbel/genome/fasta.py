"""Read nucleotide FASTA, one contig at a time, as codes and soft mask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from umbel.errors import FastaError
from umbel.genome.lines import read_lines
from umbel.genome.sequence import Codes, Mask, encode, first_refused


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
    """1-based line of the header."""


def read_fasta(path: str | Path) -> Iterator[FastaRecord]:
    r"""Yield the records of a plain, gzip or bgzip FASTA file in order; memory holds one contig.

    Sequences may span lines, which may end in LF or CRLF; blank lines are allowed.

    Raises
    ------
    FastaError
        With file, line and remedy: no such file, empty file, text before the first header, empty or duplicate name,
        record without sequence, letters that are no nucleotides, truncated or damaged gzip.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.fa"
    >>> _ = source.write_text(">chr1 first\nACGT\nnn\n>chr2\nRG\n")
    >>> [(record.name, len(record.codes), record.letters, record.line) for record in read_fasta(source)]
    [('chr1', 6, {'N': 2}, 1), ('chr2', 2, {'R': 1}, 4)]
    """
    line_of_name: dict[str, int] = {}
    name, header_line, body = "", 0, bytearray()
    for number, line in read_lines(path, FastaError):
        text = line.rstrip()
        if text.startswith(b">"):
            if header_line:
                yield _record(path, name, header_line, body)
            name, header_line, body = _name(path, number, line), number, bytearray()
            if name in line_of_name:
                raise FastaError(
                    f"contig {name!r} was already named in line {line_of_name[name]}. Give every contig its own name.",
                    path,
                    number,
                )
            line_of_name[name] = number
        elif header_line:
            body += text
        elif text:
            raise FastaError(
                f"the file does not begin with a '>' header but with {text[:20].decode('ascii', 'replace')!r}. "
                "Is this a FASTA file?",
                path,
                number,
            )
    if not header_line:
        raise FastaError("the file is empty: it holds no FASTA record. Check how it was made.", path)
    yield _record(path, name, header_line, body)


def _name(path: str | Path, number: int, line: bytes) -> str:
    """Name of a header line: what stands between '>' and the first blank."""
    header = line[1:].rstrip(b"\r\n")
    if b"\r" in header:
        raise FastaError("line ends are bare CR, as on old Macs. Convert them to LF.", path, number)
    try:
        text = header.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FastaError("the header is not UTF-8 text. Rename the contig.", path, number) from error
    if not text or text[0].isspace():
        raise FastaError("the header has no name directly after '>'. Write '>name'.", path, number)
    return text.split(maxsplit=1)[0]


def _record(path: str | Path, name: str, header_line: int, body: bytearray) -> FastaRecord:
    if not body:
        raise FastaError(
            f"contig {name!r} has no sequence below its header. Remove the record, or complete the file.",
            path,
            header_line,
        )
    try:
        codes, soft_mask, letters = encode(body)
    except ValueError as error:
        position = first_refused(body)
        raise FastaError(
            f"{chr(body[position])!r} in contig {name!r} is no nucleotide letter. "
            "Give nucleotide FASTA, without gaps, digits or amino acids.",
            path,
            _line_of_base(path, header_line, position),
        ) from error
    return FastaRecord(name, codes, soft_mask, letters, header_line)


def _line_of_base(path: str | Path, header_line: int, position: int) -> int:
    """Line that holds base ``position`` (0-based) of the record at ``header_line``; reads the file again."""
    seen = 0
    for number, line in read_lines(path, FastaError):
        if number > header_line:
            seen += len(line.rstrip())
            if seen > position:
                return number
    return header_line
