"""Stretches of a genome: what is chosen, that contents and labels are those of the files, and what is refused."""

import json
from collections import Counter
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from toys import NAMES, fasta_text, toy_gff3, toy_sequences

from umbel.errors import AnnotationError, ConfigError, FastaError
from umbel.evaluate.experts.source import Source
from umbel.evaluate.experts.sources.choosing import choose_stretches
from umbel.evaluate.experts.sources.joined import JoinedSource
from umbel.evaluate.experts.sources.making import genome_source
from umbel.files import sha256_file
from umbel.genome.interval import Interval
from umbel.genome.reference import Reference
from umbel.genome.sequence import encode

EXAMPLES = Path(__file__).parents[4] / "examples" / "data"


@pytest.fixture
def files(tmp_path):
    sequences = toy_sequences()
    paths = {name: tmp_path / name for name in ("a.fa", "a.gff3", "peaks.bed", "groups.tsv", "gc.bedgraph")}
    paths["a.fa"].write_text(fasta_text(sequences))
    paths["a.gff3"].write_text(toy_gff3())
    paths["peaks.bed"].write_text(f"{NAMES[0]}\t100\t900\topen\n{NAMES[1]}\t0\t500\tshut\n")
    paths["groups.tsv"].write_text(
        "contig\tspecies\n" + "".join(f"{name}\t{'xyxy'[i]}\n" for i, name in enumerate(NAMES))
    )
    paths["gc.bedgraph"].write_text("".join(f"{NAMES[0]}\t{i}\t{i + 3}\t{i % 7}\n" for i in range(0, 6000, 3)))
    return {**paths, "sequences": sequences}


@pytest.fixture
def opened():
    """Open genomes that are closed when the test ends, and not only when nobody needs them any more."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(genome_source(*args, **options))


@pytest.fixture
def make(files, opened):
    return partial(_make, files, opened)


def _make(files, opened, **options):
    options = {"n_stretches": 0, "stretch_bp": 1000, **options}
    return opened(
        files["a.fa"],
        files["a.gff3"],
        features=("lnc_RNA",),
        beds=[files["peaks.bed"]],
        tracks={"gc": files["gc.bedgraph"]},
        groups=files["groups.tsv"],
        **options,
    )


def test_all_stretches_together_are_the_genome_and_its_labels(files, make):
    source: Source = make()
    assert [labelling.name for labelling in source.labellings] == [
        "region", "codon position", "site", "strand", "feature", "repeat", "peaks", "gc", "species",
    ]  # fmt: skip
    read = [source.stretch(i) for i in range(len(source))]
    counts = {labelling.name: Counter() for labelling in source.labellings}
    for name, letters in files["sequences"].items():
        own = [stretch for stretch in read if stretch.name == name]
        assert [stretch.start for stretch in own] == list(range(0, len(letters), 1000))
        codes = encode(letters.encode())[0]
        np.testing.assert_array_equal(np.concatenate([stretch.content for stretch in own]), codes)
        soft = np.concatenate([stretch.labels["repeat"] for stretch in own])
        assert soft.tolist() == [0 if letter.islower() else 1 for letter in letters]
        for labelling in source.labellings:
            if labelling.level == "base":
                labels = np.concatenate([stretch.labels[labelling.name] for stretch in own])
                assert labels.dtype == np.int16
                assert labels.shape == codes.shape
                # Bases that are N count for nothing.
                counts[labelling.name].update(labels[codes < 4].tolist())
            else:
                counts[labelling.name].update(stretch.classes[labelling.name] for stretch in own)
    for labelling in source.labellings:
        told = source.facts["class_counts"][labelling.name]
        named = {[*labelling.classes, "none"][number]: n for number, n in counts[labelling.name].items()}
        assert {name: n for name, n in told.items() if n} == named
        assert set(told) == {*labelling.classes, "none"}
    assert source.facts["n_bases"] == sum(counts["repeat"].values())


def test_units_are_stretches_and_have_one_class_each(make):
    source = make()
    assert source.n_units == len(source) == 27
    joined = make(max_units=5)
    of_unit = {}
    for i in range(len(joined)):
        of_unit.setdefault(joined.stretch(i).unit, set()).add(joined.stretch(i).classes["species"])
    assert sorted(of_unit) == list(range(5)) == list(range(joined.n_units))
    assert all(len(classes) == 1 for classes in of_unit.values())
    assert (source.facts["unit"], joined.facts["unit"]) == ("stretch", "neighbouring stretches")


def test_the_seed_alone_decides_and_every_stretch_is_as_in_the_whole(make):
    places = [[(s.contig, s.start) for s in make(n_stretches=6, seed=seed).stretches] for seed in (1, 1, 2)]
    assert places[0] == places[1] != places[2]
    assert len(set(places[0])) == 6
    some, whole = make(n_stretches=6, seed=1), make()
    at = {(whole.stretch(i).name, whole.stretch(i).start): i for i in range(len(whole))}
    for i in (3, 0, 5):
        one = some.stretch(i)
        same = whole.stretch(at[one.name, one.start])
        np.testing.assert_array_equal(one.content, same.content)
        for name in set(one.labels) - {"gc"}:
            np.testing.assert_array_equal(one.labels[name], same.labels[name])


def test_stretches_are_spread_over_bases_and_not_over_contigs():
    # A long contig, and as many bases in contigs of a hundredth of it.
    regions = [Interval("long", 0, 100_000), *(Interval(f"s{i}", 0, 1000) for i in range(100))]
    starts = []
    for seed in range(50):
        chosen = choose_stretches(regions, 1000, 20, seed, lambda place: 1.0).stretches
        assert len(set(chosen)) == 20
        assert sum(place.contig == "long" for place in chosen) == 10
        starts += [place.start for place in chosen if place.contig == "long"]
        for i, place in enumerate(place for place in chosen if place.contig == "long"):
            assert place.start // 10_000 == i
    # Every stretch of a block is as likely as the others.
    assert np.histogram([start % 10_000 for start in starts], 10)[0].min() > 25


def test_stretches_poor_in_acgt_are_passed_over_and_told(tmp_path):
    path = tmp_path / "n.fa"
    path.write_text(">a\n" + "N" * 900 + "ac" * 50 + "\n>b\n" + "N" * 60 + "ACGT" * 10 + "\n>n\n" + "N" * 300 + "\n")
    with genome_source(path, stretch_bp=100, n_stretches=4) as source:
        assert [(place.contig, place.start) for place in source.stretches] == [("a", 900)]
        assert "4 stretches were asked for, and there are 1 to choose." in source.facts["notes"]
        assert "13 stretches with less than half A, C, G and T were passed over." in source.facts["notes"][-1]
    with genome_source(path, stretch_bp=100, n_stretches=0) as source:
        assert len(source) == 2
        assert source.facts["notes"][-1] == "12 stretches without any A, C, G and T were passed over."
    with pytest.raises(FastaError, match="none of 3 stretches of 100 bases holds enough A, C, G and T"):
        genome_source(path, stretch_bp=100, contigs=["n"])


def test_labellings_of_one_class_are_left_out_and_told(tmp_path):
    path = tmp_path / "u.fa"
    path.write_text(">a\n" + "ACGT" * 100 + "\n>b\n" + "GATC" * 100 + "\n")
    groups = tmp_path / "g.tsv"
    groups.write_text("contig\tkind\tother\na\tx\tp\nb\tx\tq\n")
    with genome_source(path, groups=groups, stretch_bp=100) as source:
        assert [labelling.name for labelling in source.labellings] == ["other"]
        assert source.facts["left_out"] == {
            "repeat": "of its classes only 'not masked' has bases here",
            "kind": "of its classes only 'x' has stretches here",
        }
        assert (
            "Labelling 'repeat' is left out: of its classes only 'not masked' has bases here." in source.facts["notes"]
        )
        assert source.stretch(0).labels == {}
        assert source.stretch(0).classes == {"other": 0}


def test_like_stretches_are_counted_once(tmp_path):
    rng = np.random.default_rng(0)
    one, two, three = ("".join(rng.choice(list("ACGT"), 1000)) for _ in range(3))
    path = tmp_path / "copies.fa"
    path.write_text(f">a\n{one}{two}\n>b\n{one}{three}\n")
    with genome_source(path, stretch_bp=1000, n_stretches=0) as source:
        assert source.facts["n_clusters"] == 3
        assert source.facts["effective_clusters"] == pytest.approx(4000**2 / (2000**2 + 2 * 1000**2))
        assert source.n_units == 4


def test_contigs_and_regions_bound_the_stretches(files, make, opened, tmp_path):
    assert {place.contig for place in make(contigs=NAMES[:2]).stretches} == set(NAMES[:2])
    regions = tmp_path / "r.bed"
    regions.write_text(f"{NAMES[1]}\t50\t300\n{NAMES[1]}\t250\t700\n{NAMES[0]}\t0\t10\n")
    source = opened(files["a.fa"], regions=regions, stretch_bp=400, n_stretches=0)
    assert [str(place) for place in source.stretches] == [
        f"{NAMES[0]}:1-10",
        f"{NAMES[1]}:51-450",
        f"{NAMES[1]}:451-700",
    ]
    assert source.facts["regions"]["sha256"] == sha256_file(regions)
    with pytest.raises(ConfigError, match="no region is on the contigs that were named"):
        genome_source(files["a.fa"], regions=regions, contigs=[NAMES[2]])
    with pytest.raises(
        ConfigError, match=r"contig 'chr9' is not in a\.fa, which has chr1\|toy, scaffold:7_A, lcl\.3-b and 1"
    ):
        genome_source(files["a.fa"], contigs=["chr9"])
    with pytest.raises(ConfigError, match=r"region chr9:1-5 is not in a\.fa"):
        genome_source(files["a.fa"], regions=[Interval("chr9", 0, 5)])


def test_facts_are_json_and_name_the_files_by_hash(files, make):
    facts = json.loads(json.dumps(make().facts))
    assert facts["genome"] == {"name": "a.fa", "sha256": sha256_file(files["a.fa"])}
    assert facts["labellings"]["region"]["files"] == [{"name": "a.gff3", "sha256": sha256_file(files["a.gff3"])}]
    assert facts["labellings"]["gc"]["files"][0]["sha256"] == sha256_file(files["gc.bedgraph"])
    assert f"a.gff3: 1 contigs have no row, and no classes of genes ({NAMES[3]})." in facts["notes"]


def test_what_cannot_be_is_refused(files, tmp_path):
    with pytest.raises(ConfigError, match="features of type tRNA are asked for: give the GFF3 file that has them"):
        genome_source(files["a.fa"], features=("tRNA",))
    with pytest.raises(ConfigError, match="stretch_bp is 0, n_stretches 32 and max_units 400: give at least 1 base"):
        genome_source(files["a.fa"], stretch_bp=0)
    with pytest.raises(ConfigError, match="two labellings are named 'repeat': give one of them another name"):
        genome_source(files["a.fa"], tracks={"repeat": files["gc.bedgraph"]})
    other = tmp_path / "other.gff3"
    other.write_text(toy_gff3().replace(NAMES[0], "1").replace(NAMES[1], "2").replace(NAMES[2], "3"))
    with pytest.raises(AnnotationError, match=r"none of its contigs \(1, 2, 3\) is in the FASTA \(chr1\|toy"):
        genome_source(files["a.fa"], other)


def test_several_genomes_are_one_source_with_the_classes_of_all(files, opened, tmp_path):
    second = tmp_path / "b.fa"
    second.write_text(fasta_text(toy_sequences(1)))
    bed = {name: tmp_path / name / "peaks.bed" for name in ("one", "two")}
    for name, rows in {"one": "open", "two": "half\n" + f"{NAMES[1]}\t0\t9\topen"}.items():
        bed[name].parent.mkdir()
        bed[name].write_text(f"{NAMES[0]}\t100\t900\t{rows}\n")
    options = {"stretch_bp": 2000, "n_stretches": 0, "max_units": 200}
    one = opened(files["a.fa"], files["a.gff3"], beds=[bed["one"]], **options)
    two = opened(second, beds=[bed["two"]], **options)
    source: Source = JoinedSource({"one": one, "two": two})
    assert source.labellings[-1].classes == ("one", "two")
    peaks = next(labelling for labelling in source.labellings if labelling.name == "peaks")
    assert peaks.classes == ("open", "outside", "half")
    assert len(source) == len(one) + len(two)
    assert source.n_units == one.n_units + two.n_units
    units = Counter()
    for i in range(len(source)):
        own, which = (one, i) if i < len(one) else (two, i - len(one))
        told, joined = own.stretch(which), source.stretch(i)
        np.testing.assert_array_equal(joined.content, told.content)
        assert joined.name == f"{('one', 'two')[i >= len(one)]}:{told.name}"
        assert joined.classes["genome"] == int(i >= len(one))
        units[joined.unit] += 1
        mine = next(labelling for labelling in own.labellings if labelling.name == "peaks").classes
        assert [peaks.classes[c] for c in joined.labels["peaks"]] == [mine[c] for c in told.labels["peaks"]]
        assert (joined.labels["region"] == (told.labels["region"] if own is one else -1)).all()
    assert sorted(units) == list(range(source.n_units))
    with pytest.raises(ConfigError, match="several genomes are joined: give at least two"):
        JoinedSource({"one": one})
    many = opened(files["a.fa"], stretch_bp=60, n_stretches=0)
    with pytest.raises(ConfigError, match=r"the genomes have 415 units together, .* build each with max_units=200"):
        JoinedSource({"a": many, "b": one})
    source.close()


def test_a_real_genome_gives_its_labels_where_asked():
    with genome_source(
        EXAMPLES / "thaliana.fa.gz", EXAMPLES / "thaliana.gff3.gz", features=("tRNA", "pseudogene"), n_stretches=8
    ) as source:
        assert len(source) == 8
        assert source.facts["labellings"]["region"]["n_transcripts"] == 1683
        words = Counter()
        for i in range(len(source)):
            stretch = source.stretch(i)
            codons, sites = stretch.labels["codon position"], stretch.labels["site"]
            at = np.flatnonzero((sites[:-2] == 2) & (codons[:-2] == 0) & (sites[2:] == 2))
            for place in at.tolist():
                words["".join("ACGTN"[base] for base in stretch.content[place : place + 3])] += 1
        # One gene of these begins with GTG.
        assert words["ATG"] > 40
        assert words.total() - words["ATG"] <= 1
        with Reference.open(EXAMPLES / "thaliana.fa.gz") as genome:
            place = source.stretches[5]
            np.testing.assert_array_equal(source.stretch(5).content, genome.fetch(place.contig, place.start, place.end))
