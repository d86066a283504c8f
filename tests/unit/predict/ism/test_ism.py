"""In-silico mutagenesis against single passes written out, and against the command for variants."""

import json
import os
from types import SimpleNamespace

import anndata
import numpy as np
import pytest
from typer.testing import CliRunner

from umbel.cli import app
from umbel.data.labelled.task import Task
from umbel.errors import BackendError, ConfigError, FastaError, RunError
from umbel.genome.interval import Interval
from umbel.genome.reference import Reference
from umbel.genome.sequence import encode, revcomp
from umbel.predict.ism import mutate
from umbel.predict.ism.settings import IsmSettings
from umbel.predict.predictor import Predictor
from umbel.predict.variants.settings import VariantSettings

SETTINGS = IsmSettings(window_bp=64, n_passes=3)


@pytest.fixture(scope="module")
def predictor(toy_training):
    return Predictor.load(toy_training, device="cpu")


@pytest.fixture(scope="module")
def letters():
    found = np.random.default_rng(3).choice(list("ACGT"), 300)
    found[100:108] = list("GAAAATTC")
    found[150:153] = "N"
    return "".join(found)


@pytest.fixture
def fasta(letters, tmp_path):
    path = tmp_path / "genome.fa"
    path.write_text(f">chr1 of a kind\n{letters}\n>other\nACGTACGTAC\n")
    return path


def plain_log_probs(predictor, letters, position, flank_bp):
    """One sequence at a time, one strand at a time."""
    first, last = max(0, position - flank_bp), min(len(letters), position + flank_bp + 1)
    codes = encode(letters[first:last].encode())[0]
    hidden = np.arange(first, last) == position
    forward = predictor.masked_log_probs([codes], [hidden])[0][0]
    turned = predictor.masked_log_probs([revcomp(codes)], [hidden[::-1].copy()])[0][0]
    return (forward + turned[::-1]) / 2


def test_each_score_is_that_of_single_passes(predictor, fasta, letters):
    result = predictor.ism(fasta, "chr1:1-200", settings=SETTINGS)
    flank_bp = VariantSettings(window_bp=64).resolved(256).flank_bp
    for position in (0, 1, 20, 99, 149, 199):
        logs = plain_log_probs(predictor, letters, position, flank_bp)
        np.testing.assert_allclose(result.log_probs[position], logs, atol=1e-5)
        own = "ACGT".index(letters[position])
        np.testing.assert_allclose(result.llr[position], logs - logs[own], atol=1e-5)
        assert result.llr[position, own] == 0
    assert result.kinds == ("A", "C", "G", "T")
    assert np.isnan(result.llr[150:153]).all()
    assert np.isnan(result.log_probs[150:153]).all()
    assert not np.isnan(np.delete(result.llr, [150, 151, 152], axis=0)).any()
    assert (result.n_unknown, result.n_without_context) == (3, 0)
    assert result.n_short_windows == flank_bp
    assert result.n_windows_with_n == sum(
        "N" in letters[max(0, p - flank_bp) : p] + letters[p + 1 : p + flank_bp + 1] for p in range(200)
    )


def test_scores_are_those_of_the_command_for_variants(predictor, fasta, letters, tmp_path):
    """Every substitution, and every deletion of one base, of a region with runs, as records of a VCF."""
    first, last = 96, 116
    result = predictor.ism(
        fasta, Interval("chr1", first, last), settings=IsmSettings(window_bp=64, n_passes=3, deletions=True)
    )
    lines = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    expected = []
    for position in range(first, last):
        for base in "ACGT":
            if base != letters[position]:
                lines.append(f"chr1\t{position + 1}\t.\t{letters[position]}\t{base}\t.\t.\t.")
                expected.append(result.llr[position - first, "ACGT".index(base)])
        # Not left-normalised: as the user's file may have it.
        lines.append(f"chr1\t{position}\t.\t{letters[position - 1 : position + 1]}\t{letters[position - 1]}\t.\t.\t.")
        expected.append(result.llr[position - first, 4])
    vcf = tmp_path / "all.vcf"
    vcf.write_text("\n".join(lines) + "\n")
    settings = VariantSettings(window_bp=64, n_passes=3, background=0)
    table = predictor.score_variants(vcf, fasta, settings=settings).to_pylist()
    found = [row["llr"] if row["llr"] is not None and np.isfinite(row["llr"]) else row["pll"] for row in table]
    np.testing.assert_allclose(expected, found, atol=1e-4)


def test_one_pass_a_position_and_strand(predictor, fasta, monkeypatch):
    shown = []
    real = Predictor._masked_log_probs

    def counting(self, codes, hidden):
        shown.extend(int(mask.sum()) for mask in hidden)
        return real(self, codes, hidden)

    monkeypatch.setattr(Predictor, "_masked_log_probs", counting)
    predictor.ism(fasta, "chr1:41-60", settings=SETTINGS)
    assert shown == [1] * 40


def test_a_run_of_equal_bases_is_deleted_once(predictor, fasta, letters, monkeypatch):
    scored = []
    real = mutate.pseudo_likelihood_differences

    def counting(model, windows, n_passes):
        scored.extend(window.variant.start for window in windows)
        return real(model, windows, n_passes)

    monkeypatch.setattr(mutate, "pseudo_likelihood_differences", counting)
    monkeypatch.setattr(mutate, "PLACES_PER_PART", 3)
    # From within the run of four A on, across parts; the run's first base is left of the region.
    result = predictor.ism(fasta, "chr1:103-107", settings=IsmSettings(window_bp=64, n_passes=3, deletions=True))
    assert letters[102:107] == "AAATT"
    assert scored == [101, 105]
    deletions = result.llr[:, 4]
    assert (deletions[:3] == deletions[0]).all()
    assert (deletions[3:] == deletions[3]).all()
    assert not np.isnan(deletions).any()


def counting_head():
    """A head whose outputs are the number of G and the number of T in a window."""

    def outputs(codes, strand="forward"):
        return [np.array([(c == 2).sum(), 10.0 * (c == 3).sum()], np.float32) for c in codes]

    task = Task("regression", ("g", "ten t"))
    return SimpleNamespace(task=task, outputs=outputs, weights_hash="counts", min_bases=1)


def test_a_heads_outputs_are_subtracted(predictor, fasta, letters):
    result = predictor.ism(fasta, "chr1:141-156", settings=SETTINGS, head=counting_head())
    assert set(result.head) == {"g", "ten_t"}
    for i, letter in enumerate(letters[140:156]):
        if letter == "N":
            assert np.isnan(result.head["g"][i]).all()
            continue
        g = [(base == "G") - (letter == "G") for base in "ACGT"]
        t = [10 * ((base == "T") - (letter == "T")) for base in "ACGT"]
        np.testing.assert_array_equal(result.head["g"][i], g)
        np.testing.assert_array_equal(result.head["ten_t"][i], t)


def test_the_files_hold_the_arrays(predictor, fasta, letters, tmp_path):
    settings = IsmSettings(window_bp=64, n_passes=2, deletions=True)
    result = predictor.ism(fasta, "chr1:146-156", tmp_path / "out", settings=settings, head=counting_head())
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["ism.h5ad", "ism.png", "ism.svg", "ism.tsv"]
    found = anndata.read_h5ad(result.files["h5ad"])
    np.testing.assert_array_equal(found.X, result.llr)
    np.testing.assert_array_equal(found.layers["log_prob"][:, :4], result.log_probs)
    assert np.isnan(found.layers["log_prob"][:, 4]).all()
    np.testing.assert_array_equal(found.layers["head:g"][:, :4], result.head["g"])
    assert list(found.var_names) == ["A", "C", "G", "T", "del"]
    assert list(found.obs["pos"]) == list(range(146, 157))
    assert "".join(found.obs["ref"]) == letters[145:156]
    assert json.loads(found.uns["umbel"])["weights"] == predictor.weights_hash
    rows = [line.split("\t") for line in result.files["tsv"].read_text().splitlines()]
    assert rows[0] == ["contig", "pos", "ref", "alt", "llr", "ln_p_ref", "ln_p_alt", "head:g", "head:ten_t"]
    assert len(rows) == 1 + 8 * 4 + 3 * 5
    for contig, pos, ref, alt, llr, of_ref, of_alt, head, _ in rows[1:]:
        i = int(pos) - 146
        assert (contig, ref) == ("chr1", letters[145 + i])
        if ref == "N":
            assert {llr, of_ref, of_alt, head} == {"."}
            continue
        j = ["A", "C", "G", "T", "del"].index(alt)
        np.testing.assert_allclose(float(llr), result.llr[i, j], rtol=1e-5)
        if alt == "del":
            assert (of_ref, of_alt, head) == (".", ".", ".")
        else:
            np.testing.assert_allclose(float(of_alt) - float(of_ref), float(llr), atol=1e-4)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_stopped_call_goes_on_to_the_same_bytes(predictor, fasta, tmp_path, monkeypatch):
    monkeypatch.setattr(mutate, "PLACES_PER_PART", 4)
    region, out = "chr1:100-111", tmp_path / "stopped"
    predictor.ism(fasta, region, tmp_path / "whole", settings=SETTINGS)
    real, seen = mutate.write_part, []

    def stopping(folder, number, table):
        seen.append(number)
        if number == 2:
            raise KeyboardInterrupt
        return real(folder, number, table)

    monkeypatch.setattr(mutate, "write_part", stopping)
    with pytest.raises(KeyboardInterrupt):
        predictor.ism(fasta, region, out, settings=SETTINGS)
    assert [p.name for p in out.iterdir()] == ["ism.parts"]
    monkeypatch.setattr(mutate, "write_part", real)
    with pytest.raises(RunError, match="holds an unfinished table of other inputs or settings"):
        predictor.ism(fasta, region, out, settings=IsmSettings(window_bp=48))
    passes = []
    monkeypatch.setattr(mutate, "base_log_probs", lambda p, w: passes.append(len(w)) or real_probs(p, w))
    predictor.ism(fasta, region, out, settings=SETTINGS)
    assert passes == [4]
    assert contents(out) == contents(tmp_path / "whole")


real_probs = mutate.base_log_probs


def test_an_open_reference_stays_open(predictor, fasta):
    with Reference.open(fasta) as genome:
        predictor.ism(genome, "chr1:10-11", settings=SETTINGS)
        assert genome.fetch("other", 0, 1).tolist() == [0]


def test_refusals(predictor, fasta, tmp_path):
    for region, error, message in (
        ("chr1", ConfigError, "interval 'chr1': write it as contig:first-last"),
        ("chr9:1-5", FastaError, "no contig 'chr9'; there are, for example, chr1, other"),
        ("chr1:290-301", FastaError, r"chr1:290-301 ends beyond contig 'chr1' of 300 bases"),
        ("chr1:151-153", FastaError, "nothing in chr1:151-153 can be scored: it is N, or its windows"),
        (None, FastaError, r"it has 2 contigs \(chr1, other\): name a region, such as chr1:1-100"),
    ):
        with pytest.raises(error, match=message):
            predictor.ism(fasta, region, tmp_path / "out", settings=SETTINGS)
    with pytest.raises(ConfigError, match="--window-bp is -1: give 0 or more"):
        IsmSettings(window_bp=-1)
    with pytest.raises(ConfigError, match="flank_bp must not be negative"):
        IsmSettings(flank_bp=-1)


def test_missing_packages_are_told_before_anything_is_computed(predictor, fasta, tmp_path, monkeypatch):
    monkeypatch.setattr(mutate, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"need anndata, matplotlib: pip install 'umbel\[tracks\]'"):
        predictor.ism(fasta, "chr1:1-5", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert predictor.ism(fasta, "chr1:1-5", settings=SETTINGS).llr.shape == (5, 4)


def test_the_command(toy_training, letters, tmp_path):
    path = tmp_path / "one.fa"
    path.write_text(f">only\n{letters[:60]}\n")
    words = ["ism", str(toy_training), str(path), "--sequence", "-o", str(tmp_path / "out"), "--window-bp", "40"]
    done = CliRunner().invoke(app, [*words, "--device", "cpu", "-q"])
    assert done.exit_code == 0, done.output
    assert "only:1-60: 60 bases" in done.output
    assert os.fspath(tmp_path / "out" / "ism.svg") in done.output
    for extra in (["only:1-5"], []):
        wrong = CliRunner().invoke(app, [*words[:3], *extra, *(["--sequence"] if extra else []), *words[4:]])
        assert isinstance(wrong.exception, ConfigError)
        assert "name a REGION, such as chr1:101-300, or say --sequence" in str(wrong.exception)
