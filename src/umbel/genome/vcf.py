"""Records of a VCF or BCF file, kept word for word: what is read here is written again as it was."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pysam

from umbel.errors import VcfError
from umbel.genome.lines import read_lines
from umbel.genome.reference import silent_htslib

COLUMNS = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO")
_FILTER, _INFO = COLUMNS.index("FILTER"), COLUMNS.index("INFO")
_FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|[^,>]*)')


@dataclass(frozen=True)
class VcfRecord:
    """One line of a VCF file.

    Attributes
    ----------
    line
        1-based line of the file, of a BCF the number of the record.
    fields
        The first eight columns, verbatim, and as a ninth all that follows, where anything does.
    pos
        1-based position.
    """

    line: int
    fields: tuple[str, ...]
    pos: int

    @property
    def contig(self) -> str:
        """Its contig, verbatim."""
        return self.fields[0]

    @property
    def ref(self) -> str:
        """The reference allele, verbatim."""
        return self.fields[3]

    @property
    def alts(self) -> tuple[str, ...]:
        """The other alleles, verbatim; none where the column is ``.``."""
        return () if self.fields[4] == "." else tuple(self.fields[4].split(","))

    def info(self, key: str) -> str | None:
        """Read a value of INFO, verbatim; None where the key is not there, ``""`` where it is a flag.

        Examples
        --------
        >>> record = VcfRecord(3, ("c", "7", ".", "A", "<DEL>", ".", ".", "IMPRECISE;END=20"), 7)
        >>> record.info("END"), record.info("IMPRECISE"), record.info("SVLEN")
        ('20', '', None)
        """
        for entry in self.fields[_INFO].split(";"):
            name, _, value = entry.partition("=")
            if name == key:
                return value
        return None

    def with_additions(self, filters: Sequence[str], info: Sequence[str]) -> str:
        r"""Write the line, without its end, with more filters and INFO entries; all else is verbatim.

        Parameters
        ----------
        filters
            Put in place of ``PASS`` or ``.``, else behind the filters that are there; one that is there stays alone.
        info
            Entries such as ``DP=3``.

        Examples
        --------
        >>> record = VcfRecord(3, ("c", "7", ".", "A", "T", "9", "PASS", ".", "GT\t0|1"), 7)
        >>> record.with_additions(["LOW"], ["DP=3"]).split("\t")[6:]
        ['LOW', 'DP=3', 'GT', '0|1']
        """
        fields = list(self.fields)
        if filters:
            before = [] if fields[_FILTER] in (".", "PASS") else fields[_FILTER].split(";")
            fields[_FILTER] = ";".join(before + [name for name in filters if name not in before])
        if info:
            fields[_INFO] = ";".join(([] if fields[_INFO] in (".", "") else [fields[_INFO]]) + list(info))
        return "\t".join(fields)


@dataclass(frozen=True)
class VcfHeader:
    """What stands before the records.

    Attributes
    ----------
    lines
        The ``##`` lines, verbatim, without their ends.
    columns
        The ``#CHROM`` line.
    """

    lines: tuple[str, ...]
    columns: str

    @cached_property
    def contigs(self) -> dict[str, int | None]:
        """The contigs it declares, with their length where it tells one."""
        found = {}
        for fields in self._entries("contig"):
            length = fields.get("length", "")
            found[fields.get("ID", "")] = int(length) if length.isdecimal() else None
        return found

    def ids(self, kind: str) -> set[str]:
        """Name what it defines as ``INFO``, ``FILTER`` or another kind.

        Examples
        --------
        >>> VcfHeader(('##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth, ID=no">',), "").ids("INFO")
        {'DP'}
        """
        return {fields["ID"] for fields in self._entries(kind) if "ID" in fields}

    def _entries(self, kind: str) -> Iterator[Mapping[str, str]]:
        for line in self.lines:
            if line.startswith(f"##{kind}=<"):
                yield {key: value.strip('"') for key, value in _FIELD.findall(line[len(kind) + 4 :])}

    def with_lines(self, more: Sequence[str]) -> str:
        """Write the header, line ends included, with more ``##`` lines at the end of those that are there."""
        return "".join(f"{line}\n" for line in (*self.lines, *more, self.columns))


class VcfFile:
    r"""A VCF file (plain, gzip or bgzip) or a BCF file, read from its start as often as asked.

    Attributes
    ----------
    path, header
        The file, and what stands before its records.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.vcf"
    >>> _ = path.write_text("##fileformat=VCFv4.2\n" + "\t".join(COLUMNS) + "\nchr1\t5\t.\tA\tC,G\t.\t.\tDP=3\n")
    >>> [(record.line, record.contig, record.pos, record.alts) for record in VcfFile(path).records()]
    [(3, 'chr1', 5, ('C', 'G'))]
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._is_bcf = _is_bcf(self.path)
        self.header, self._n_lines = self._read_header()
        self._n_columns = self.header.columns.count("\t") + 1

    def records(self, skip: int = 0) -> Iterator[VcfRecord]:
        """Yield the records in file order, without the first ``skip``.

        Raises
        ------
        VcfError
            With the line: too few columns, or more or fewer than the header names; a position that is no number; no
            contig or no alleles. Or if the file cannot be read.
        """
        for number, text in self._texts():
            if skip:
                skip -= 1
                continue
            yield self._record(number, text)

    def _texts(self) -> Iterator[tuple[int, str]]:
        """Yield the number and text of every record's line."""
        if self._is_bcf:
            yield from enumerate(self._bcf_texts(), start=1)
            return
        for number, line in read_lines(self.path, VcfError):
            if number > self._n_lines:
                # Bytes that are no UTF-8 come out again as they were.
                text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
                if text:
                    yield number, text

    def _bcf_texts(self) -> Iterator[str]:
        with self._bcf() as file:
            for record in file:
                yield str(record).rstrip("\n")

    @contextmanager
    def _bcf(self) -> Iterator[pysam.VariantFile]:
        """Open BCF; that it is damaged is told in our words."""
        try:
            with silent_htslib(), pysam.VariantFile(str(self.path)) as file:
                yield file
        except (OSError, ValueError) as error:
            raise VcfError(f"the BCF file is damaged ({error}). Copy or make it again.", self.path) from error

    def _record(self, number: int, text: str) -> VcfRecord:
        fields = text.split("\t", 8)
        n_columns = text.count("\t") + 1
        if n_columns != self._n_columns:
            raise self._refusal(
                f"this record has {n_columns} columns divided by tabs, and the #CHROM line names {self._n_columns}. "
                "Is the line cut, or divided by blanks?",
                number,
            )
        contig, pos, ref, alt = fields[0], fields[1], fields[3], fields[4]
        if not (pos.isascii() and pos.isdecimal()):
            raise self._refusal(f"POS is {pos!r}: it must be a whole number, counted from 1.", number)
        if not contig or not ref or not alt or "" in alt.split(","):
            raise self._refusal("CHROM, REF or an allele of ALT is empty. Write '.' for no allele.", number)
        return VcfRecord(number, tuple(fields), int(pos))

    def _refusal(self, problem: str, line: int) -> VcfError:
        return VcfError(problem, self.path, line)

    def _read_header(self) -> tuple[VcfHeader, int]:
        """Read the header, and how many lines it has."""
        if self._is_bcf:
            with self._bcf() as file:
                lines = str(file.header).splitlines()
            return VcfHeader(tuple(lines[:-1]), lines[-1]), len(lines)
        lines = []
        for number, line in read_lines(self.path, VcfError):
            text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
            if number == 1 and not text.startswith("##fileformat=VCF"):
                raise VcfError(
                    f"the file begins with {text[:30]!r} and not with '##fileformat=VCF'. Is it a VCF file?",
                    self.path,
                    1,
                )
            if not text.startswith("##"):
                named = tuple(text.split("\t")[: len(COLUMNS)])
                if named != COLUMNS:
                    raise VcfError(
                        f"the header must end with a line of {' '.join(COLUMNS)}, divided by tabs, and this one is "
                        f"{text[:50]!r}.",
                        self.path,
                        number,
                    )
                return VcfHeader(tuple(lines), text), number
            lines.append(text)
        raise VcfError(
            "the file is empty." if not lines else "the file ends within its header: there is no #CHROM line.",
            self.path,
        )


def _is_bcf(path: Path) -> bool:
    """Whether the file holds BCF; False if it cannot be read, which reading it as text will explain."""
    try:
        with gzip.open(path, "rb") as handle:
            return handle.read(3) == b"BCF"
    except (OSError, EOFError, zlib.error):
        return False
