import contextlib
import gzip
import json

import pyarrow.parquet as pq
import pysam
import pysam.bcftools
import pytest
import torch
from toys import toy_run
from variant_fakes import PlantedPredictor, random_letters, write_genome, write_vcf

import umbel.files
from umbel.data.kmers import KmerTokens
from umbel.errors import ConfigError, InputError, RunError, VcfError
from umbel.genome.reference import Reference
from umbel.genome.variant import Variant
from umbel.model.hf import new_model
from umbel.predict.predictor import Predictor
from umbel.predict.variants import record_scorer
from umbel.predict.variants.scores import log_likelihood_ratios
from umbel.predict.variants.scoring import score_or_give, score_variants
from umbel.predict.variants.settings import VariantSettings
from umbel.predict.variants.windows import cut_window

TEXT = random_letters(0, 3_000)
CONTIGS = {"chr1": TEXT[:2_000] + "N" * 100 + TEXT[2_000:], "chr2B": random_letters(1, 700)}
SMALL = VariantSettings(window_bp=64, max_allele_bp=10, background=20)
HEADER = [
    '##FILTER=<ID=LowQual,Description="Low">',
    '##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">',
    '##INFO=<ID=END,Number=1,Type=Integer,Description="End">',
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
    "##contig=<ID=elsewhere>",
]


def base(pos, by=0):
    return "ACGT"[("ACGT".index(CONTIGS["chr1"][pos - 1]) + by) % 4]


def rows():
    """One record of every fate."""
    made = [
        f"chr1 50 rs1 {base(50)} {base(50, 1)},{base(50, 2)},* 9.0 PASS DP=007 GT 0|1|1/2 .",
        f"chr1 50 rs1 {base(50)} {base(50, 1)} . . . GT 0/0 1",
        f"chr1 60 . {base(60)} {base(60)}ACGTA,{base(60, 1)} . LowQual DP=3 GT 0/1 1/2",
        f"chr1 70 . {base(70, 1)} {base(70)} . PASS . GT 0/1 1/1",
        f"chr1 80 . {base(80)} <DEL> . . END=85 GT 0/1 ./.",
        f"chr1 90 . {base(90)} <DEL>,<INS> . . END=400 GT 0/1 ./.",
        f"chr1 100 . {base(100)}{base(101)} {base(100, 1)}{base(101, 2)} . PASS DP=1 GT 0/1 ./.",
        f"chr1 110 . {base(110)} . . . DP=2 GT 0/0 0/0",
        f"chr1 1990 . {base(1990)} {base(1990, 1)} . LowQual . GT 0/0 0/1",
        "chr1 2050 . N A . . . GT 0/0 0/1",
        "chr1 9000 . A C . . . GT 0/0 0/1",
        "elsewhere 5 . A C . . . GT 0/0 0/1",
    ]
    return [row for row in made if row]


@pytest.fixture
def inputs(tmp_path):
    return write_vcf(tmp_path, rows(), HEADER), write_genome(tmp_path, CONTIGS)


def score(inputs, out, settings=SMALL, predictor=None, **options):
    return score_variants(predictor or PlantedPredictor(), *inputs, out, settings=settings, **options)


def records(path):
    return [line.split("\t") for line in pysam.bcftools.view("-H", str(path)).splitlines()]


def test_every_record_is_kept_and_counted(inputs, tmp_path):
    result = score(inputs, tmp_path / "out.vcf.gz")
    before, after = (line_fields(inputs[0].read_text()), line_fields(text_of(result.path)))
    assert len(before) == len(after) == result.records == 12
    for old, new in zip(before, after, strict=True):
        assert old[:6] + old[8:] == new[:6] + new[8:]
        assert new[7] == old[7] or new[7].startswith("UMBEL_" if old[7] == "." else old[7] + ";UMBEL_")
    assert [row[6] for row in after] == [
        "PASS", ".", "LowQual", "UMBEL_REF_MISMATCH", ".", "UMBEL_TOO_LONG;UMBEL_NO_SEQUENCE", "PASS", ".",
        "LowQual;UMBEL_N_IN_WINDOW", "UMBEL_N_IN_WINDOW", "UMBEL_BEYOND_CONTIG", "UMBEL_NO_CONTIG",
    ]  # fmt: skip
    assert result.scored_records == 6
    assert {name: n for name, n in result.filters.items() if n} == {
        "UMBEL_REF_MISMATCH": 1, "UMBEL_NO_CONTIG": 1, "UMBEL_BEYOND_CONTIG": 1, "UMBEL_TOO_LONG": 1,
        "UMBEL_NO_SEQUENCE": 1, "UMBEL_N_IN_WINDOW": 2,
    }  # fmt: skip
    assert sum(result.alleles.values()) == 15 and result.alleles["scored"] == 8
    assert not list(tmp_path.glob("*.parts"))


def text_of(path):
    with gzip.open(path, "rt") as file:
        return file.read()


def line_fields(text):
    return [line.split("\t") for line in text.splitlines() if not line.startswith("#")]


def test_bcftools_reads_it(inputs, tmp_path):
    result = score(inputs, tmp_path / "out.vcf.gz")
    assert result.index == tmp_path / "out.vcf.gz.tbi"
    columns = "%CHROM %POS %ID %REF %ALT %QUAL[ %GT]\n"
    old, new = (pysam.bcftools.query("-f", columns, str(path)) for path in (inputs[0], result.path))
    assert old == new and old.count("\n") == 12
    found = pysam.bcftools.query("-f", "%UMBEL_LLR %UMBEL_LLR_PCT\n", str(result.path)).splitlines()
    assert found[0].count(",") == 4 and found[0].split()[0].endswith(",.")
    assert found[1].split()[0] == found[0].split(",")[0]
    assert len(pysam.bcftools.view("-H", "-r", "chr1:55-75", str(result.path)).splitlines()) == 2
    with pysam.VariantFile(str(result.path)) as file:
        assert file.header.info["UMBEL_LLR"].number == "A" and file.header.info["UMBEL_PLL_Z"].type == "Float"
        declared = file.header.contigs["chr1"]
        assert declared.length == 3_100
        with Reference.open(inputs[1]) as genome:
            assert f"md5={genome.contig_md5('chr1')}" in str(file.header)
            assert genome.assembly_md5() in str(file.header)
        assert "chr2B" not in file.header.contigs
        assert [record.info["DP"] for record in file if "DP" in record.info] == [7, 3, 1, 2]


def test_scores_are_those_of_the_functions(inputs, tmp_path):
    fake = PlantedPredictor()
    table = score(inputs, tmp_path / "out.parquet", predictor=fake) and pq.read_table(tmp_path / "out.parquet")
    rows_of = {(row["record"], row["allele"]): row for row in table.to_pylist()}
    assert len(rows_of) == table.num_rows == 16
    with Reference.open(inputs[1]) as genome:
        window = cut_window(Variant("chr1", 49, base(50), base(50, 2)), genome, SMALL.flank_bp)
        expected = log_likelihood_ratios(fake, [window])[0]
    assert rows_of[0, 2]["llr"] == pytest.approx(expected, abs=1e-6)
    assert rows_of[0, 1]["llr"] == rows_of[1, 1]["llr"] and rows_of[0, 1]["pll"] is None
    assert rows_of[0, 3]["fate"] == "placeholder" and rows_of[0, 3]["llr"] is None
    assert 0 <= rows_of[0, 2]["llr_pct"] <= 100
    assert rows_of[4, 1]["kind"] == "deletion" and len(rows_of[4, 1]["norm_ref"]) == 5
    assert rows_of[4, 1]["pll"] is not None and rows_of[4, 1]["pll_z"] is not None
    assert rows_of[7, 0]["alt"] is None and rows_of[7, 0]["fate"] is None
    kinds = {field.name: str(field.type) for field in table.schema}
    assert (kinds["record"], kinds["pos"], kinds["llr"], kinds["filter"]) == ("int64", "int64", "double", "string")
    facts = json.loads(table.schema.metadata[b"umbel"])
    assert facts["weights"] == "planted" and facts["settings"]["window_bp"] == 64
    given = score_or_give(fake, *inputs, None, settings=SMALL)
    assert given.drop_columns([]).equals(table.replace_schema_metadata(given.schema.metadata))


def test_equal_variants_have_equal_scores_however_they_are_written(tmp_path):
    repeat = TEXT[:60] + "CAGCAGCAGCAG" + TEXT[60:200]
    written = [
        "c 61 . CAG CAGCAG . . .",
        "c 63 . GCAG GCAGCAG . . .",
        "c 72 . G GCAG . . .",
        "c 60 . N <DUP> . . SVLEN=3",
        "c 66 . N <DUP:TANDEM> . . END=69",
        f"c 60 . {repeat[59]} {repeat[59]}CAG . . .",
    ]
    inputs = (
        write_vcf(tmp_path, sorted(written, key=lambda row: int(row.split()[1]))),
        write_genome(tmp_path, {"c": repeat}),
    )
    table = score_or_give(PlantedPredictor(), *inputs, None, settings=SMALL)
    for column in ("pll", "pll_pct", "pll_z", "start", "norm_alt"):
        assert len(set(table[column].to_pylist())) == 1 and table[column].null_count == 0, column


def test_background_can_be_left_out_and_kept(inputs, tmp_path):
    bare = VariantSettings(window_bp=64, max_allele_bp=10, background=0)
    assert "UMBEL_LLR_PCT" not in text_of(score(inputs, tmp_path / "bare.vcf.gz", bare).path)
    kept = tmp_path / "background.parquet"
    first = score(inputs, tmp_path / "one.vcf.gz", background_file=kept)
    fake = PlantedPredictor()
    again = score(inputs, tmp_path / "two.vcf.gz", predictor=fake, background_file=kept)
    assert first.background == again.background and max(fake.calls) <= 8
    assert first.path.read_bytes() == again.path.read_bytes()
    # A file that is completed counts as the same background.
    other = write_vcf(tmp_path, [f"chr1 60 . {base(60)}{base(61)}{base(62)} {base(60)} . . ."], name="other.vcf")
    more = score((other, inputs[1]), tmp_path / "three.vcf.gz", background_file=kept)
    assert set(more.background) == {"deletion of 1", "deletion of 4"}
    assert pq.read_table(kept).num_rows > 2 * len(first.background)


class Killed(BaseException):
    """Stands for SIGKILL: nothing that umbel catches."""


@pytest.mark.parametrize("name", ["out.vcf.gz", "out.parquet"])
def test_stopping_at_any_write_does_not_change_the_bytes(name, tmp_path, monkeypatch):
    monkeypatch.setattr(record_scorer, "RECORDS_PER_PART", 5)
    inputs = write_vcf(tmp_path, rows(), HEADER), write_genome(tmp_path, CONTIGS)
    kept = {"background_file": tmp_path / "kept.parquet"}
    whole = score(inputs, tmp_path / "whole" / name)
    real, left, stops = umbel.files.os.replace, [0], 0

    def dying(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        real(*arguments)

    for n_calls in range(100):
        folder, left[0] = tmp_path / f"after{n_calls}", n_calls
        kept = {"background_file": folder / "kept.parquet"}
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(umbel.files.os, "replace", dying)
            score(inputs, folder / name, **kept)
        if left[0] >= 0:
            break
        stops += 1
        score(inputs, folder / name, **kept)
        assert (folder / name).read_bytes() == whole.path.read_bytes()
        if whole.index:
            assert (folder / whole.index.name).read_bytes() == whole.index.read_bytes()
        assert not list(folder.glob("*.parts")) and not list(folder.glob("*.tmp"))
    assert stops > 12


def test_parts_of_another_call_are_refused(inputs, tmp_path):
    out = tmp_path / "out.vcf.gz"
    (tmp_path / "out.vcf.gz.parts").mkdir()
    (tmp_path / "out.vcf.gz.parts" / "call.json").write_text('{"call": "other"}')
    with pytest.raises(RunError, match="unfinished table of other inputs or settings"):
        score(inputs, out)


def test_unsorted_files_keep_their_order_and_get_no_index(tmp_path):
    made = [f"chr1 {pos} . {base(pos)} {base(pos, 1)} . . ." for pos in (300, 200, 250)]
    inputs = write_vcf(tmp_path, made), write_genome(tmp_path, CONTIGS)
    stale = tmp_path / "out.vcf.gz.csi"
    stale.write_text("of an earlier file")
    result = score(inputs, tmp_path / "out.vcf.gz")
    assert [row[1] for row in records(result.path)] == ["300", "200", "250"]
    assert result.index is None and not stale.exists()
    assert any("not sorted" in text and "bcftools sort" in text for text in result.warnings)
    pysam.bcftools.sort("-Oz", "-o", str(tmp_path / "s.vcf.gz"), str(result.path), catch_stdout=False)
    assert [row[1] for row in records(tmp_path / "s.vcf.gz")] == ["200", "250", "300"]


def test_contigs_of_other_names(tmp_path):
    made = [f"1 {pos} . {base(pos)} {base(pos, 1)} . . ." for pos in (200, 300)]
    inputs = write_vcf(tmp_path, made), write_genome(tmp_path, CONTIGS)
    result = score(inputs, tmp_path / "out.vcf.gz")
    assert (result.records, result.scored_records, result.filters["UMBEL_NO_CONTIG"]) == (2, 0, 2)
    assert (
        "every record is on contigs that the reference does not have: 1 (2). The reference has chr1"
        in (result.warnings[0])
    )
    assert "--contig-map" in result.warnings[0]
    names = tmp_path / "names.tsv"
    names.write_text("# VCF, FASTA\n1\tchr1\n")
    mapped = score(inputs, tmp_path / "mapped.vcf.gz", contig_map=names)
    assert mapped.scored_records == 2 and mapped.warnings == ()
    assert [row[0] for row in records(mapped.path)] == ["1", "1"]
    assert "##contig=<ID=1,length=3100,md5=" in text_of(mapped.path)


@pytest.mark.parametrize(
    "text, problem",
    [
        ("1 chr1\n1 chr2B\n", "line 2: contig '1' is there twice"),
        ("1 chrX\n", "line 1: the reference has no contig 'chrX'; it has chr1"),
        ("1\n", "line 1: a line has a contig's name in the VCF and its name in the reference, this one has 1"),
    ],
)
def test_a_wrong_contig_map_is_told(inputs, tmp_path, text, problem):
    (tmp_path / "names.tsv").write_text(text)
    with pytest.raises(InputError) as told:
        score(inputs, tmp_path / "out.vcf.gz", contig_map=tmp_path / "names.tsv")
    assert problem in str(told.value)


def test_a_contig_of_another_length_is_refused(tmp_path):
    vcf = write_vcf(tmp_path, [f"chr1 60 . {base(60)} A . . ."], ["##contig=<ID=chr1,length=3000>"])
    with pytest.raises(VcfError, match=r"contig 'chr1' has 3,000 bases, and in .*genome.fa it has 3,100"):
        score((vcf, write_genome(tmp_path, CONTIGS)), tmp_path / "out.vcf.gz")
    assert not (tmp_path / "out.vcf.gz").exists() and not (tmp_path / "out.vcf.gz.parts").exists()


def test_a_broken_line_stops_before_anything_is_written(inputs, tmp_path):
    inputs[0].write_text(inputs[0].read_text() + "chr1\t5\n")
    with pytest.raises(VcfError, match="line 20: this record has 2 columns"):
        score(inputs, tmp_path / "out.vcf.gz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["genome.fa", "in.vcf"]


def test_scores_that_are_there_already(inputs, tmp_path):
    score(inputs, tmp_path / "one.vcf.gz")
    with pytest.raises(VcfError, match=r"already defines UMBEL_LLR, .*bcftools annotate -x INFO/UMBEL_LLR,"):
        score((tmp_path / "one.vcf.gz", inputs[1]), tmp_path / "two.vcf.gz")
    # Other scores may be added.
    more = VariantSettings(("embedding",), 64, 10, background=0)
    result = score((tmp_path / "one.vcf.gz", inputs[1]), tmp_path / "two.vcf.gz", more)
    text = text_of(result.path)
    assert "UMBEL_EMBEDDING=" in text and text.count("##FILTER=<ID=UMBEL_TOO_LONG") == 1
    assert result.filters == score(inputs, tmp_path / "x.vcf.gz").filters
    assert line_fields(text)[5][6] == "UMBEL_TOO_LONG;UMBEL_NO_SEQUENCE"


def test_mismatches_everywhere_are_told(tmp_path):
    made = [f"chr1 {pos} . {base(pos, 1)} {base(pos)} . . ." for pos in range(100, 120)]
    result = score((write_vcf(tmp_path, made), write_genome(tmp_path, CONTIGS)), tmp_path / "out.vcf.gz")
    assert any("REF differs from the reference at 20 of 20 records" in text for text in result.warnings)


def test_few_random_variants_are_told(tmp_path):
    genome = write_genome(tmp_path, {"chr1": CONTIGS["chr1"][:80] + "N" * 60_000})
    made = [f"chr1 40 . {base(40)} {base(40, 1)} . . ."]
    settings = VariantSettings(window_bp=64, max_allele_bp=10, background=30)
    result = score((write_vcf(tmp_path, made), genome), tmp_path / "out.vcf.gz", settings)
    assert 0 < result.background["substitution of 1 base"] < 30
    assert any("fewer than 30 random variants" in text for text in result.warnings)


def test_no_records_and_no_alleles(tmp_path):
    genome = write_genome(tmp_path, CONTIGS)
    empty = score((write_vcf(tmp_path, []), genome), tmp_path / "out.vcf.gz")
    assert (empty.records, empty.background) == (0, {}) and records(empty.path) == []
    assert score((write_vcf(tmp_path, []), genome), tmp_path / "out.parquet").records == 0
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0


@pytest.mark.parametrize(
    "settings, out, problem",
    [
        ({"scores": ("head",)}, "out.vcf.gz", "--score head needs a tuned model"),
        ({"scores": ("lrr",)}, "out.vcf.gz", "--score lrr: there are llr, pll, embedding, head"),
        ({"scores": ("llr", "llr")}, "out.vcf.gz", "names one twice"),
        ({"window_bp": 40, "max_allele_bp": 30}, "out.vcf.gz", "need a window of twice that"),
        ({"background": -1}, "out.vcf.gz", "--background is -1: give 0 or more"),
        ({"n_passes": 101}, "out.vcf.gz", "give at most 100"),
        ({}, "out.vcf", "end its name in .vcf.gz"),
        ({}, "in.vcf.gz", "is the input itself"),
    ],
)
def test_what_does_not_fit_is_refused(inputs, tmp_path, settings, out, problem):
    source = tmp_path / "in.vcf.gz"
    source.write_bytes(gzip.compress(inputs[0].read_bytes()))
    with pytest.raises(ConfigError, match=problem):
        score((source, inputs[1]), tmp_path / out, VariantSettings(**settings))


def test_learnt_words_have_no_likelihood_of_a_base(inputs, tmp_path):
    from umbel.data.bpe import BpeTokens

    fake = PlantedPredictor()
    fake.tokens = object.__new__(BpeTokens)
    with pytest.raises(ConfigError, match=r"--score llr,pll: this model's tokens are learnt words"):
        score(inputs, tmp_path / "out.vcf.gz", predictor=fake)
    score(inputs, tmp_path / "out.vcf.gz", VariantSettings(("embedding",), 64, 10), fake)


def test_the_method_is_the_function(tmp_path):
    predictor = Predictor(new_model(toy_run().model, 256, 0), "random-0", torch.device("cpu"), KmerTokens(1))
    made = [f"chr1 {pos} . {base(pos)} {base(pos, 1)} . . ." for pos in (200, 300)]
    inputs = write_vcf(tmp_path, made), write_genome(tmp_path, CONTIGS)
    settings = VariantSettings(window_bp=64, max_allele_bp=10, background=0)
    result = predictor.score_variants(*inputs, tmp_path / "a.vcf.gz", settings=settings)
    table = predictor.score_variants(*inputs, settings=settings)
    values = pysam.bcftools.query("-f", "%UMBEL_LLR\n", str(result.path)).split()
    assert [float(value) for value in values] == pytest.approx(table["llr"].to_pylist(), rel=1e-5)
