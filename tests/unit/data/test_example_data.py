"""The shipped data are what PROVENANCE.md says, and their coordinates are right by the biology in them."""

import gzip
import hashlib
import re
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from umbel.config import CorpusConfig
from umbel.data.corpus.build import build_corpus
from umbel.genome.annotation import REGIONS
from umbel.genome.fasta import read_fasta
from umbel.genome.sequence import decode, revcomp

FOLDER = Path(__file__).parents[3] / "examples/data"
SPECIES = ("thaliana", "arenosa")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return build_corpus(
        FOLDER / "manifest.toml", tmp_path_factory.mktemp("example") / "corpus", CorpusConfig(window_bp=512)
    )


def transcripts(species, kind):
    """(contig, strand, parent) to the sorted spans of its rows of ``kind``, read without our reader."""
    spans = defaultdict(list)
    with gzip.open(FOLDER / f"{species}.gff3.gz", "rt") as handle:
        for line in handle:
            fields = line.rstrip("\n").split("\t")
            parent = re.search(r"Parent=(rna-[^;]+)", fields[-1])
            if len(fields) == 9 and fields[2] == kind and parent:
                spans[fields[0], fields[6], parent[1]].append((int(fields[3]) - 1, int(fields[4])))
    return {key: sorted(found) for key, found in spans.items()}


def sequences(species):
    return {record.name: record.codes for record in read_fasta(FOLDER / f"{species}.fa.gz")}


def spliced(codes, strand):
    return decode(revcomp(codes) if strand == "-" else codes)


@pytest.mark.parametrize("species", SPECIES)
def test_introns_are_gt_ag(species):
    codes_of = sequences(species)
    introns = set()
    for (contig, strand, _), exons in transcripts(species, "exon").items():
        introns |= {(contig, strand, left[1], right[0]) for left, right in pairwise(exons)}
    ends = Counter()
    for contig, strand, start, end in introns:
        text = spliced(codes_of[contig][start:end], strand)
        ends[text[:2] + text[-2:]] += 1
    assert len(introns) > 900
    assert ends["GTAG"] / len(introns) > 0.98


@pytest.mark.parametrize("species", SPECIES)
def test_coding_sequences_begin_with_atg_and_end_with_stop(species):
    codes_of = sequences(species)
    found = transcripts(species, "CDS")
    texts = [
        spliced(np.concatenate([codes_of[contig][start:end] for start, end in parts]), strand)
        for (contig, strand, _), parts in found.items()
    ]
    assert len(texts) > 200
    assert np.mean([text.startswith("ATG") for text in texts]) > 0.99
    assert np.mean([text.endswith(("TAA", "TAG", "TGA")) for text in texts]) > 0.99
    assert np.mean([len(text) % 3 == 0 for text in texts]) > 0.99


def test_the_manifest_builds(corpus):
    totals = corpus.facts["totals"]
    assert {role: totals[role]["n_bases"] for role in ("train", "valid", "test", "none")} == {
        "train": 1_993_000 + 1_004_000,
        "valid": 254_000,
        "test": 500_000,
        "none": 0,
    }
    assert all(totals[role]["letters"] == {} for role in totals)
    assert all(not facts["annotation"]["unknown_contigs"] for facts in corpus.facts["assemblies"])
    for facts in corpus.facts["assemblies"]:
        assert facts["licence"] and facts["source"]


def test_contig_names_say_how_long_they_are(corpus):
    for contig in corpus.contigs():
        first, last = contig.contig.rpartition(":")[2].split("-")
        assert contig.length == int(last) - int(first) + 1


def test_every_role_has_every_region_and_repeats(corpus):
    for role in ("train", "valid", "test"):
        for contig in corpus.contigs(role):
            shares = (
                np.bincount(corpus.regions(contig.assembly, contig.contig, 0, contig.length), minlength=len(REGIONS))
                / contig.length
            )
            named = dict(zip(REGIONS, shares, strict=True))
            assert all(named[region] > 0.02 for region in ("intergenic", "intron", "cds"))
            assert 0.1 < corpus.read(contig.assembly, contig.contig, 0, contig.length)[1].mean() < 0.3


def test_checksums_of_the_provenance_page_are_those_on_disk():
    page = (FOLDER / "PROVENANCE.md").read_text()
    rows = dict(re.findall(r"^\| `([\w.]+)` \|.*`([0-9a-f]{64})` \|$", page, flags=re.MULTILINE))
    data = {path.name for path in FOLDER.iterdir() if path.suffix not in (".md", ".py")}
    assert set(rows) == data
    for name, digest in rows.items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest, name


def test_no_31_mer_to_speak_of_is_shared_between_train_and_held_out_pieces(corpus):
    def kmers(contig):
        codes, _ = corpus.read(contig.assembly, contig.contig, 0, contig.length)
        strands = []
        for read in (codes, revcomp(codes)):
            # 31 = 1 + 2 + 4 + 8 + 16: k-mers of doubled length are two neighbours.
            doubled = read.astype(np.uint64)
            whole = np.zeros(len(read) + 1, np.uint64)
            for k in (1, 2, 4, 8, 16):
                whole = (whole[: len(whole) - k] << np.uint64(2 * k)) | doubled[k - 1 :][: len(whole) - k]
                doubled = (doubled[:-k] << np.uint64(2 * k)) | doubled[k:]
            strands.append(whole)
        # The k-mer at p of one strand is the one at the mirrored place of the other; the smaller names both.
        return np.minimum(strands[0], strands[1][::-1])

    train = np.sort(np.concatenate([kmers(contig) for contig in corpus.contigs("train")]))
    for role in ("valid", "test"):
        for contig in corpus.contigs(role):
            held_out = np.sort(kmers(contig))
            found = np.minimum(np.searchsorted(train, held_out), len(train) - 1)
            # PROVENANCE.md tells 0.007 % and 0.018 %.
            assert np.mean(train[found] == held_out) < 0.0002


def test_the_example_stays_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 2_000_000


@pytest.mark.parametrize(("name", "n"), [("splice_donors", 600), ("splice_donors_napus", 300)])
def test_splice_donors_are_half_donors_and_all_have_a_gt_in_the_middle(name, n):
    from umbel.data.labelled.reading import read_labelled

    reading = read_labelled(FOLDER / f"{name}.csv")
    examples = reading.examples
    assert examples.task.names == ("donor", "other") and np.bincount(examples.targets).tolist() == [n // 2, n // 2]
    letters = [decode(codes) for codes in examples.codes]
    assert all(len(text) == 120 and text[60:62] == "GT" for text in letters)
    # The donor consensus AG|GTA: what stands before the GT, and after it.
    for place, letter in ((58, "A"), (59, "G"), (62, "A")):
        share = [
            np.mean([t[place] == letter for t, y in zip(letters, examples.targets, strict=True) if y == k])
            for k in (0, 1)
        ]
        assert share[0] > 0.55 > 0.4 > share[1]
