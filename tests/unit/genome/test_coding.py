"""Substitutions in coding genes, against whole mutated proteins translated by a dictionary of words."""

from pathlib import Path

import numpy as np
import pytest

from umbel.errors import AnnotationError, ConfigError
from umbel.genome.coding import (
    CLASSES,
    NO_CLASS,
    PROBLEMS,
    CodingGene,
    CodingTranscript,
    classify_substitutions,
    gene_problem,
    read_coding_genes,
    shared_runs,
)
from umbel.genome.fasta import read_fasta
from umbel.genome.genetic_code import genetic_code
from umbel.genome.sequence import encode

EXAMPLES = Path(__file__).parents[3] / "examples" / "data"
CODE = genetic_code(1)
WORDS = {
    "F": "TTT TTC", "L": "TTA TTG CTT CTC CTA CTG", "I": "ATT ATC ATA", "M": "ATG", "V": "GTT GTC GTA GTG",
    "S": "TCT TCC TCA TCG AGT AGC", "P": "CCT CCC CCA CCG", "T": "ACT ACC ACA ACG", "A": "GCT GCC GCA GCG",
    "Y": "TAT TAC", "*": "TAA TAG TGA", "H": "CAT CAC", "Q": "CAA CAG", "N": "AAT AAC", "K": "AAA AAG", "D": "GAT GAC",
    "E": "GAA GAG", "C": "TGT TGC", "W": "TGG", "R": "CGT CGC CGA CGG AGA AGG", "G": "GGT GGC GGA GGG",
}  # fmt: skip
AMINO_ACID = {codon: letter for letter, codons in WORDS.items() for codon in codons.split()}
SENSE = [codon for codon, letter in AMINO_ACID.items() if letter != "*"]
OTHER_STRAND = str.maketrans("ACGT", "TGCA")


def protein(contig, parts, strand):
    read = "".join(contig[start:end] for start, end in parts)
    if strand == "-":
        read = read[::-1].translate(OTHER_STRAND)
    return "".join(AMINO_ACID.get(read[i : i + 3], "X") for i in range(0, len(read), 3))


def plain_class(contig, gene, position, letter):
    """What a substitution does by the proteins before and after it; None where transcripts differ or it has none."""
    if contig[position] == letter:
        return None
    found = set()
    for transcript in gene.transcripts:
        if not any(start <= position < end for start, end in transcript.parts):
            return None
        read = [p for start, end in transcript.parts for p in range(start, end)]
        index = (read[::-1] if gene.strand == "-" else read).index(position)
        before = protein(contig, transcript.parts, gene.strand)
        after = protein(contig[:position] + letter + contig[position + 1 :], transcript.parts, gene.strand)
        aa = index // 3
        if aa in (0, len(before) - 1) or before[aa] == "X":
            return None
        assert before[:aa] == after[:aa]
        assert before[aa + 1 :] == after[aa + 1 :]
        kind = "synonymous" if before == after else "nonsense" if after[aa] == "*" else "missense"
        found.add((kind, index % 3))
    return found.pop()[0] if len(found) == 1 else None


def as_plain(gene, found):
    return {
        (int(position), "ACGT"[base]): None if row[base] == NO_CLASS else CLASSES[row[base]]
        for position, row in zip(found.position, found.effect, strict=True)
        for base in range(4)
    }


def check(contig, gene):
    found = classify_substitutions(gene, encode(contig[gene.start : gene.end].encode())[0], CODE)
    assert (np.diff(found.position) > 0).all()
    said = as_plain(gene, found)
    for position in range(gene.start, gene.end):
        for letter in "ACGT":
            assert said.get((position, letter)) == plain_class(contig, gene, position, letter), (position, letter)
    return found


def gene_on(strand, rng, n_codons=24):
    """A contig with a gene in three parts, whose cuts split codons, between random bases."""
    read = "ATG" + "".join(rng.choice(SENSE, n_codons)) + "TGA"
    cuts = sorted(rng.choice(np.arange(4, len(read) - 4), 2, replace=False).tolist())
    pieces = [read[a:b] for a, b in zip([0, *cuts], [*cuts, len(read)], strict=True)]
    contig, parts = "ACGTACG", []
    for piece in pieces:
        parts.append((len(contig), len(contig) + len(piece)))
        contig += piece + "".join(rng.choice(list("ACGT"), int(rng.integers(3, 9))))
    phases = [0, -cuts[0] % 3, -cuts[1] % 3]
    if strand == "-":
        contig = contig[::-1].translate(OTHER_STRAND)
        parts = [(len(contig) - end, len(contig) - start) for start, end in parts[::-1]]
        phases = phases[::-1]
    transcript = CodingTranscript("t", tuple(parts), tuple(phases))
    return contig, CodingGene("g", "chr1", strand, parts[0][0], parts[-1][1], (transcript,))


@pytest.mark.parametrize("strand", ["+", "-"])
@pytest.mark.parametrize("seed", range(4))
def test_each_substitution_is_what_the_whole_protein_says(strand, seed):
    contig, gene = gene_on(strand, np.random.default_rng(seed))
    assert gene_problem(gene, encode(contig[gene.start : gene.end].encode())[0], CODE) is None
    found = check(contig, gene)
    assert set(found.codon_position.tolist()) == {0, 1, 2}
    assert {CLASSES[i] for i in np.unique(found.effect[found.effect != NO_CLASS])} == set(CLASSES)


def test_transcripts_must_agree():
    # Read from 0 and, with two bases left out, in another frame; TAT and the codons behind it differ.
    contig = "ATGTATGGGCATTACCTATAA"
    whole = CodingTranscript("whole", ((0, 21),), (0,))
    cut = CodingTranscript("cut", ((0, 6), (9, 21)), (0, 0))
    gene = CodingGene("g", "c", "+", 0, 21, (whole, cut))
    found = check(contig, gene)
    assert not set(range(6, 9)) & set(found.position.tolist())
    shifted = CodingTranscript("shifted", ((0, 4), (5, 10), (12, 21)), (0, 2, 0))
    found = check(contig, CodingGene("g", "c", "+", 0, 21, (whole, shifted)))
    assert (found.effect[(found.position >= 5) & (found.position < 10)] == NO_CLASS).all()
    assert (found.effect[found.position == 12] != NO_CLASS).sum() == 3


def test_a_codon_with_n_has_no_class():
    contig = "ATGTANGGGTAA"
    gene = CodingGene("g", "c", "+", 0, 12, (CodingTranscript("t", ((0, 12),), (0,)),))
    found = check(contig, gene)
    assert (found.effect[3:6] == NO_CLASS).all()
    assert (found.effect[6:9] != NO_CLASS).sum() == 9


BROKEN = {
    PROBLEMS[1]: ("ATGGGGTAA", ((0, 6), (3, 9)), (0, 0)),
    PROBLEMS[2]: ("ATGGGGTAA", ((0, 9),), (1,)),
    PROBLEMS[3]: ("ATGGGTAA", ((0, 8),), (0,)),
    PROBLEMS[4]: ("GTGGGGTAA", ((0, 9),), (0,)),
    PROBLEMS[5]: ("ATGGGGTAC", ((0, 9),), (0,)),
    PROBLEMS[6]: ("ATGTAGGGGTAA", ((0, 12),), (0,)),
}


@pytest.mark.parametrize("problem", BROKEN)
def test_a_gene_that_is_no_gene_is_told(problem):
    contig, parts, phases = BROKEN[problem]
    gene = CodingGene("g", "c", "+", 0, len(contig), (CodingTranscript("t", parts, phases),))
    assert gene_problem(gene, encode(contig.encode())[0], CODE) == problem
    two = CodingGene("g", "c", "+", 0, len(contig), (CodingTranscript("t", parts, phases, is_one_strand=False),))
    assert gene_problem(two, encode(contig.encode())[0], CODE) == PROBLEMS[0]


def test_plastids_have_other_starts():
    gene = CodingGene("g", "c", "+", 0, 9, (CodingTranscript("t", ((0, 9),), (None,)),))
    codes = encode(b"GTGGGGTAA")[0]
    assert gene_problem(gene, codes, CODE) == PROBLEMS[4]
    assert gene_problem(gene, codes, genetic_code(11)) is None
    with pytest.raises(ConfigError, match=r"genetic code 4 is not known: give 1 \(standard\) or 11"):
        genetic_code(4)


def test_the_code_is_that_of_the_words():
    for codon, letter in AMINO_ACID.items():
        assert CODE.translate(encode(codon.encode())[0]) == letter


def test_genes_of_real_chromosomes():
    """On the example's part of chromosome 1 of A. thaliana: reading, sanity, and 12 whole genes by dictionary."""
    records = {record.name: record.codes for record in read_fasta(EXAMPLES / "thaliana.fa.gz")}
    lengths = {name: len(codes) for name, codes in records.items()}
    genes = read_coding_genes(EXAMPLES / "thaliana.gff3.gz", lengths).genes
    problems = [gene_problem(g, records[g.contig][g.start : g.end], CODE) for g in genes]
    assert len(genes) > 500
    assert np.mean([problem is None for problem in problems]) > 0.98
    short = [g for g, problem in zip(genes, problems, strict=True) if problem is None and g.end - g.start < 1500]
    picked = [g for g in short if len(g.transcripts) > 1][:3] + [g for g in short if len(g.transcripts[0].parts) > 1][
        :3
    ]
    assert {g.strand for g in picked} == {"+", "-"}
    for gene in picked:
        contig = "".join("ACGTN"[base] for base in records[gene.contig][: gene.end])
        offset = gene.start
        moved = CodingGene(
            gene.name, gene.contig, gene.strand, 0, gene.end - offset,
            tuple(
                CodingTranscript(t.name, tuple((a - offset, b - offset) for a, b in t.parts), t.phases)
                for t in gene.transcripts
            ),
        )  # fmt: skip
        found = classify_substitutions(moved, records[gene.contig][offset : gene.end], CODE)
        said = as_plain(moved, found)
        rng = np.random.default_rng(0)
        for position in rng.choice(gene.end - offset, 60, replace=False).tolist():
            for letter in "ACGT":
                assert said.get((position, letter)) == plain_class(contig[offset:], moved, position, letter)


def write_rows(path, rows):
    path.write_text("\n".join("\t".join(["chr1", ".", *row.split()]) for row in rows) + "\n")
    return path


def test_genes_are_read_with_all_their_transcripts(tmp_path):
    rows = [
        "gene 1 30 . - . ID=g", "mRNA 1 30 . - . ID=a;Parent=g", "mRNA 1 30 . - . ID=b;Parent=g",
        "CDS 20 28 . - 0 Parent=a,b", "CDS 4 9 . - 0 Parent=a", "CDS 1 3 . + 0 ID=alone", "gene 40 60 . + . ID=h",
        "CDS 41 46 . + . Parent=h", "ncRNA 50 60 . + . ID=n;Parent=h", "exon 50 60 . + . Parent=n",
    ]  # fmt: skip
    found = read_coding_genes(write_rows(tmp_path / "a.gff3", rows), {"chr1": 60})
    first, second = found.genes
    assert (first.name, first.strand, first.start, first.end) == ("g", "-", 3, 28)
    assert {t.name: t.parts for t in first.transcripts} == {"a": ((3, 9), (19, 28)), "b": ((19, 28),)}
    assert (second.name, second.transcripts[0].parts, second.transcripts[0].phases) == ("h", ((40, 46),), (None,))
    assert found.n_without_parent == 1


def test_parts_on_two_strands_are_one_strange_gene(tmp_path):
    rows = ["gene 1 30 . - . ID=g", "CDS 1 9 . + 0 Parent=g", "CDS 20 28 . - 0 Parent=g"]
    gene = read_coding_genes(write_rows(tmp_path / "a.gff3", rows), {"chr1": 60}).genes[0]
    assert not gene.transcripts[0].is_one_strand
    assert shared_runs([gene, gene]) == {}


def test_what_cannot_be_read_is_refused(tmp_path):
    path = tmp_path / "a.gff3"
    for rows, message in {
        ("CDS 1 9 . . 0 Parent=t",): r"line 1: a CDS has strand '\.', so nobody can say how it is read",
        ("CDS 1 9 . + 3 Parent=t",): "line 1: a CDS has phase '3', which is none of 0, 1, 2 and",
        ("CDS 1 9 . + 0 Parent=t",): "a feature has Parent=t, but no feature has that ID",
        ("gene 1 9 . + . ID=g",): "no CDS with a Parent on the contigs of the FASTA$",
        ("CDS 1 99 . + 0 Parent=t",): "line 1: the CDS ends at 99, beyond contig 'chr1' of 60 bases",
    }.items():
        write_rows(path, rows)
        with pytest.raises(AnnotationError, match=message):
            read_coding_genes(path, {"chr1": 60})
    write_rows(path, ["CDS 1 9 . + 0 Parent=t"])
    with pytest.raises(AnnotationError, match="it has CDS on chr1, and the FASTA has no such contig"):
        read_coding_genes(path, {"other": 60})


def test_shared_bases_against_counting():
    rng = np.random.default_rng(1)
    genes = []
    for name in range(12):
        start = int(rng.integers(0, 80))
        parts = ((start, start + 6), (start + 9, start + 15))
        transcripts = (CodingTranscript("t", parts, (0, 0)), CodingTranscript("u", parts[:1], (0,)))
        genes.append(CodingGene(f"g{name}", "c", "+", start, start + 15, transcripts))
    depth = np.zeros(100, int)
    for gene in genes:
        mine = np.zeros(100, bool)
        for transcript in gene.transcripts:
            for start, end in transcript.parts:
                mine[start:end] = True
        depth += mine
    found = np.zeros(100, bool)
    for start, end in shared_runs(genes)["c"]:
        found[start:end] = True
    np.testing.assert_array_equal(found, depth > 1)
