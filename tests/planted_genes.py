"""A genome of small genes whose proteins are known, for whoever asks what substitutions do."""

from __future__ import annotations

from pathlib import Path

import numpy as np

BASES = "TCAG"
AMINO_ACIDS = "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"
CODONS = [a + b + c for a in BASES for b in BASES for c in BASES]
AMINO_ACID = dict(zip(CODONS, AMINO_ACIDS, strict=True))
SENSE = sorted(codon for codon, letter in AMINO_ACID.items() if letter != "*")
OTHER_STRAND = str.maketrans("ACGTN", "TGCAN")


def translate(letters: str) -> str:
    """Protein of a reading frame."""
    return "".join(AMINO_ACID.get(letters[i : i + 3], "X") for i in range(0, len(letters), 3))


def write_planted_genes(folder: Path, n_genes: int = 24, n_codons: int = 40, seed: int = 0) -> dict[str, object]:
    """Write ``genes.fa`` and ``genes.gff3``: genes of two exons, turn and turn about on both strands of two contigs.

    Gives contigs (name to letters) and genes (name to contig, strand, parts), 0-based half-open.
    """
    rng = np.random.default_rng(seed)
    contigs = {"one": "", "two": ""}
    genes: dict[str, tuple[str, str, list[tuple[int, int]]]] = {}
    rows = ["##gff-version 3"]
    for number in range(n_genes):
        contig, strand = ("one", "two")[number % 2], "+-"[number // 2 % 2]
        read = "ATG" + "".join(rng.choice(SENSE, n_codons)) + "TAA"
        cut = int(rng.integers(10, len(read) - 10))
        intron = "GT" + "".join(rng.choice(list("ACGT"), 20)) + "AG"
        letters, parts = read[:cut] + intron + read[cut:], [(0, cut), (cut + 24, len(read) + 24)]
        if strand == "-":
            letters = letters.translate(OTHER_STRAND)[::-1]
            parts = [(len(letters) - end, len(letters) - start) for start, end in parts[::-1]]
        begin = len(contigs[contig]) + 30
        contigs[contig] += "".join(rng.choice(list("ACGT"), 30)) + letters
        name = f"gene{number}"
        places = [(begin + start, begin + end) for start, end in parts]
        genes[name] = (contig, strand, places)
        whole = f"{begin + 1}\t{begin + len(letters)}\t.\t{strand}"
        rows.append(f"{contig}\t.\tgene\t{whole}\t.\tID={name}")
        rows.append(f"{contig}\t.\tmRNA\t{whole}\t.\tID={name}.1;Parent={name}")
        phases = [0, -(places[0][1] - places[0][0]) % 3] if strand == "+" else [-(places[1][1] - places[1][0]) % 3, 0]
        for (start, end), phase in zip(places, phases, strict=True):
            rows.append(f"{contig}\t.\tCDS\t{start + 1}\t{end}\t.\t{strand}\t{phase}\tParent={name}.1")
    for name in contigs:
        contigs[name] += "".join(rng.choice(list("ACGT"), 60))
    (folder / "genes.fa").write_text("".join(f">{name}\n{letters}\n" for name, letters in contigs.items()))
    (folder / "genes.gff3").write_text("\n".join(rows) + "\n")
    return {"contigs": contigs, "genes": genes}


def effect(planted: dict, gene: str, position: int, letter: str) -> str:
    """What a substitution does to the whole protein of a gene."""
    contig, strand, parts = planted["genes"][gene]
    proteins = []
    for base in (planted["contigs"][contig][position], letter):
        letters = planted["contigs"][contig]
        letters = letters[:position] + base + letters[position + 1 :]
        read = "".join(letters[start:end] for start, end in parts)
        proteins.append(translate(read.translate(OTHER_STRAND)[::-1] if strand == "-" else read))
    before, after = proteins
    if before == after:
        return "synonymous"
    return "nonsense" if "*" in after[:-1] else "missense"
