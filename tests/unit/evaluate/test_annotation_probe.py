import numpy as np
import pytest
from toys import gff3_row

from umbel.errors import AnnotationError, ConfigError
from umbel.evaluate.annotation_probe import TASK, read_annotated_windows
from umbel.evaluate.baselines.kmer import Kmer
from umbel.evaluate.scores.definitions import score
from umbel.genome.sequence import decode

ROLES = {"c1": "train", "c2": "valid", "c3": "test"}
N_GENES = 14
MIXES = {
    "exon": (0.1, 0.4, 0.4, 0.1),
    "intron": (0.3, 0.1, 0.1, 0.5),
    "promoter": (0.4, 0.3, 0.1, 0.2),
    "te": (0.2, 0.1, 0.6, 0.1),
    "intergenic": (0.25, 0.25, 0.25, 0.25),
}
# Bases of a unit: intergenic, transposon, promoter, exon, intron, exon; every second one is on the other strand.
PARTS = (("intergenic", 700), ("te", 500), ("promoter", 1000), ("exon", 300), ("intron", 500), ("exon", 300))


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    """Contigs of genes on both strands, and the class of every base as it was planted."""
    folder = tmp_path_factory.mktemp("genome")
    rng = np.random.default_rng(0)
    fasta, gff3, bed, truth = [], ["##gff-version 3"], [], {}
    for contig in ("c1", "c2", "c3", "unused"):
        classes = []
        for i in range(N_GENES):
            # Turned round, a promoter of the other strand would lie behind the next intergenic stretch.
            parts = PARTS if i % 2 == 0 else (PARTS[0], *PARTS[3:], PARTS[2], PARTS[1])
            at = len(classes)
            exons = []
            for name, n in parts:
                start, end = len(classes), len(classes) + n
                classes += [name] * n
                if name == "te":
                    bed.append(f"{contig}\t{start}\t{end}")
                exons += [(start, end)] if name == "exon" else []
            strand, gene = "+-"[i % 2], f"{contig}g{i}"
            start, end = exons[0][0], exons[-1][1]
            gff3.append(gff3_row(contig, "gene", start, end, strand, f"ID={gene}"))
            gff3.append(gff3_row(contig, "mRNA", start, end, strand, f"ID={gene}t;Parent={gene}"))
            gff3 += [gff3_row(contig, "exon", *exon, strand, f"Parent={gene}t") for exon in exons]
            assert at < start
        classes += ["intergenic"] * 700
        codes = np.array([rng.choice(4, p=MIXES[name]) for name in classes], np.uint8)
        fasta.append(f">{contig}\n{decode(codes)}\n")
        truth[contig] = (codes, classes)
    (folder / "g.fa").write_text("".join(fasta))
    (folder / "g.gff3").write_text("\n".join(gff3) + "\n")
    (folder / "te.bed").write_text("\n".join(bed) + "\n")
    return folder, truth


def read(genome, **change):
    folder, _ = genome
    given = {"roles": ROLES, "probe_bp": 50} | change
    return read_annotated_windows(folder / "g.fa", folder / "g.gff3", folder / "te.bed", **given)


def test_windows_are_of_the_planted_class(genome):
    found = read(genome)
    for contig, role in ROLES.items():
        codes, classes = genome[1][contig]
        expected = []
        for start in range(0, len(classes) - 49, 50):
            for label, name in enumerate(TASK.names):
                if classes[start : start + 50].count(name) >= 45:
                    expected.append((f"{contig}:{start + 1}-{start + 50}", label))
        examples = found.examples[role]
        assert list(zip(examples.ids, examples.targets.tolist(), strict=True)) == expected
        starts = [int(name.split(":")[1].split("-")[0]) - 1 for name in examples.ids]
        for start, window in zip(starts, examples.codes, strict=True):
            np.testing.assert_array_equal(window, codes[start : start + 50])
    assert found.facts["class_counts"]["test"]["promoter"] == 20 * N_GENES
    assert found.facts["transposons_on_other_contigs"] == {"unused": N_GENES}


def test_at_most_n_of_a_class_and_the_same_each_time(genome):
    found, again, other = (read(genome, n_per_class=20, seed=seed) for seed in (1, 1, 2))
    assert set(found.facts["class_counts"]["train"].values()) == {20}
    assert found.examples["test"].content_hash() == again.examples["test"].content_hash()
    assert found.examples["test"].content_hash() != other.examples["test"].content_hash()


def test_rows_of_a_benchmark_find_the_classes(genome):
    examples = read(genome, n_per_class=80).examples
    for row, least in ((Kmer(word_sizes=(1, 2)), 0.4), (Kmer(word_sizes=(1,), name="gc"), 0.2)):
        scores = row.fit(examples["train"], examples["valid"]).scores(examples["test"])
        assert score(TASK, examples["test"].targets, scores)["mcc"] > least


def test_bases_of_exon_and_transposon_have_no_class(genome, tmp_path):
    folder, (_, classes) = genome[0], genome[1]["c1"]
    everywhere = tmp_path / "te.bed"
    everywhere.write_text("".join(f"{contig}\t0\t{len(classes)}\n" for contig in ROLES))
    with pytest.raises(AnnotationError, match="have only 0 exon and 0 intergenic and 0 intron and 0 promoter windows"):
        read_annotated_windows(folder / "g.fa", folder / "g.gff3", everywhere, ROLES, probe_bp=50)


def test_stretches_of_one_contig_are_whole_contigs_cut(genome):
    roles = {"c1:1-20000": "train", "c1:20026-40000": "valid", "c1:40001-46000": "test"}
    found = read(genome, roles=roles).examples
    _, classes = genome[1]["c1"]
    for role, first in (("train", 0), ("valid", 20_025), ("test", 40_000)):
        for name, label in zip(found[role].ids, found[role].targets, strict=True):
            start, end = (int(place) for place in name.split(":")[1].split("-"))
            assert (start - 1 - first) % 50 == 0
            assert classes[start - 1 : end].count(TASK.names[label]) >= 45


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"roles": {"c1:1-900": "train", "c1:900-999": "valid", "c2": "test"}}, r"c1:1-900 and c1:900-999 overlap"),
        ({"roles": ROLES | {"c3:1-9999999": "test"}}, "c3:1-9999999 ends beyond contig 'c3' of"),
        ({"roles": ROLES | {"c9:1-9": "test"}}, "has no contig 'c9'"),
        ({"roles": {"c1": "train", "c2": "valid"}}, "no contig has the role 'test'"),
        ({"roles": ROLES | {"c3": "dev"}}, "contig 'c3' has the role 'dev': use train, valid, test"),
        ({"roles": ROLES | {"c9": "test"}}, "has no contig 'c9'; there are: c1, c2, c3 and 1 more"),
        ({"probe_bp": 0}, "probe_bp is 0"),
    ],
)
def test_wrong_settings_are_refused(genome, change, text):
    with pytest.raises(ConfigError, match=text):
        read(genome, **change)


def test_too_few_windows_are_said_in_words(genome):
    with pytest.raises(
        AnnotationError, match=r"train contigs have only 0 exon .* of 400 bp .* at least 90% of one class"
    ):
        read(genome, probe_bp=400)


def test_the_command_writes_a_suite_of_these_windows(genome, tmp_path, monkeypatch, capsys):
    import sys

    from umbel.cli import main
    from umbel.evaluate.suites import load_suite, read_dataset

    folder, out = genome[0], tmp_path / "suite"
    words = ["suite", "annotation", "--fasta", folder / "g.fa", "--gff3", folder / "g.gff3", "--transposons"]
    words += [folder / "te.bed", "--probe-bp", "50", "-o", out]
    roles = [word for contig, role in ROLES.items() for word in ("--role", f"{contig}={role}")]
    monkeypatch.setattr(sys, "argv", ["umbel", *map(str, words), *roles])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0 and "umbel bench CKPT --suite" in capsys.readouterr().out
    expected = read(genome).examples
    found = read_dataset(load_suite(out / "suite.toml"), "annotation", out)
    for split, role in (("train", "train"), ("dev", "valid"), ("test", "test")):
        assert found[split].task == TASK
        np.testing.assert_array_equal(found[split].targets, expected[role].targets)
        assert all((a == b).all() for a, b in zip(found[split].codes, expected[role].codes, strict=True))
    monkeypatch.setattr(sys, "argv", ["umbel", *map(str, words), "--role", "c1"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1 and "--role c1: write NAME=VALUE" in capsys.readouterr().err
