"""Make the example data again from the public files: cut pieces of two chromosomes and their genes.

Needs ``pip install py2bit``. PROVENANCE.md says where the five input files come from.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple


class Piece(NamedTuple):
    """A stretch of a chromosome, 0-based half-open."""

    contig: str
    start: int
    end: int

    @property
    def name(self) -> str:
        """Name of the contig that the piece becomes: 1-based, both ends included."""
        return f"{self.contig}:{self.start + 1}-{self.end}"


THALIANA = (
    Piece("NC_003070.9", 1_001_000, 2_994_000),
    Piece("NC_003070.9", 9_500_000, 9_754_000),
    Piece("NC_003070.9", 24_003_000, 24_503_000),
)
ARENOSA = (Piece("LR999451.1", 5_003_000, 6_007_000),)


def fasta_text(two_bit: Path, pieces: Iterable[Piece], description: str) -> str:
    """FASTA of the pieces, 80 letters a line; lower case is the repeat mask of the source."""
    import py2bit

    genome = py2bit.open(str(two_bit), True)
    lines = []
    for piece in pieces:
        letters = genome.sequence(piece.contig, piece.start, piece.end)
        lines.append(f">{piece.name} {description}")
        lines += [letters[start : start + 80] for start in range(0, len(letters), 80)]
    genome.close()
    return "\n".join(lines) + "\n"


def gff3_text(source: Path, pieces: Iterable[Piece]) -> str:
    """GFF3 of the genes that lie wholly inside a piece, with all below them, counted from the piece's start."""
    with gzip.open(source, "rt", encoding="utf-8") as handle:
        rows = [line.rstrip("\n").split("\t") for line in handle if line.strip() and not line.startswith("#")]
    out = ["##gff-version 3"]
    for piece in pieces:
        out.append(f"##sequence-region {piece.name} 1 {piece.end - piece.start}")
        kept_ids: set[str] = set()
        for fields, identity, parents in with_relations(rows):
            inside = fields[0] == piece.contig and int(fields[3]) > piece.start and int(fields[4]) <= piece.end
            # The source lists parents before their children.
            if inside and kept_ids.issuperset(parents):
                kept_ids.add(identity)
                start, end = (str(int(position) - piece.start) for position in fields[3:5])
                out.append("\t".join([piece.name, *fields[1:3], start, end, *fields[5:]]))
    return "\n".join(out) + "\n"


def vcf_text(source: Path, pieces: Iterable[Piece], contig: str) -> str:
    """VCF of the records of ``contig`` that lie in a piece, counted from the piece's start; all columns as they are."""
    with gzip.open(source, "rt", encoding="utf-8") as handle:
        lines = handle.read().splitlines()
    kinds = ("##fileformat", "##FILTER", "##FORMAT", "##INFO")
    out = [line for line in lines if line.startswith(kinds)]
    pieces = list(pieces)
    out += [f"##contig=<ID={piece.name},length={piece.end - piece.start}>" for piece in pieces]
    out += [line for line in lines if line.startswith("#CHROM")]
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    for piece in pieces:
        for fields in rows:
            place = int(fields[1]) - piece.start
            if fields[0] == contig and 1 <= place <= piece.end - piece.start:
                out.append("\t".join([piece.name, str(place), *fields[2:]]))
    return "\n".join(out) + "\n"


def with_relations(rows: list[list[str]]) -> Iterator[tuple[list[str], str, list[str]]]:
    """Yield each row with its ID and the IDs of its parents."""
    for fields in rows:
        attributes = dict(pair.split("=", 1) for pair in fields[8].split(";") if "=" in pair)
        yield (
            fields,
            attributes.get("ID", ""),
            attributes.get("Parent", "").split(",") if "Parent" in attributes else [],
        )


def gzipped(text: str) -> bytes:
    """Gzip without time or name, so that the same text gives the same bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as handle:
        handle.write(text.encode())
    return buffer.getvalue()


def bgzipped(text: str) -> bytes:
    """Blocked gzip (SAM specification, section 4.1): independent blocks whose size stands in their header."""
    data, blocks = text.encode(), []
    for start in [*range(0, len(data), 65_280), len(data)]:
        block = data[start : start + 65_280]
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        body = deflate.compress(block) + deflate.flush()
        header = struct.pack("<4BIBBHBBHH", 31, 139, 8, 4, 0, 0, 255, 6, 66, 67, 2, len(body) + 25)
        blocks.append(header + body + struct.pack("<II", zlib.crc32(block), len(block)))
    return b"".join(blocks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("thaliana_2bit", type=Path, help="Arabidopsis thaliana chromosome 1, soft-masked")
    parser.add_argument("thaliana_gff3", type=Path, help="its genes, GFF3, gzip")
    parser.add_argument("arenosa_2bit", type=Path, help="Arabidopsis arenosa AARE701a chromosome 1, soft-masked")
    parser.add_argument("arenosa_gff3", type=Path, help="its genes, GFF3, gzip")
    parser.add_argument("accession_vcf", type=Path, help="SNPs of an accession of A. thaliana, VCF, gzip")
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    files = {
        "thaliana.fa.gz": gzipped(fasta_text(args.thaliana_2bit, THALIANA, "Arabidopsis thaliana TAIR10 chromosome 1")),
        "thaliana.gff3.gz": gzipped(gff3_text(args.thaliana_gff3, THALIANA)),
        "arenosa.fa.gz": bgzipped(fasta_text(args.arenosa_2bit, ARENOSA, "Arabidopsis arenosa AARE701a chromosome 1")),
        "arenosa.gff3.gz": gzipped(gff3_text(args.arenosa_gff3, ARENOSA)),
        "accession.vcf": vcf_text(args.accession_vcf, THALIANA, "Chr1").encode(),
    }
    for name, data in files.items():
        (args.out / name).write_bytes(data)
        print(f"| `{name}` | {len(data):,} | `{hashlib.sha256(data).hexdigest()}` |")


if __name__ == "__main__":
    main()
