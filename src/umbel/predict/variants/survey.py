"""A first reading of a VCF file: is every line whole, what is in it, and does it fit the reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from umbel.errors import InputError, VcfError
from umbel.genome.annotation import some_names
from umbel.genome.lines import read_lines
from umbel.genome.reference import Reference
from umbel.genome.variant import Variant
from umbel.genome.vcf import VcfFile, VcfRecord
from umbel.predict.variants.alleles import is_letters, is_symbolic_change, symbolic_length
from umbel.predict.variants.calibration import Shape, classes_of, shape_of

TABIX_LIMIT_BP = 2**29 - 1
"""Longest contig that a tbi index reaches (SAM specification, section 5.1.1); beyond it is csi."""


@dataclass
class Survey:
    """What a VCF file holds.

    Attributes
    ----------
    n_records
        How many there are.
    records_of
        Records on each contig, as the VCF names it, in the order in which they first occur.
    is_sorted
        Whether an index can be made: each contig in one stretch, positions never falling.
    longest_bp
        What an index has to reach: the longest contig with records, or the last base of any record.
    classes
        Classes of random variants that the alleles are to be compared with.
    """

    n_records: int = 0
    records_of: dict[str, int] = field(default_factory=dict)
    is_sorted: bool = True
    longest_bp: int = 0
    classes: set[Shape] = field(default_factory=set)


def survey(vcf: VcfFile, names: Mapping[str, str], reference: Reference, longest: int) -> Survey:
    """Read a file through.

    Parameters
    ----------
    names
        Contig of the reference by contig of the VCF, without those that the reference does not have.
    longest
        Longest allele that is scored.

    Raises
    ------
    VcfError
        With the line: a record that is not whole.
    """
    found, shapes = Survey(), set[Shape]()
    contig, pos = "", 0
    for record in vcf.records():
        found.n_records += 1
        if record.contig != contig:
            found.is_sorted &= record.contig not in found.records_of
            contig, pos = record.contig, 0
        found.is_sorted &= record.pos >= pos
        pos = record.pos
        found.records_of[contig] = found.records_of.get(contig, 0) + 1
        found.longest_bp = max(found.longest_bp, _last_bp(record))
        if contig in names:
            shapes.update(_shapes(record, longest))
    for contig in found.records_of:
        declared = vcf.header.contigs.get(contig) or 0
        there = reference.lengths[names[contig]] if contig in names else 0
        found.longest_bp = max(found.longest_bp, declared, there)
    found.classes = {one for shape in shapes for one, _ in classes_of(shape, longest)}
    return found


def _last_bp(record: VcfRecord) -> int:
    """Give the last base that an index has to reach."""
    last = record.pos + len(record.ref) - 1
    end = record.info("END") if "END=" in record.fields[7] else None
    return max(last, int(end)) if end and end.isdecimal() else last


def _shapes(record: VcfRecord, longest: int) -> list[Shape]:
    """Give the shapes of the alleles that may be scored; what the genome says about them is not asked yet."""
    found = []
    for number, alt in enumerate(record.alts):
        if is_symbolic_change(alt):
            length = symbolic_length(record, number) or 0
            shape = Shape(length, 0, False) if alt.startswith("<DEL") else Shape(0, length, False)
        elif is_letters(alt) and is_letters(record.ref):
            shape = shape_of(Variant(record.contig, record.pos - 1, record.ref.upper(), alt.upper()))
        else:
            continue
        if 0 < max(shape.n_ref, shape.n_alt) <= longest:
            found.append(shape)
    return found


def read_contig_map(path: str | Path, reference: Reference) -> dict[str, str]:
    r"""Read two columns, divided by tabs or blanks: a contig's name in the VCF, and its name in the reference.

    Raises
    ------
    InputError
        With the line: not two names, a name of the VCF that is there twice, or one that the reference does not have.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "g.fa").write_text(">NC_1.1\nACGT\n")
    >>> _ = (folder / "map").write_text("Chr1\tNC_1.1\n")
    >>> with Reference.open(folder / "g.fa") as genome:
    ...     read_contig_map(folder / "map", genome)
    {'Chr1': 'NC_1.1'}
    """
    names: dict[str, str] = {}
    for number, line in read_lines(path, InputError):
        fields = line.decode("utf-8", "surrogateescape").split()
        if not fields or fields[0].startswith("#"):
            continue
        if len(fields) != 2:
            raise InputError(
                f"a line has a contig's name in the VCF and its name in the reference, this one has {len(fields)} "
                "words.",
                path,
                number,
            )
        if fields[0] in names:
            raise InputError(f"contig {fields[0]!r} is there twice.", path, number)
        if fields[1] not in reference.lengths:
            raise InputError(
                f"the reference has no contig {fields[1]!r}; it has {some_names(reference.lengths)}.", path, number
            )
        names[fields[0]] = fields[1]
    return names


def contig_names(reference: Reference, told: Mapping[str, str]) -> dict[str, str]:
    """Give the reference's contig by the VCF's: as the map says, and names that it does not have verbatim."""
    return {name: name for name in reference.lengths} | dict(told)


def require_lengths(vcf: VcfFile, found: Survey, names: Mapping[str, str], reference: Reference) -> None:
    """See that contigs which the VCF declares, and has records on, have the length that they have in the reference.

    Raises
    ------
    VcfError
        Naming the contig and both lengths.
    """
    for contig, length in vcf.header.contigs.items():
        if length is None or contig not in found.records_of or contig not in names:
            continue
        there = reference.lengths[names[contig]]
        if length != there:
            raise VcfError(
                f"its header says that contig {contig!r} has {length:,} bases, and in {reference.path} it has "
                f"{there:,}: the two belong to different assemblies. Give the reference that the variants were called "
                "on, or correct the ##contig line.",
                vcf.path,
            )


def contig_warnings(found: Survey, names: Mapping[str, str], reference: Reference) -> list[str]:
    """Say which contigs the reference does not have, and what it has instead."""
    lacking = {contig: count for contig, count in found.records_of.items() if contig not in names}
    if not lacking:
        return []
    listed = ", ".join(f"{contig} ({count:,})" for contig, count in list(lacking.items())[:5])
    more = f" and {len(lacking) - 5:,} more" if len(lacking) > 5 else ""
    told = sum(lacking.values())
    share = "every record is" if told == found.n_records else f"{told:,} of {found.n_records:,} records are"
    return [
        f"{share} on contigs that the reference does not have: {listed}{more}. The reference has "
        f"{some_names(reference.lengths)}. Where the same contig has two names, tell them with --contig-map FILE: a "
        "line for each, its name in the VCF and its name in the reference"
    ]
