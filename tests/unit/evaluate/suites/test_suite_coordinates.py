"""Genomic Benchmarks and LRB: sequences that are cut from a genome, beside slices of the text it was written from."""

import gzip
import io

import numpy as np
import pytest

from umbel.errors import ConfigError, LabelError
from umbel.evaluate.suites import load_suite, read_dataset
from umbel.evaluate.suites.long_range import shard_names
from umbel.genome.sequence import decode
from umbel.progress import Reporter

GB, LRB = load_suite("genomic_benchmarks"), load_suite("lrb")
PAIRS = str.maketrans("ACGTN", "TGCAN")


def random_text(seed, n):
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), n))


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


def letters(examples):
    return [decode(codes) for codes in examples.codes]


def write_sequences(folder, split, order):
    for name in order:
        for i, text in enumerate(["AC", "GT"] if name == "negative" else ["TTA"]):
            write(folder / split / name / f"{i}.txt", text)


@pytest.mark.parametrize("order", [("negative", "positive"), ("positive", "negative")])
def test_classes_never_depend_on_the_order_of_folders(tmp_path, order, monkeypatch):
    """Folders are listed as the disk likes; here, in both orders, and another one in each split."""
    from pathlib import Path

    folder = tmp_path / "human_nontata_promoters"
    write_sequences(folder, "train", order)
    write_sequences(folder, "test", tuple(reversed(order)))
    real = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: iter(sorted(real(self), reverse=order[0] == "positive")))
    read = read_dataset(GB, "human_nontata_promoters", tmp_path)
    for split in ("train", "test"):
        part = read[split]
        assert part.task.names == ("negative", "positive")
        assert (letters(part), part.targets.tolist()) == (["AC", "GT", "TTA"], [0, 0, 1])
        assert part.ids == ("negative/0", "negative/1", "positive/0") and part.rows.tolist() == [1, 2, 3]


def test_coordinates_of_classes(tmp_path):
    """0-based and half-open; the minus strand is the reverse complement; names with and without chr and version."""
    chromosome, transcript = random_text(0, 60), random_text(1, 40)
    write(tmp_path / "genomes/GRCh38.fa.gz", f">7 dna\n{chromosome}\n>X\nAC\n")
    write(tmp_path / "genomes/GRCh38_cdna.fa", f">ENST00000371014.5 cdna\n{transcript[:20]}\n{transcript[20:]}\n")
    folder = tmp_path / "demo_coding_vs_intergenomic_seqs"
    for split in ("train", "test"):
        write(folder / split / "coding_seqs.csv.gz", "id,region,start,end,strand\n3,ENST00000371014,5,15,+\n")
        write(folder / split / "intergenomic_seqs.csv.gz", "id,region,start,end,strand\n1,chr7,50,60,-\n2,chr7,0,4,+\n")
    read = read_dataset(GB, "demo_coding_vs_intergenomic_seqs", tmp_path)["test"]
    assert letters(read) == [transcript[5:15], chromosome[50:60].translate(PAIRS)[::-1], chromosome[0:4]]
    assert read.targets.tolist() == [0, 1, 1]
    assert read.ids == ("coding_seqs/3", "intergenomic_seqs/1", "intergenomic_seqs/2")


HEAD = "id,region,start,end,strand\n"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("1,chr7,5,99,+\n", r"positive.csv, line 2: 5 to 99 is not inside chr7, of 20 bases"),
        ("1,chr8,5,9,+\n", r"positive.csv, line 2: GRCh38.fa has no contig 'chr8'. Is it GRCh38\?"),
        ("1,chr7,5,9,.\n", r"positive.csv, line 2: start, end and strand are '5', '9' and '.'"),
        ("1,chr7,9,5,+\n", r"positive.csv, line 2: start, end and strand are '9', '5' and '\+'"),
        ("", r"test: class 'positive' has no sequence"),
    ],
)
def test_coordinates_that_are_not_as_described(tmp_path, rows, said):
    write(tmp_path / "genomes/GRCh38.fa", f">7\n{random_text(0, 20)}\n")
    for split in ("train", "test"):
        for name in ("negative", "positive"):
            write(tmp_path / f"human_enhancers_cohn/{split}/{name}.csv", HEAD + "1,chr7,0,9,+\n")
    write(tmp_path / "human_enhancers_cohn/test/positive.csv", HEAD + rows)
    with pytest.raises(LabelError, match=said):
        read_dataset(GB, "human_enhancers_cohn", tmp_path)


def test_classes_that_are_missing_or_unknown(tmp_path):
    folder = tmp_path / "human_enhancers_cohn"
    write_sequences(folder, "train", ("negative",))
    write_sequences(folder, "test", ("negative", "positive"))
    with pytest.raises(LabelError, match=r"train: class 'positive' is missing: neither positive/ nor positive.csv.gz"):
        read_dataset(GB, "human_enhancers_cohn", tmp_path)
    write(folder / "train/neutral/0.txt", "AC")
    with pytest.raises(LabelError, match=r"train: 'neutral' is no class of human_enhancers_cohn: negative, positive"):
        read_dataset(GB, "human_enhancers_cohn", tmp_path)
    write(tmp_path / "human_ocr_ensembl/train/negative.csv", HEAD + "1,chr7,0,9,+\n")
    write(tmp_path / "human_ocr_ensembl/train/positive.csv", HEAD + "1,chr7,0,9,+\n")
    write_sequences(tmp_path / "human_ocr_ensembl", "test", ("negative", "positive"))
    with pytest.raises(LabelError, match=r"its coordinates are of GRCh38. Put that genome into .*genomes as GRCh38.fa"):
        read_dataset(GB, "human_ocr_ensembl", tmp_path)
    (tmp_path / "human_ocr_ensembl/test/positive/0.txt").write_text("AC GT")
    with pytest.raises(LabelError, match=r"0.txt: the sequence is not DNA"):
        write_sequences(tmp_path / "human_ocr_ensembl", "train", ("negative", "positive"))
        read_dataset(GB, "human_ocr_ensembl", tmp_path)


@pytest.fixture
def long_range(tmp_path):
    """A folder with genomes of 1,000 bases, and their text."""
    texts = {"hg38": random_text(2, 1000), "hg19": random_text(3, 1000)}
    for name, text in texts.items():
        write(tmp_path / f"genomes/{name}.fa", f">chr1\n{text}\n")
    return tmp_path, texts


def test_elements(long_range):
    """A window around a 200-bp bin whose coordinates count from 1; rows at the edge are left out, and told."""
    folder, texts = long_range
    rows = ["train,chr1,301,501,1", "test,chr1,401,601,0", "test,chr1,11,211,1", "test,chr1,301,501,1"]
    write(
        folder / "regulatory_elements/promoter_dataset.csv", "split,CHROM,START,STOP,label\n" + "\n".join(rows) + "\n"
    )
    said = io.StringIO()
    read = read_dataset(LRB, "regulatory_element_promoter", folder, window_bp=300, reporter=Reporter(said))
    assert letters(read["train"]) == [texts["hg38"][250:550]]
    assert letters(read["test"]) == [texts["hg38"][350:650], texts["hg38"][250:550]]
    assert (read["test"].targets.tolist(), read["test"].rows.tolist()) == ([0, 1], [3, 5])
    assert "regulatory_element_promoter, test: 1 of 3 rows left out, whose window leaves the chromosome" in (
        said.getvalue()
    )
    # Shorter windows, but only where the long one fits.
    short = read_dataset(LRB, "regulatory_element_promoter", folder, window_bp=200, fits_bp=300)
    assert letters(short["test"]) == [texts["hg38"][400:600], texts["hg38"][300:500]]
    assert len(read_dataset(LRB, "regulatory_element_promoter", folder, window_bp=200)["test"]) == 3


def test_chromatin_features(long_range):
    folder, texts = long_range
    marks = "[" + ", ".join(["0", "1"] * 10) + "]"
    text = f'split,CHROM,POS,HISTONES,DNASE\ntrain,chr1,401,"{marks}","{marks}"\ntest,chr1,501,"{marks}","{marks}"\n'
    write(folder / "chromatin_features/histones_and_dnase.csv", text)
    read = read_dataset(LRB, "chromatin_features_histone_marks", folder, window_bp=101)
    assert letters(read["test"]) == [texts["hg19"][450:551]]
    assert read["test"].targets.tolist() == [[0.0, 1.0] * 10] and read["test"].task.kind == "multilabel"


def test_bulk_expression(long_range):
    folder, texts = long_range
    genes = (
        "id,chrom,CAGE_representative_TSS,strand,split\n"
        "a,chr1,201,+,test\nb,chr1,301,-,train\nc,chr1,401.0,-,test\n"
    )  # fmt: skip
    values = np.arange(3 * 218).reshape(3, 218) / 8
    table = "\n".join([",".join(f"t{i}" for i in range(218)), *(",".join(map(str, row)) for row in values)]) + "\n"
    write(folder / "bulk_rna_expression/gene_coordinates.csv", genes)
    write(folder / "bulk_rna_expression/rna_expression_values.csv", table)
    read = read_dataset(LRB, "bulk_rna_expression", folder, window_bp=100)
    text = texts["hg19"]
    assert letters(read["test"]) == [text[150:250], text[350:450].translate(PAIRS)[::-1]]
    np.testing.assert_array_equal(read["test"].targets, values[[0, 2]].astype(np.float32))
    np.testing.assert_array_equal(read["train"].targets, values[[1]].astype(np.float32))
    write(folder / "bulk_rna_expression/gene_coordinates.csv", genes + "d,chr1,401,+,test\n")
    with pytest.raises(LabelError, match=r"gene_coordinates.csv, line 5: rna_expression_values.csv has 3 rows, fewer"):
        read_dataset(LRB, "bulk_rna_expression", folder, window_bp=100)
    write(folder / "bulk_rna_expression/gene_coordinates.csv", genes.rsplit("c,", 1)[0])
    with pytest.raises(LabelError, match=r"rna_expression_values.csv: 3 rows where gene_coordinates.csv has 2 genes"):
        read_dataset(LRB, "bulk_rna_expression", folder, window_bp=100)


def test_tracks(tmp_path):
    """Bins of 128 bp: those at the centre of a short window, and NaN around them in a long one."""
    write(tmp_path / "genomes/hg38.fa", ">chr1\n" + "ACGT" * 40_000 + "\n")
    folder = tmp_path / "cage_prediction"
    rows = [f"{split},chr1,20001,134689,{i}" for split, i in (("train", 7), ("validation", 0), ("test", 1))]
    write(folder / "sequences_coordinates.csv", "split,chrom,start,stop,npy_idx\n" + "\n".join(rows) + "\n")
    values = {}
    for word, name, i in (("train", "0-999", 7), ("valid", "0-999", 0), ("test", "0-999", 1)):
        values[word] = np.random.default_rng(i).random((1, 896, 50)).astype(np.float32)
        shard = folder / "targets_subset" / f"targets-{word}-{name}.npz"
        shard.parent.mkdir(exist_ok=True)
        np.savez(shard, **{f"target-{word}-{i}.npy": values[word]})
    whole = read_dataset(LRB, "cage_prediction", tmp_path)
    assert list(whole) == ["train", "dev", "test"] and len(whole["train"].codes[0]) == 114_688
    assert (whole["test"].task.kind, whole["test"].task.bin_bp) == ("bins", 128)
    np.testing.assert_array_equal(whole["dev"].targets[0], values["valid"][0])
    short = read_dataset(LRB, "cage_prediction", tmp_path, window_bp=1024)["test"]
    assert decode(short.codes[0]) == ("ACGT" * 40_000)[20_000 + 56_832 : 20_000 + 57_856]
    np.testing.assert_array_equal(short.targets[0], values["test"][0][444:452])
    long = read_dataset(LRB, "cage_prediction", tmp_path, window_bp=114_688 + 512)["test"].targets[0]
    assert long.shape == (900, 50) and np.isnan(long[[0, 1, 898, 899]]).all() and not np.isnan(long[2:898]).any()
    with pytest.raises(ConfigError, match=r"cage_prediction: a window of 1,000 bases is no multiple of 256"):
        read_dataset(LRB, "cage_prediction", tmp_path, window_bp=1000)
    write(folder / "sequences_coordinates.csv", "split,chrom,start,stop,npy_idx\ntrain,chr1,20001,134689,8\n")
    with pytest.raises(LabelError, match=r"targets-train-0-999.npz: holds no array 'target-train-8.npy'"):
        read_dataset(LRB, "cage_prediction", tmp_path)
    write(folder / "sequences_coordinates.csv", "split,chrom,start,stop,npy_idx\ntrain,chr1,20001,134689,33890\n")
    with pytest.raises(LabelError, match=r"targets-train-33000-33890.npz: no such file. Fetch it"):
        read_dataset(LRB, "cage_prediction", tmp_path)


def test_the_files_of_tracks_are_those_of_the_card():
    assert len(shard_names("train")) == 34 and shard_names("train")[-1] == "targets-train-33000-33890.npz"
    assert shard_names("dev") == [f"targets-valid-{x}.npz" for x in ("0-999", "1000-1999", "2000-2194")]


def test_variants_are_no_labelled_sequences(long_range):
    folder, _ = long_range
    write(folder / "variant_effect_pathogenic/vep_pathogenic_coding.csv", "split,CHROM,POS,REF,ALT,INT_LABEL\n")
    with pytest.raises(LabelError, match=r"vep_pathogenic_coding.csv: rows of .*clinvar are pairs of sequences"):
        read_dataset(LRB, "variant_effect_pathogenic_clinvar", folder)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            "held,chr1,301,501,1",
            r"promoter_dataset.csv, line 2: split 'held' is none of test, train, valid, validation",
        ),
        ("train,chr1,0,501,1", r"line 2: coordinate '0' is no position from 1 on"),
        ("train,chr1,x,501,1", r"line 2: coordinate 'x' is no position from 1 on"),
        ("train,chr9,301,501,1", r"line 2: hg38.fa has no contig 'chr9'"),
        ("train,chr1,301,501,2", r"line 2: label '2' is no class of regulatory_element_promoter"),
    ],
)
def test_rows_that_are_not_as_described(long_range, row, said):
    folder, _ = long_range
    write(folder / "regulatory_elements/promoter_dataset.csv", f"split,CHROM,START,STOP,label\n{row}\n")
    with pytest.raises(LabelError, match=said):
        read_dataset(LRB, "regulatory_element_promoter", folder, window_bp=200)
