import pytest
from variant_fakes import random_letters, write_genome

from umbel.genome.reference import Reference
from umbel.genome.variant import Variant
from umbel.genome.vcf import VcfRecord
from umbel.predict.variants.alleles import FILTERS, Limits, alleles_of

#        1        10        20
HEAD = "ACGTTTTTGCACACAGNNNNACGTRCA"
LIMITS = Limits(max_allele_bp=5, flank_bp=4, min_bases=3)


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    contigs = {"c": HEAD + random_letters(0, 60), "soft": "acgtttttgc", "tiny": "ACG"}
    with Reference.open(write_genome(tmp_path_factory.mktemp("genome"), contigs)) as opened:
        yield opened


def resolve(genome, pos, ref, alt, info=".", contig="c"):
    record = VcfRecord(1, ("c", str(pos), ".", ref, alt, ".", ".", info), pos)
    return alleles_of(record, contig, genome, LIMITS)


@pytest.mark.parametrize(
    "pos, ref, alt, fate, added",
    [
        (1, "A", "C", "scored", None),
        (2, "C", "G", "scored", None),
        (2, "c", "g", "scored", None),
        (2, "A", "G", "ref_mismatch", "UMBEL_REF_MISMATCH"),
        (2, "CGA", "C", "ref_mismatch", "UMBEL_REF_MISMATCH"),
        (0, "A", "G", "beyond_contig", "UMBEL_BEYOND_CONTIG"),
        (88, "A", "G", "beyond_contig", "UMBEL_BEYOND_CONTIG"),
        (2, "C", "CACGTA", "scored", None),
        (2, "C", "CACGTAC", "too_long", "UMBEL_TOO_LONG"),
        (2, "CGTTTTT", "C", "too_long", "UMBEL_TOO_LONG"),
        # What both alleles share does not count.
        (2, "CGTTTTTGCA", "CGTTTTTGC", "scored", None),
        (2, "CGTTTTTG", "TGTTTTTA", "too_long", "UMBEL_TOO_LONG"),
        (2, "C", "<INS>", "no_sequence", "UMBEL_NO_SEQUENCE"),
        (2, "C", "C[c:9[", "no_sequence", "UMBEL_NO_SEQUENCE"),
        (2, "C", "<INV>", "no_sequence", "UMBEL_NO_SEQUENCE"),
        (2, "C", "<DEL>", "no_sequence", "UMBEL_NO_SEQUENCE"),
        (2, "<X>", "C", "no_sequence", "UMBEL_NO_SEQUENCE"),
        (2, "C", "*", "placeholder", None),
        (2, "C", "<NON_REF>", "placeholder", None),
        (2, "C", "<*>", "placeholder", None),
        (2, "C", "c", "equal", None),
        (17, "N", "A", "n_at_allele", "UMBEL_N_IN_WINDOW"),
        (17, "A", "C", "n_at_allele", "UMBEL_N_IN_WINDOW"),
        (2, "C", "R", "n_at_allele", "UMBEL_N_IN_WINDOW"),
        (25, "R", "A", "n_at_allele", "UMBEL_N_IN_WINDOW"),
        (2, "N", "A", "n_at_allele", "UMBEL_N_IN_WINDOW"),
        (15, "A", "C", "scored", "UMBEL_N_IN_WINDOW"),
        (12, "C", "A", "scored", None),
    ],
)
def test_fates_and_filters(genome, pos, ref, alt, fate, added):
    (allele,) = resolve(genome, pos, ref, alt)
    assert (str(allele.fate), allele.filter) == (fate, added)
    assert (allele.window is not None) == (fate == "scored")
    assert added is None or added in FILTERS


def test_a_contig_that_is_not_there(genome):
    assert [str(a.fate) for a in resolve(genome, 5, "A", "C,G", contig=None)] == ["no_contig"] * 2
    assert resolve(genome, 5, "A", "C", contig=None)[0].filter == "UMBEL_NO_CONTIG"


def test_too_few_known_bases(genome):
    (allele,) = resolve(genome, 1, "ACG", "A", contig="tiny")
    assert (str(allele.fate), allele.filter) == ("short_window", "UMBEL_SHORT_WINDOW")


def test_alleles_are_normalised_each_alone(genome):
    found = resolve(genome, 8, "TG", "T,TTG,AG,TGCA,*")
    assert [allele.variant for allele in found] == [
        Variant("c", 8, "G", ""),
        Variant("c", 3, "", "T"),
        Variant("c", 7, "T", "A"),
        Variant("c", 9, "", "CA"),
        None,
    ]


def test_soft_masked_reference_is_reference(genome):
    (allele,) = resolve(genome, 8, "tg", "t", contig="soft")
    assert allele.variant == Variant("soft", 8, "G", "")


@pytest.mark.parametrize(
    "alt, info, expected",
    [
        ("<DEL>", "END=8", Variant("c", 3, "TTTTT", "")),
        ("<DEL>", "SVLEN=-2", Variant("c", 3, "TT", "")),
        ("<DEL:ME:ALU>", "SVLEN=2;END=5", Variant("c", 3, "TT", "")),
        ("<DUP>", "END=4", Variant("c", 3, "", "T")),
        ("<DUP:TANDEM>", "SVTYPE=DUP;END=5", Variant("c", 3, "", "TT")),
    ],
)
def test_symbolic_alleles_become_letters(genome, alt, info, expected):
    (allele,) = resolve(genome, 3, "G", alt, info)
    assert (str(allele.fate), allele.variant) == ("scored", expected)
    # Callers write N for the base before them.
    assert resolve(genome, 3, "N", alt, info)[0].variant == expected


@pytest.mark.parametrize(
    "alt, info, fate",
    [
        ("<DEL>", "END=9", "too_long"),
        ("<DEL>", "END=3", "no_sequence"),
        ("<DEL>", "END=8;SVLEN=-3", "no_sequence"),
        ("<DEL>", "END=200", "beyond_contig"),
        ("<DUP:DISPERSED>", "END=5", "no_sequence"),
        ("<CNV>", "END=5", "no_sequence"),
    ],
)
def test_symbolic_alleles_that_are_not(genome, alt, info, fate):
    assert str(resolve(genome, 3, "G", alt, info)[0].fate) == fate


def test_duplications_copy_what_is_behind_pos(genome):
    text = HEAD
    (allele,) = resolve(genome, 9, "G", "<DUP>", "END=12")
    start, copied = allele.variant.start, allele.variant.alt
    assert text[:start] + copied + text[start:] == text[:9] + text[9:12] + text[9:]


def test_lengths_of_several_symbolic_alleles(genome):
    found = resolve(genome, 3, "G", "<DEL>,<DUP>,C", "SVLEN=-1,2,.;END=4")
    assert [allele.variant for allele in found] == [
        Variant("c", 3, "T", ""),
        Variant("c", 3, "", "TT"),
        Variant("c", 2, "G", "C"),
    ]
