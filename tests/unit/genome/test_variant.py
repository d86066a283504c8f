import numpy as np
import pysam
import pysam.bcftools
import pytest

from umbel.genome.reference import Reference
from umbel.genome.sequence import decode
from umbel.genome.variant import Variant, anchored, left_normalise


def repetitive(rng, length):
    """Letters in which short motifs follow themselves, so that most insertions and deletions can be shifted."""
    text = ""
    while len(text) < length:
        motif = "".join(rng.choice(list("ACGT"), rng.integers(1, 5)))
        text += motif * int(rng.integers(1, 9))
    return text[:length]


def edits(rng, text, count):
    """Records as callers write them: with needless shared bases on either side, of any length."""
    for _ in range(count):
        start = int(rng.integers(0, len(text)))
        end = min(len(text), start + int(rng.integers(1, 9)))
        ref = text[start:end]
        alt = list(ref)
        cut = int(rng.integers(0, len(alt) + 1))
        match rng.integers(0, 4):
            case 0:
                alt[cut:cut] = rng.choice(list("ACGT"), rng.integers(1, 7)).tolist()
            case 1:
                del alt[cut : cut + int(rng.integers(1, 7))]
            case 2:
                # A copy of a neighbour: the insertion that shifts.
                alt[cut:cut] = ref[:cut][-int(rng.integers(1, 5)) :]
            case _:
                alt[cut : cut + 2] = rng.choice(list("ACGT"), rng.integers(1, 4)).tolist()
        if alt and "".join(alt) != ref:
            yield start, ref, "".join(alt)


def by_bcftools(folder, contigs, records, *extra):
    """Normalise with the real one; give (contig, pos, ref, alt) by record number."""
    fasta, vcf = folder / "genome.fa", folder / "in.vcf"
    for stale in folder.glob("*.fai"):
        stale.unlink()
    fasta.write_text("".join(f">{name}\n{text}\n" for name, text in contigs.items()))
    head = "##fileformat=VCFv4.2\n" + "".join(f"##contig=<ID={n},length={len(t)}>\n" for n, t in contigs.items())
    rows = [f"{c}\t{s + 1}\t{i}\t{r}\t{a}\t.\t.\t.\n" for i, (c, s, r, a) in enumerate(records)]
    vcf.write_text(head + "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n" + "".join(rows))
    told = pysam.bcftools.norm("-f", str(fasta), "-m", "-", *extra, str(vcf))
    rows = [line.split("\t")[:5] for line in told.splitlines() if not line.startswith("#")]
    return {int(i): (contig, int(pos), ref, alt) for contig, pos, i, ref, alt in rows}


def ours(genome, contig, start, ref, alt):
    found = anchored(left_normalise(Variant(contig, start, ref, alt), genome), genome)
    return contig, found.start + 1, found.ref, found.alt


def test_it_is_what_bcftools_norm_writes(tmp_path):
    rng = np.random.default_rng(1)
    contigs = {f"c{i}": repetitive(rng, int(rng.integers(8, 400))) for i in range(12)}
    records = [(name, *edit) for name, text in contigs.items() for edit in edits(rng, text, 250)]
    expected = by_bcftools(tmp_path, contigs, records)
    assert len(expected) == len(records) > 2_000
    with Reference.open(tmp_path / "genome.fa") as genome:
        got = {i: ours(genome, *record) for i, record in enumerate(records)}
    assert got == expected
    moved = sum(got[i][1] < record[1] + 1 for i, record in enumerate(records))
    assert moved > 200


def test_a_long_repeat_is_crossed_whole(tmp_path):
    # Longer than any single look at the genome.
    contigs = {"c": "G" + "AC" * 100_000 + "T"}
    records = [("c", 200_000, "C", "CAC"), ("c", 199_998, "CAC", "C")]
    expected = by_bcftools(tmp_path, contigs, records)
    with Reference.open(tmp_path / "genome.fa") as genome:
        assert {i: ours(genome, *record) for i, record in enumerate(records)} == expected
    assert expected[0] == ("c", 1, "G", "GAC")


def test_at_the_start_of_a_contig(tmp_path):
    contigs = {"c": "AAAGTCCC"}
    rows = [(0, "AAAG", "AAG"), (0, "AAAG", "G"), (2, "A", "AAA"), (0, "A", "TA"), (0, "AAAGT", "T"), (7, "C", "CC")]
    records = [("c", *row) for row in rows]
    expected = by_bcftools(tmp_path, contigs, records)
    with Reference.open(tmp_path / "genome.fa") as genome:
        assert {i: ours(genome, *record) for i, record in enumerate(records)} == expected


def test_each_allele_of_a_multi_allelic_record_alone(tmp_path):
    contigs = {"c": "GTTTTTACCCA"}
    alts = ["T", "TTT", "TCTT", "AT", "TTTTT"]
    got = by_bcftools(tmp_path, contigs, [("c", 4, "TT", ",".join(alts))])
    assert len(got) == 1
    with Reference.open(tmp_path / "genome.fa") as genome:
        mine = {ours(genome, "c", 4, "TT", alt) for alt in alts}
    told = pysam.bcftools.norm("-f", str(tmp_path / "genome.fa"), "-m", "-", str(tmp_path / "in.vcf"))
    rows = [line.split("\t") for line in told.splitlines() if not line.startswith("#")]
    assert mine == {(r[0], int(r[1]), r[3], r[4]) for r in rows}


def test_n_equals_n_as_for_bcftools(tmp_path):
    contigs = {"c": "ANNNGCCT"}
    records = [("c", 3, "N", "NN"), ("c", 3, "NG", "G"), ("c", 2, "NN", "N")]
    expected = by_bcftools(tmp_path, contigs, records)
    with Reference.open(tmp_path / "genome.fa") as genome:
        assert {i: ours(genome, *record) for i, record in enumerate(records)} == expected


def test_known_differences_from_bcftools(tmp_path):
    """Case: theirs keeps a record's, ours is upper. Ambiguity letters: in a genome, ours are N and shift nothing."""
    contigs = {"c": "aaagRRtt"}
    records = [("c", 2, "a", "aa"), ("c", 6, "R" + "t", "R")]
    expected = by_bcftools(tmp_path, contigs, records[:1])
    with Reference.open(tmp_path / "genome.fa") as genome:
        assert expected[0] == ("c", 1, "a", "aa")
        assert ours(genome, "c", 2, "A", "AA") == ("c", 1, "A", "AA")
        assert left_normalise(Variant("c", 6, "", "R"), genome) == Variant("c", 6, "", "R")
        assert left_normalise(Variant("c", 6, "", "N"), genome) == Variant("c", 4, "", "N")


def test_the_sequence_it_makes_stays_the_same(tmp_path):
    rng = np.random.default_rng(5)
    text = repetitive(rng, 300)
    (tmp_path / "genome.fa").write_text(f">c\n{text}\n")
    with Reference.open(tmp_path / "genome.fa") as genome:
        for start, ref, alt in edits(rng, text, 300):
            found = left_normalise(Variant("c", start, ref, alt), genome)
            assert text[found.start : found.end] == found.ref
            before, after = (text[: v.start] + v.alt + text[v.end :] for v in (Variant("c", start, ref, alt), found))
            assert before == after
            assert left_normalise(found, genome) == found


@pytest.mark.parametrize(
    "ref, alt, kind",
    [
        ("A", "C", "snv"),
        ("CAT", "CGT", "snv"),
        ("AT", "CG", "mnv"),
        ("ACT", "CCG", "mnv"),
        ("A", "AT", "insertion"),
        ("AT", "T", "deletion"),
        ("AT", "CGG", "complex"),
        ("A", "A", "none"),
        ("", "", "none"),
    ],
)
def test_kinds(ref, alt, kind):
    assert Variant("c", 3, ref, alt).kind == kind


def test_a_whole_contig_has_no_anchor(tmp_path):
    (tmp_path / "genome.fa").write_text(">c\nACGT\n")
    with Reference.open(tmp_path / "genome.fa") as genome:
        assert decode(genome.fetch("c", 0, 4)) == "ACGT"
        with pytest.raises(ValueError, match="whole contig"):
            anchored(Variant("c", 0, "ACGT", ""), genome)
