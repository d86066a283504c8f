"""Labellings of repeats, types, intervals, tracks and groups against loops over the rows of their files."""

import numpy as np
import pytest
from toys import fasta_text, gff3_row, toy_sequences

from umbel.errors import AnnotationError, ConfigError, LabelError
from umbel.evaluate.experts.labels.groups import read_groups
from umbel.evaluate.experts.labels.named import bed_labels, repeat_labels, type_labels
from umbel.evaluate.experts.labels.quantiles import quantile_edges, quantile_labels, quantile_names
from umbel.evaluate.experts.labels.soft_mask import SoftMaskLabels
from umbel.evaluate.experts.labels.tracks import Track
from umbel.genome.interval import Interval
from umbel.genome.reference import Reference

LENGTHS = {"c": 400, "d": 60, "bare": 30}


def write(tmp_path, text, name="file.bed"):
    path = tmp_path / name
    path.write_text(text)
    return path


def random_rows(seed, n_kinds, n=60):
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        contig = "c" if i % 4 else "d"
        start = int(rng.integers(0, LENGTHS[contig] - 1))
        # Kinds of different sizes, so that their order is clear.
        kind = int(rng.integers(0, n_kinds))
        rows.append((contig, start, min(start + 1 + kind, LENGTHS[contig]), f"kind{kind}"))
    return rows


def loop_labels(rows, most, other, rest):
    """Class name of every base: kinds painted from the largest to the smallest, the rare ones as one."""
    bases, first = {}, {}
    for i, (_, start, end, kind) in enumerate(rows):
        bases[kind] = bases.get(kind, 0) + end - start
        first.setdefault(kind, i)
    order = sorted(bases, key=lambda kind: (-bases[kind], first[kind]))
    found = {contig: [rest] * length for contig, length in LENGTHS.items()}
    for kind in order:
        for contig, start, end, own in rows:
            if own == kind:
                found[contig][start:end] = [kind if kind in order[:most] else other] * (end - start)
    return found


@pytest.mark.parametrize("n_kinds", [3, 20])
def test_every_base_has_the_class_of_the_rarest_repeat_over_it(tmp_path, n_kinds):
    rows = random_rows(n_kinds, n_kinds)
    path = write(tmp_path, "".join(f"{c}\t{s}\t{e}\t{k}\n" for c, s, e, k in rows))
    labels = repeat_labels(path, LENGTHS)
    names = np.array([*labels.labelling.classes, None])
    for contig, expected in loop_labels(rows, 12, "other repeat", "no repeat").items():
        found = names[labels.labels(contig, 0, LENGTHS[contig])].tolist()
        # A contig without any row was not searched for repeats.
        assert found == (expected if contig != "bare" else [None] * 30)
    assert len(labels.labelling.classes) == (4 if n_kinds == 3 else 14)
    told = " ".join(labels.labelling.facts["notes"])
    assert ("rare classes are put together as 'other repeat'" in told) == (n_kinds == 20)
    assert sum(labels.labelling.facts["features"].values()) == len(rows)


def test_intervals_have_classes_by_name_and_contigs_without_any_are_outside(tmp_path):
    rows = random_rows(1, 2)
    path = write(tmp_path, "".join(f"{c}\t{s}\t{e}\t{k}\n" for c, s, e, k in rows), "open.leaf.bed")
    labels = bed_labels(path, LENGTHS)
    assert labels.labelling.name == "open.leaf"
    names = np.array(labels.labelling.classes)
    for contig, expected in loop_labels(rows, 12, "", "outside").items():
        assert names[labels.labels(contig, 0, LENGTHS[contig])].tolist() == expected


def test_names_of_places_and_no_names_make_one_class(tmp_path):
    named = "".join(f"c\t{10 * i}\t{10 * i + 5}\tgene{i}\n" for i in range(13))
    labels = bed_labels(write(tmp_path, named), LENGTHS)
    assert labels.labelling.classes == ("inside", "outside")
    assert labels.labelling.facts["notes"] == ["file.bed: all 13 names are different, so they are no classes."]
    assert labels.labels("c", 3, 12).tolist() == [0, 0, 1, 1, 1, 1, 1, 0, 0]
    # Twelve may be classes; and a name that is a word of ours stays apart.
    assert len(bed_labels(write(tmp_path, "\n".join(named.splitlines()[:12])), LENGTHS).labelling.classes) == 13
    classes = bed_labels(write(tmp_path, "c\t0\t9\toutside\nc\t20\t30\nc\t30\t33\tinside\n"), LENGTHS).labelling.classes
    assert classes == ("inside without name", "outside", "inside", "outside (none named)")


def test_types_that_are_asked_for_are_classes(tmp_path):
    rows = [
        gff3_row("c", "gene", 0, 100, "+", "ID=a"),
        gff3_row("c", "tRNA", 10, 20, "+", "ID=b"),
        gff3_row("c", "pseudogene", 15, 90, "+", "ID=d"),
        gff3_row("d", "gene", 0, 10, "+", "ID=e"),
    ]
    labels = type_labels(write(tmp_path, "\n".join(rows)), LENGTHS, ("tRNA", "pseudogene"))
    assert labels.labelling.classes == ("pseudogene", "tRNA", "no such feature")
    assert labels.labels("c", 9, 22).tolist() == [2] + [1] * 10 + [0] * 2
    # A contig with other rows has none of them; one without any row is not known.
    assert labels.labels("d", 0, 2).tolist() == [2, 2]
    assert labels.labels("bare", 0, 2).tolist() == [-1, -1]
    with pytest.raises(ConfigError, match="13 types of features: give at most 12"):
        type_labels(tmp_path / "none", LENGTHS, [str(i) for i in range(13)])


def test_lower_case_is_soft_masked(tmp_path):
    sequences = toy_sequences()
    with Reference.open(write(tmp_path, fasta_text(sequences), "a.fa")) as genome:
        labels = SoftMaskLabels(genome)
        for name, letters in sequences.items():
            found = labels.labels(name, 100, 3000)
            assert found.dtype == np.int16
            assert found.tolist() == [0 if letter.islower() else 1 for letter in letters[100:3000]]


def test_quantile_classes_hold_what_sorting_gives_and_ties_stay_together():
    rng = np.random.default_rng(0)
    for values in (rng.normal(size=1000), rng.integers(0, 4, 999).astype(float), np.array([0.0] * 90 + [1, 2, 3])):
        edges = quantile_edges(values, 4)
        labels = quantile_labels(values, edges)
        # As a loop over the sorted values: a class begins at each quarter, unless the value goes on.
        ordered = sorted(values.tolist())
        cuts = sorted({ordered[-(-len(ordered) * i // 4) - 1] for i in (1, 2, 3)} - {ordered[-1]})
        assert edges.tolist() == cuts
        assert labels.tolist() == [sum(value > cut for cut in cuts) for value in values.tolist()]
        # None is empty, and each has a name of its own.
        assert len(set(labels.tolist())) == len(cuts) + 1 == len(set(quantile_names(edges)))
    assert quantile_labels(np.array([np.nan, np.inf, -np.inf]), edges).tolist() == [-1, -1, -1]
    with pytest.raises(ValueError, match="there is no finite value"):
        quantile_edges(np.array([np.nan]), 4)
    with pytest.raises(ValueError, match="n_classes is 1: give at least 2"):
        quantile_edges(np.zeros(3), 1)


@pytest.fixture
def track(tmp_path):
    bigwig = pytest.importorskip("pyBigWig")
    values = np.random.default_rng(2).gamma(1.0, size=400).astype(np.float32)
    values[100:150] = np.nan
    path = tmp_path / "a.bw"
    with bigwig.open(str(path), "w") as file:
        file.addHeader([("c", 400), ("d", 60)])
        known = np.flatnonzero(np.isfinite(values))
        file.addEntries(["c"] * len(known), known.tolist(), ends=(known + 1).tolist(), values=values[known].tolist())
    return path, values


def test_a_track_has_as_many_bases_in_each_class_of_the_stretches_looked_at(track):
    path, values = track
    stretches = [Interval("c", 0, 200), Interval("c", 300, 400), Interval("d", 0, 60)]
    labels = Track("open", path, LENGTHS).fit(stretches)
    seen = np.concatenate((values[:200], values[300:]))
    seen = seen[np.isfinite(seen)]
    assert labels.labelling.facts["edges"] == np.quantile(seen, [0.25, 0.5, 0.75], method="inverted_cdf").tolist()
    found = labels.labels("c", 0, 400)
    assert ((found == -1) == np.isnan(values)).all()
    edges = labels.labelling.facts["edges"]
    expected = [-1 if np.isnan(v) else sum(v > edge for edge in edges) for v in values.tolist()]
    assert found.tolist() == expected
    inside = np.concatenate((found[:200], found[300:]))
    assert np.ptp(np.bincount(inside[inside >= 0])) <= 1
    assert labels.labelling.facts["share_with_value"] == pytest.approx(250 / 360)
    assert (labels.labels("bare", 0, 30) == -1).all()


def test_a_track_that_makes_no_classes_is_refused(tmp_path, track):
    with pytest.raises(AnnotationError, match="it has no value on any of the stretches"):
        Track("open", track[0], LENGTHS).fit([Interval("d", 0, 60)])
    path = write(tmp_path, "c\t0\t9\t2.5\n", "one.bedgraph")
    with pytest.raises(AnnotationError, match=r"it has the value 2\.5 wherever it has one on the stretches"):
        Track("one", path, LENGTHS).fit([Interval("c", 0, 60)])
    path = write(tmp_path, "c\t0\t90\t0\nc\t90\t95\t1\n", "two.bedgraph")
    labelling = Track("two", path, LENGTHS).fit([Interval("c", 0, 100)]).labelling
    assert labelling.classes == ("<= 0", "> 0")
    assert labelling.facts["notes"] == ["two.bedgraph: many values are equal, so there are 2 classes."]


def test_groups_of_contigs_are_read_column_by_column(tmp_path):
    text = "contig\tspecies\tsubgenome\nc\tx\tA\nd\ty\tNA\nelsewhere\tz\tB\n"
    species, subgenome = read_groups(write(tmp_path, text), LENGTHS)
    assert (species.labelling.classes, subgenome.labelling.classes) == (("x", "y"), ("A",))
    assert [species.class_of(contig) for contig in LENGTHS] == [0, 1, -1]
    assert [subgenome.class_of(contig) for contig in LENGTHS] == [0, -1, -1]
    assert species.labelling.level == "sequence"
    assert species.labelling.facts["notes"] == ["file.bed: contigs that are not in the genome: elsewhere."]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name\tspecies\nc\tx\n", "line 1: the header is 'name', 'species': it must name the column 'contig'"),
        ("contig\nc\n", "line 1: the header is 'contig': it must name"),
        ("contig\ta\ta\nc\tx\ty\n", "line 1: column 'a' has no name of its own"),
        ("contig\ta\nc x\n", "line 2: the header names 2 columns, this line has 1"),
        ("contig\ta\nc\tx\nc\ty\n", "line 3: contig 'c' is in line 2 already"),
        ("contig\ta\tb\nc\tx\t\n", "column 'b' has no class for any contig"),
        ("contig\ta\n", "the table has no rows"),
    ],
)
def test_a_table_of_groups_that_is_wrong_is_refused(tmp_path, text, message):
    with pytest.raises(LabelError, match=message):
        read_groups(write(tmp_path, text), LENGTHS)


def test_groups_of_other_contigs_are_refused_with_three_names_of_each(tmp_path):
    path = write(tmp_path, "contig\ta\n" + "".join(f"chr{i}\tx\n" for i in range(4)))
    with pytest.raises(AnnotationError, match=r"\(chr0, chr1, chr2 and 1 more\) is in the genome \(c, d, bare\)"):
        read_groups(path, LENGTHS)
