"""Sites of planted genes, whose letters are known, and decoys that are none."""

import numpy as np
import pytest
from planted_genes import write_planted_genes

from umbel.errors import AnnotationError
from umbel.genome.gene_sites import MOTIFS, SITE_KINDS, Site, draw_sites, loci_of, read_introns, sites_of
from umbel.genome.reference import Reference
from umbel.genome.sequence import decode
from umbel.genome.transcripts import read_transcripts

OTHER = str.maketrans("ACGT", "TGCA")


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sites")
    return folder, write_planted_genes(folder, 24)


@pytest.fixture(scope="module")
def genome(planted):
    folder, _ = planted
    with Reference.open(folder / "genes.fa") as reference:
        yield reference, read_transcripts(folder / "genes.gff3", reference.lengths).transcripts


def planted_site(kind, strand, parts):
    """Where the letters of a gene's only site are, from how it was planted."""
    (a, b), (c, d) = parts
    if strand == "+":
        return {"donor": b, "acceptor": c - 2, "start codon": a, "stop codon": d - 3}[kind]
    return {"donor": c - 2, "acceptor": b, "start codon": d - 3, "stop codon": a}[kind]


@pytest.mark.parametrize("kind", SITE_KINDS)
def test_sites_are_where_genes_were_planted(planted, genome, kind):
    _, truth = planted
    expected = {
        Site(contig, planted_site(kind, strand, parts), strand) for contig, strand, parts in truth["genes"].values()
    }
    assert sites_of(genome[1], kind) == expected


@pytest.mark.parametrize("kind", SITE_KINDS)
def test_windows_show_the_letters_and_decoys_are_no_sites(planted, genome, kind):
    _, truth = planted
    reference, transcripts = genome
    windows = draw_sites(reference, transcripts, kind, 20, 10, seed=1)
    real = sites_of(transcripts, kind)
    places = set()
    for codes, is_site, locus in zip(windows.codes, windows.is_site, windows.locus, strict=True):
        text = decode(codes)
        assert text[10 : 10 + windows.motif_bp] in MOTIFS[kind]
        assert 0 <= locus < 24
        # Where it stands is found again by its text, on either strand of either contig.
        found = set()
        for contig, letters in truth["contigs"].items():
            for strand, shown in (("+", text), ("-", text[::-1].translate(OTHER))):
                at = letters.find(shown)
                while at >= 0:
                    found.add(Site(contig, at + 10, strand))
                    at = letters.find(shown, at + 1)
        assert len(found) == 1 and (found <= real) == is_site
        places |= found
    assert len(places) == len(windows) and windows.is_site.mean() == 0.5
    pairs = windows.codes.reshape(-1, 2, windows.codes.shape[1])[:, :, 10 : 10 + windows.motif_bp]
    assert np.array_equal(pairs[:, 0], pairs[:, 1])


def test_the_same_seed_draws_the_same_and_avoided_stretches_are_not_touched(genome):
    reference, transcripts = genome
    once, again = (draw_sites(reference, transcripts, "donor", 8, 10, seed=3) for _ in range(2))
    assert np.array_equal(once.codes, again.codes)
    everywhere = {name: np.array([[0, length]]) for name, length in reference.lengths.items()}
    with pytest.raises(AnnotationError, match="no donor with a decoy"):
        draw_sites(reference, transcripts, "donor", 8, 10, avoid=everywhere)
    only = draw_sites(reference, transcripts, "donor", 100, 10, avoid={"one": everywhere["one"]})
    assert len(only) <= 24


def test_loci_join_what_overlaps_on_one_strand(genome):
    assert len(loci_of(genome[1])) == 24
    assert len(loci_of([*genome[1], *genome[1]])) == 24


def test_introns_of_a_bed_file_have_the_sites_of_the_genes(planted, genome, tmp_path):
    _, truth = planted
    lines = [
        f"{contig}\t{parts[0][1]}\t{parts[1][0]}\t{name}\t0\t{strand}\n"
        for name, (contig, strand, parts) in truth["genes"].items()
    ]
    (tmp_path / "introns.bed").write_text("".join(lines))
    found = read_introns(tmp_path / "introns.bed", {"one": "one", "two": "two"})
    for kind in ("donor", "acceptor"):
        assert sites_of(found, kind) == sites_of(genome[1], kind)
    with pytest.raises(AnnotationError, match="no intron on y; the file has one, two"):
        read_introns(tmp_path / "introns.bed", {"y": "x"})
    (tmp_path / "two.bed").write_text("one\t5\t30\ta\t0\t+\none\t20\t50\ta\t0\t+\n")
    with pytest.raises(AnnotationError, match="introns of a overlap, or lie on two strands"):
        read_introns(tmp_path / "two.bed", {"one": "one"})
