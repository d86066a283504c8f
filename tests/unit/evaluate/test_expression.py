import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toys import gff3_row

from umbel.errors import ConfigError, LabelError
from umbel.evaluate.baselines.kmer import Kmer
from umbel.evaluate.expression import read_expression_examples
from umbel.evaluate.scores.definitions import score
from umbel.genome.sequence import decode, revcomp

ROLES = {"c1": "train", "c2": "valid", "c3": "test"}
SPACING, N_GENES = 700, 60
LENGTHS = (64, 128, 256)


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    """Genes on both strands whose expression is written in the 100 bases before their start, on their strand."""
    folder = tmp_path_factory.mktemp("genome")
    rng = np.random.default_rng(0)
    fasta, gff3, table, sites = [], ["##gff-version 3"], ["gene_id\tleaf\troot"], {}
    for contig in (*ROLES, "c4"):
        codes = rng.integers(0, 4, SPACING * (N_GENES + 1)).astype(np.uint8)
        for i in range(N_GENES):
            site = SPACING * (i + 1) - 600 if i == 0 else SPACING * (i + 1)
            strand, name = "+-"[i % 2], f"{contig}G{i}"
            share = rng.uniform(0.1, 0.9)
            signal = rng.choice(4, 100, p=[(1 - share) / 2, share / 2, share / 2, (1 - share) / 2]).astype(np.uint8)
            if strand == "+":
                codes[site - 100 : site] = signal
                span = (site, site + 80)
            else:
                codes[site + 1 : site + 101] = revcomp(signal)
                span = (site - 79, site + 1)
            gff3.append(gff3_row(contig, "gene", *span, strand, f"ID=gene-{name}"))
            gff3.append(gff3_row(contig, "mRNA", *span, strand, f"ID=t{name};Parent=gene-{name}"))
            gff3.append(gff3_row(contig, "exon", *span, strand, f"Parent=t{name}"))
            value = np.isin(signal, (1, 2)).mean()
            table.append(f"{name}\t{np.expm1(3 * value)}\t{np.expm1(2 - value)}")
            sites[name] = (codes, site, strand)
        fasta.append(f">{contig}\n{decode(codes)}\n")
    table.append("nobody\t1\t2")
    (folder / "g.fa").write_text("".join(fasta))
    (folder / "g.gff3").write_text("\n".join(gff3) + "\n")
    (folder / "table.tsv").write_text("\n".join(table) + "\n")
    return folder, sites


def read(genome, table=None, **change):
    folder = genome[0]
    given = {"roles": ROLES, "lengths_bp": LENGTHS} | change
    return read_expression_examples(table or folder / "table.tsv", folder / "g.gff3", folder / "g.fa", **given)


def test_windows_stand_round_the_first_base_on_the_genes_strand(genome):
    found = read(genome)
    for length, by_role in found.examples.items():
        for examples in by_role.values():
            assert examples.task.names == ("leaf", "root")
            for name, window in zip(examples.ids, examples.codes, strict=True):
                codes, site, strand = genome[1][name]
                for i in range(0, length, 7):
                    offset = i - length // 2
                    base = codes[site + offset] if strand == "+" else 3 - codes[site - offset]
                    assert window[i] == base
    # One gene a contig begins 100 bases from its end, and is left out at every length.
    assert {length: len(by_role["test"]) for length, by_role in found.examples.items()} == dict.fromkeys(LENGTHS, 59)
    left_out = {"not_in_gff3": 1, "without_role": 60, "near_end": 3}
    assert found.facts["left_out"] == left_out and found.facts["n_genes"] == dict.fromkeys(
        ("train", "valid", "test"), 59
    )


def test_stretches_of_one_contig_keep_their_windows_apart(genome):
    roles = {"c1:1-20000": "train", "c1:20001-30000": "valid", "c1:30001-42700": "test"}
    found = read(genome, roles=roles)
    for role, (start, end) in (("train", (0, 20_000)), ("valid", (20_000, 30_000)), ("test", (30_000, 42_700))):
        sites = [genome[1][name][1] for name in found.examples[256][role].ids]
        assert sites and all(start + 128 <= site < end - 128 for site in sites)
    assert found.facts["left_out"]["without_role"] == 3 * N_GENES


def test_values_are_logarithms_with_their_rows(genome):
    examples = read(genome).examples[64]["valid"]
    lines = (genome[0] / "table.tsv").read_text().splitlines()[1:]
    for name, row, target in zip(examples.ids, examples.rows, examples.targets, strict=True):
        fields = lines[row - 1].split("\t")
        assert fields[0] == name
        assert target == pytest.approx(np.log1p([float(fields[1]), float(fields[2])]), rel=1e-5)


def test_longer_windows_see_more_of_the_signal(genome):
    found = read(genome, lengths_bp=(16, 200))
    r2 = {}
    for length, examples in found.examples.items():
        scores = Kmer(word_sizes=(1,), stranded=True).fit(examples["train"], examples["valid"]).scores(examples["test"])
        r2[length] = score(examples["test"].task, examples["test"].targets, scores)["r2"]
    assert r2[200] > 0.7 > r2[16]


def test_csv_and_parquet_say_the_same(genome, tmp_path):
    plain = read(genome).examples[64]["test"].content_hash()
    rows = [line.split("\t") for line in (genome[0] / "table.tsv").read_text().splitlines()]
    (tmp_path / "t.csv").write_text("\n".join(",".join(row) for row in rows) + "\n")
    columns = list(zip(*rows[1:], strict=True))
    values = {"gene": list(columns[0]), "leaf": np.array(columns[1], float), "root": np.array(columns[2], float)}
    pq.write_table(pa.table(values), tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        assert read(genome, tmp_path / name).examples[64]["test"].content_hash() == plain


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("gene\tleaf\nc1G1\t1\nc1G1\t2\n", "line 2: gene 'c1G1' was already in row 1"),
        ("gene\tleaf\nc1G1\t1\nc1G2\t-0.5\n", "line 2: column 'leaf' has -0.5: expression is a number from 0 on"),
        ("gene\tleaf\nc1G1\t1\nc1G2\t\n", "line 2: column 'leaf' has None"),
        ("gene\tleaf\nc1G1\t1\nc1G2\thigh\n", "line 2: column 'leaf' has 'high', which is no number"),
        ("gene\tleaf\n\t1\n", "line 1: column 'gene' is empty"),
        ("gene\nc1G1\n", "a column of values for each tissue"),
        ("gene\tleaf\nx\t1\ny\t1\n", r"none of its genes \(x, y\) is in the GFF3 \(gene-c1G0"),
        ("gene\tleaf\nc1G1\t1\t2\n", "no table that can be read"),
    ],
)
def test_broken_tables_are_refused_with_their_row(genome, text, refusal, tmp_path):
    path = tmp_path / "bad.tsv"
    path.write_text(text)
    with pytest.raises(LabelError, match=refusal):
        read(genome, path)


def test_what_cannot_be_cut_is_refused(genome, tmp_path):
    with pytest.raises(ConfigError, match=r"lengths of windows are \[64, 33\]: give even numbers"):
        read(genome, lengths_bp=(64, 33))
    path = tmp_path / "few.tsv"
    path.write_text("gene\tleaf\nc1G1\t1\n")
    with pytest.raises(ConfigError, match=r"no gene of .*few.tsv can be used for valid"):
        read(genome, path)
    with pytest.raises(LabelError, match=r"none.tsv: cannot be read"):
        read(genome, tmp_path / "none.tsv")


def test_a_suite_has_a_dataset_for_every_length_and_the_same_genes(genome, tmp_path):
    from umbel.evaluate.genome_suites import expression_suite
    from umbel.evaluate.suites import read_dataset

    folder, out = genome[0], tmp_path / "suite"
    suite, facts = expression_suite(
        out, folder / "table.tsv", folder / "g.gff3", folder / "g.fa", ROLES, lengths_bp=LENGTHS
    )
    assert [dataset.name for dataset in suite.datasets] == [f"expression_{length}" for length in LENGTHS]
    assert facts["n_genes"]["test"] == 59
    expected = read(genome).examples
    for length in LENGTHS:
        found = read_dataset(suite, f"expression_{length}", out)["dev"]
        assert found.task.names == ("leaf", "root")
        np.testing.assert_array_equal(found.targets, expected[length]["valid"].targets)
        assert all((a == b).all() for a, b in zip(found.codes, expected[length]["valid"].codes, strict=True))
