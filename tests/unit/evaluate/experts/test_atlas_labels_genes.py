"""Labellings of genes against loops over the lines of the file, on made-up genes and on a real chromosome."""

import gzip
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from toys import NAMES, gff3_row, toy_gff3, toy_sequences

from umbel.errors import AnnotationError
from umbel.evaluate.experts.labels.codons import CODON_CLASSES
from umbel.evaluate.experts.labels.genes import REGIONS, SITES, STRANDS, gene_labels
from umbel.genome.annotation import REGIONS as OLD_REGIONS
from umbel.genome.annotation import read_gff3, region_runs
from umbel.genome.fasta import read_fasta
from umbel.genome.sequence import decode

EXAMPLES = Path(__file__).parents[4] / "examples" / "data"
OTHER_STRAND = str.maketrans("ACGTN", "TGCAN")


def loop_transcripts(text):
    """Transcripts of a GFF3 text, by nothing but splitting: contig, strand, span, exons and CDS of each parent."""
    span, parts = {}, {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        contig, _, kind, start, end, _, strand, phase, attributes = line.split("\t")
        told = dict(pair.split("=", 1) for pair in attributes.split(";"))
        row = (contig, strand, int(start) - 1, int(end), kind, phase)
        if kind in ("exon", "CDS"):
            for parent in told["Parent"].split(","):
                parts.setdefault(parent, []).append(row)
        else:
            span[told["ID"]] = row
    for name, rows in parts.items():
        contig, strand, start, end, *_ = span[name]
        exons = sorted((row[2], row[3]) for row in rows if row[4] == "exon")
        cds = sorted((row[2], row[3], row[5]) for row in rows if row[4] == "CDS")
        yield contig, strand, start, end, exons, cds


def painted(text, lengths, upstream_bp):
    """Region of every base: each class painted over the one before it."""
    transcripts = list(loop_transcripts(text))
    found = {contig: np.full(length, REGIONS.index("intergenic")) for contig, length in lengths.items()}

    def paint(name, contig, start, end):
        found[contig][max(start, 0) : max(end, 0)] = REGIONS.index(name)

    for contig, strand, start, end, _, _ in transcripts:
        paint("promoter", contig, *((start - upstream_bp, start) if strand == "+" else (end, end + upstream_bp)))
    for contig, _, start, end, _, _ in transcripts:
        paint("intron", contig, start, end)
    for contig, _, _, _, exons, cds in transcripts:
        for start, end in exons if not cds else ():
            paint("noncoding", contig, start, end)
    for name in ("3' UTR", "5' UTR"):
        for contig, strand, _, _, exons, cds in transcripts:
            for start, end in exons if cds else ():
                if (name == "5' UTR") == (strand == "+"):
                    paint(name, contig, start, min(end, cds[0][0]))
                else:
                    paint(name, contig, max(start, cds[-1][1]), max(end, cds[-1][1]))
    for contig, _, _, _, _, cds in transcripts:
        for start, end, _ in cds:
            paint("CDS", contig, start, end)
    return found


def loop_codons(text, lengths):
    """Set of (strand, place) that the transcripts give to each base, by counting along each coding sequence."""
    found = {contig: {} for contig in lengths}
    for contig, strand, _, _, _, cds in loop_transcripts(text):
        if contig not in found:
            continue
        places = [place for start, end, _ in cds for place in range(start, end)]
        if strand == "-":
            places.reverse()
        first = int((cds[-1] if strand == "-" else cds[0])[2]) if cds else 0
        for i, place in enumerate(places):
            found[contig].setdefault(place, set()).add((strand, (i - first) % 3))
    return found


@pytest.fixture(scope="module")
def real():
    text = gzip.decompress((EXAMPLES / "thaliana.gff3.gz").read_bytes()).decode()
    letters = {record.name: decode(record.codes) for record in read_fasta(EXAMPLES / "thaliana.fa.gz")}
    lengths = {name: len(sequence) for name, sequence in letters.items()}
    return text, letters, lengths, gene_labels(EXAMPLES / "thaliana.gff3.gz", lengths)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "toy.gff3"
    # Two isoforms, one of them an exon shorter, and genes of both strands over each other.
    extra = [
        gff3_row(NAMES[0], "mRNA", 150, 1020, "+", "ID=other;Parent=plus0"),
        gff3_row(NAMES[0], "exon", 150, 1020, "+", "Parent=other"),
        gff3_row(NAMES[0], "CDS", 221, 521, "+", "Parent=other"),
        gff3_row(NAMES[0], "gene", 900, 1500, "-", "ID=across"),
        gff3_row(NAMES[0], "exon", 900, 1500, "-", "Parent=across"),
    ]
    path.write_text(toy_gff3() + "\n".join(extra) + "\n")
    lengths = {name: len(sequence) for name, sequence in toy_sequences().items()}
    return path.read_text(), lengths, gene_labels(path, lengths, upstream_bp=300)


def test_every_base_of_made_up_genes_has_the_region_that_painting_gives(toy):
    text, lengths, labels = toy
    for contig, expected in painted(text, lengths, 300).items():
        found = labels.region.labels(contig, 0, lengths[contig])
        # The last contig has no row, so nobody looked for genes there.
        assert (found == (expected if contig in NAMES[:3] else -1)).all()
    assert {*labels.region.labels(NAMES[0], 0, lengths[NAMES[0]])} == set(range(len(REGIONS)))


def test_every_base_of_a_real_chromosome_has_the_region_that_painting_gives(real):
    text, _, lengths, labels = real
    for contig, expected in painted(text, lengths, 500).items():
        assert (labels.region.labels(contig, 0, lengths[contig]) == expected).all()


def test_regions_without_promoters_and_sides_are_those_of_region_runs(real):
    _, _, lengths, labels = real
    as_old = [
        OLD_REGIONS.index(name) for name in ("intergenic", "utr", "utr", "cds", "intron", "noncoding", "intergenic")
    ]
    runs = region_runs(read_gff3(EXAMPLES / "thaliana.gff3.gz", lengths).features, lengths)
    for contig, length in lengths.items():
        expected = np.repeat(runs[contig][:, 2], runs[contig][:, 1] - runs[contig][:, 0])
        assert (np.array(as_old)[labels.region.labels(contig, 0, length)] == expected).all()


def test_codon_positions_are_those_counted_along_each_coding_sequence(real):
    text, _, lengths, labels = real
    few = {contig: length for contig, length in lengths.items() if length < 600_000}
    assert len(few) == 2
    for contig, said in loop_codons(text, few).items():
        expected = np.full(lengths[contig], -1)
        for place, readings in said.items():
            if len(readings) == 1:
                ((strand, turn),) = readings
                expected[place] = CODON_CLASSES.index(f"{turn + 1} of {strand}")
        assert (labels.codon.labels(contig, 0, lengths[contig]) == expected).all()


def test_start_codons_spell_atg_and_stop_codons_a_stop(real):
    _, letters, lengths, labels = real
    spelled = {"start codon": Counter(), "stop codon": Counter()}
    for contig, sequence in letters.items():
        sites, codons = (each.labels(contig, 0, lengths[contig]) for each in (labels.sites, labels.codon))
        for name, words in spelled.items():
            # Whole codons alone: those that an intron cuts are spelled elsewhere.
            at = np.flatnonzero((sites[:-2] == SITES.index(name)) & (sites[2:] == SITES.index(name)))
            for place in at.tolist():
                word = sequence[place : place + 3]
                if codons[place : place + 3].tolist() == [0, 1, 2]:
                    words[word] += 1
                elif codons[place : place + 3].tolist() == [5, 4, 3]:
                    words[word[::-1].translate(OTHER_STRAND)] += 1
    starts, stops = spelled.values()
    assert starts["ATG"] > 800
    assert starts["ATG"] / starts.total() > 0.99
    assert stops.total() > 800
    assert sum(stops[word] for word in ("TAA", "TAG", "TGA")) / stops.total() > 0.99


def test_third_positions_of_codons_vary_most(real):
    """In Arabidopsis GC at third positions is lowest and at first positions highest; the frame must be right for it."""
    _, letters, lengths, labels = real
    gc = np.zeros((6, 2))
    for contig, sequence in letters.items():
        codes = np.frombuffer(sequence.encode(), np.uint8)
        codons = labels.codon.labels(contig, 0, lengths[contig])
        is_gc = (codes == ord("G")) | (codes == ord("C"))
        for number in range(6):
            gc[number] += is_gc[codons == number].sum(), (codons == number).sum()
    share = gc[:, 0] / gc[:, 1]
    for strand in (share[:3], share[3:]):
        assert strand[0] > 0.48
        assert strand[1] < 0.43
        assert strand[2] < 0.45
        assert strand.sum() / 3 == pytest.approx(0.44, abs=0.02)


def test_donors_are_gt_and_acceptors_ag_at_every_intron_of_a_real_chromosome(real):
    text, letters, lengths, labels = real
    ends = {"+": Counter(), "-": Counter()}
    sites = {contig: labels.sites.labels(contig, 0, length) for contig, length in lengths.items()}
    strong = {SITES.index(name) for name in ("donor", "start codon", "stop codon")}
    for contig, strand, _, _, exons, _ in loop_transcripts(text):
        for (_, left), (right, _) in pairwise(exons):
            # Three gaps of 10, 14 and 18 bases are no introns.
            if right - left < 20:
                continue
            word = letters[contig][left : left + 2], letters[contig][right - 2 : right]
            ends[strand][word if strand == "+" else tuple(w[::-1].translate(OTHER_STRAND) for w in word[::-1])] += 1
            donor = slice(left - 3, left + 6) if strand == "+" else slice(right - 6, right + 3)
            acceptor = slice(right - 20, right + 3) if strand == "+" else slice(left - 3, left + 20)
            assert set(sites[contig][donor].tolist()) <= strong
            assert set(sites[contig][acceptor].tolist()) <= strong | {SITES.index("acceptor")}
    for found in ends.values():
        assert found["GT", "AG"] / found.total() > 0.97


def test_sites_of_one_gene_on_either_strand_are_where_a_ruler_says(tmp_path):
    rows = []
    for contig, strand in (("p", "+"), ("m", "-")):
        rows.append(gff3_row(contig, "mRNA", 100, 400, strand, f"ID={contig}"))
        rows += [gff3_row(contig, "exon", *span, strand, f"Parent={contig}") for span in ((100, 200), (300, 400))]
        # 36 + 66 coding bases, and 64 + 34 of UTR.
        rows += [gff3_row(contig, "CDS", *span, strand, f"Parent={contig}") for span in ((164, 200), (300, 366))]
    path = tmp_path / "one.gff3"
    path.write_text("\n".join(rows))
    sites = gene_labels(path, {"p": 500, "m": 500}).sites

    def where(contig, name):
        places = np.flatnonzero(sites.labels(contig, 0, 500) == SITES.index(name))
        return int(places[0]), int(places[-1]) + 1, len(places)

    assert where("p", "TSS") == (50, 110, 60)
    assert where("p", "donor") == (197, 206, 9)
    assert where("p", "acceptor") == (280, 303, 23)
    assert where("p", "start codon") == (164, 167, 3)
    assert where("p", "stop codon") == (363, 366, 3)
    # The same numbers, seen from the right end.
    assert where("m", "TSS") == (390, 450, 60)
    assert where("m", "donor") == (294, 303, 9)
    assert where("m", "acceptor") == (197, 220, 23)
    assert where("m", "start codon") == (363, 366, 3)
    assert where("m", "stop codon") == (164, 167, 3)


def test_part_of_a_gene_has_no_site_where_the_file_does_not_say(tmp_path):
    rows = [
        gff3_row("c", "mRNA", 100, 200, "+", "ID=a"),
        # Phase 1, so that it begins within a codon, and 100 - 1 is a multiple of 3: it has a stop but no start.
        gff3_row("c", "CDS", 100, 200, "+", "Parent=a").replace("\t0\t", "\t1\t"),
        gff3_row("c", "mRNA", 300, 420, "+", "ID=b"),
        # Two bases are left over at its end; and an intron of 19 bases is none.
        gff3_row("c", "CDS", 300, 350, "+", "Parent=b"),
        gff3_row("c", "CDS", 369, 420, "+", "Parent=b").replace("\t0\t", "\t1\t"),
    ]
    path = tmp_path / "part.gff3"
    path.write_text("\n".join(rows))
    names = Counter(SITES[site] for site in gene_labels(path, {"c": 500}).sites.labels("c", 0, 500))
    assert names == {"no site": 500 - 6, "stop codon": 3, "start codon": 3}


def test_where_transcripts_disagree_there_is_no_codon_position(tmp_path):
    rows = [
        gff3_row("c", "mRNA", 0, 60, "+", "ID=a"),
        gff3_row("c", "CDS", 0, 60, "+", "Parent=a"),
        gff3_row("c", "mRNA", 0, 60, "+", "ID=agrees"),
        gff3_row("c", "CDS", 9, 30, "+", "Parent=agrees"),
        gff3_row("c", "mRNA", 40, 60, "+", "ID=shifted"),
        gff3_row("c", "CDS", 40, 50, "+", "Parent=shifted"),
        gff3_row("c", "mRNA", 52, 60, "-", "ID=other"),
        gff3_row("c", "CDS", 52, 55, "-", "Parent=other"),
    ]
    path = tmp_path / "two.gff3"
    path.write_text("\n".join(rows))
    labels = gene_labels(path, {"c": 70}).codon
    expected = [place % 3 for place in range(60)] + [-1] * 10
    expected[40:50] = [-1] * 10
    expected[52:55] = [-1] * 3
    assert labels.labels("c", 0, 70).tolist() == expected
    # Any stretch is a part of the whole.
    for start in range(0, 70, 7):
        assert labels.labels("c", start, start + 7).tolist() == expected[start : start + 7]


def test_a_missing_phase_follows_from_the_parts_before_it(tmp_path):
    for strand, expected in (("+", [0, 1, 2, 0, -1, 1, 2]), ("-", [5, 4, 3, 5, -1, 4, 3])):
        rows = [gff3_row("c", "mRNA", 0, 7, strand, "ID=a")]
        rows += [
            gff3_row("c", "CDS", *span, strand, "Parent=a").replace("\t0\tP", "\t.\tP") for span in ((0, 4), (5, 7))
        ]
        path = tmp_path / "phase.gff3"
        path.write_text("\n".join(rows))
        # On the other strand, from the right, these are 1 2, the gap, and 3 1 2 3.
        assert gene_labels(path, {"c": 7}).codon.labels("c", 0, 7).tolist() == expected


def test_strand_is_that_of_the_gene_with_introns_or_both(toy):
    text, lengths, labels = toy
    covered = {contig: np.zeros((2, length), bool) for contig, length in lengths.items()}
    for line in text.splitlines():
        fields = line.split("\t")
        # lnc_RNA has no gene above it.
        if len(fields) == 9 and fields[2] in ("gene", "lnc_RNA"):
            covered[fields[0]]["+-".index(fields[6]), int(fields[3]) - 1 : int(fields[4])] = True
    for contig, (plus, minus) in covered.items():
        expected = np.select([plus & minus, plus, minus], [STRANDS.index("both"), 0, 1], -1)
        assert (labels.strand.labels(contig, 0, lengths[contig]) == expected).all()
    assert (labels.strand.labels(NAMES[0], 0, lengths[NAMES[0]]) == STRANDS.index("both")).any()


def test_a_gene_of_two_strands_has_no_class_and_is_told(tmp_path):
    path = tmp_path / "trans.gff3"
    path.write_text(
        "\n".join(
            [
                gff3_row("c", "mRNA", 10, 30, "+", "ID=t"),
                gff3_row("c", "CDS", 10, 30, "+", "Parent=t"),
                gff3_row("c", "CDS", 50, 70, "-", "Parent=t"),
                gff3_row("c", "mRNA", 20, 100, "+", "ID=fine"),
                gff3_row("c", "CDS", 80, 90, "+", "Parent=fine"),
                gff3_row("elsewhere", "mRNA", 20, 100, "+", "ID=far"),
            ]
        )
    )
    labels = gene_labels(path, {"c": 100, "bare": 9}, upstream_bp=0)
    region = labels.region.labels("c", 0, 100)
    assert np.flatnonzero(region == -1).tolist() == [*range(10, 30), *range(50, 70)]
    assert (labels.codon.labels("c", 0, 80) == -1).all()
    assert labels.region.labelling.facts["notes"] == [
        "trans.gff3: 1 row on contigs that are not in the genome was passed over (elsewhere).",
        "trans.gff3: 1 transcripts do not lie on one strand: what they cover has no class.",
        "trans.gff3: 1 contigs have no row, and no classes of genes (bare).",
    ]


def test_phases_that_do_not_follow_are_told(toy):
    notes = toy[2].codon.labelling.facts["notes"]
    assert "6 transcripts have phases that do not follow from the lengths of their coding parts" in notes[-1]


def test_an_annotation_of_another_assembly_is_refused_with_three_names_of_each(tmp_path):
    path = tmp_path / "other.gff3"
    path.write_text("\n".join(gff3_row(f"chr{i}", "gene", 0, 9, "+", f"ID=g{i}") for i in range(5)))
    with pytest.raises(AnnotationError) as refusal:
        gene_labels(path, {"1": 100, "2": 100, "3": 100, "4": 100})
    assert str(refusal.value).startswith(
        f"{path}: none of its contigs (chr0, chr1, chr2 and 2 more) is in the FASTA (1, 2, 3 and 1 more). Rename"
    )


def test_a_negative_promoter_is_refused(tmp_path):
    with pytest.raises(ValueError, match="upstream_bp is -1: give 0 or more"):
        gene_labels(tmp_path / "none.gff3", {}, upstream_bp=-1)
