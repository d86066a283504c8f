"""The benchmark as a whole: scores are those of the command for variants, files, resuming, page, refusals."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from planted_genes import write_planted_genes
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from umbel.cli import app
from umbel.errors import ConfigError, RunError
from umbel.evaluate.zero_shot import runner, scoring
from umbel.evaluate.zero_shot.runner import zero_shot
from umbel.evaluate.zero_shot.settings import ZeroShotSettings
from umbel.evaluate.zero_shot.wording import ROW_NAMES, lines, markdown
from umbel.predict.predictor import Predictor
from umbel.predict.variants.settings import VariantSettings

SETTINGS = ZeroShotSettings(n_per_class=60, window_bp=24, n_random=2, n_draws=50, note="A genome <made up>.")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("genes")
    write_planted_genes(folder, n_genes=20)
    return folder


@pytest.fixture(scope="module")
def done(folder, toy_training):
    out = folder / "out"
    result = zero_shot(toy_training, folder / "genes.fa", folder / "genes.gff3", out, settings=SETTINGS, device="cpu")
    return result, out


def test_the_models_scores_are_those_of_the_command_for_variants(done, folder, toy_training):
    _, out = done
    table = pq.read_table(out / "predictions.parquet").to_pylist()
    records = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    records += [f"{row['contig']}\t{row['pos']}\t.\t{row['ref']}\t{row['alt']}\t.\t.\t." for row in table]
    (folder / "rows.vcf").write_text("\n".join(records) + "\n")
    settings = VariantSettings(window_bp=24, background=0)
    scored = Predictor.load(toy_training, "cpu").score_variants(
        folder / "rows.vcf", folder / "genes.fa", settings=settings
    )
    np.testing.assert_allclose([-row["harm:model"] for row in table], scored["llr"].to_pylist(), atol=1e-4)
    harms = {name for name in table[0] if name.startswith("harm:")}
    assert {"harm:random-0", "harm:random-1", "harm:markov", "harm:gc", "harm:context:nonsense"} <= harms


def test_areas_are_those_of_the_saved_scores(done):
    result, out = done
    table = pq.read_table(out / "predictions.parquet")
    labels = np.array(table["class"].to_pylist())
    for comparison in result["comparisons"]:
        which = np.isin(labels, [comparison["positive"], comparison["negative"]])
        truth = labels[which] == comparison["positive"]
        scores = comparison["matchings"]["all"]["scores"]
        assert set(scores) == set(ROW_NAMES)
        columns = {"model": ["model"], "random": ["random-0", "random-1"], "markov": ["markov"], "gc": ["gc"]}
        columns["frame"] = [f"frame:{comparison['positive']}"]
        for name, mine in columns.items():
            areas = [roc_auc_score(truth, table[f"harm:{column}"].to_numpy()[which]) for column in mine]
            assert scores[name]["value"] == pytest.approx(np.mean(areas))
            assert scores[name]["by_seed"] == pytest.approx(areas)
        matched = comparison["matchings"]["substitution"]
        assert matched["scores"]["gc"]["value"] == 0.5
    # Codes were drawn at random, so nothing but the code itself tells classes apart; its place in the codon does.
    assert result["comparisons"][1]["matchings"]["all"]["scores"]["frame"]["low"] > 0.8


def test_the_files(done, toy_training):
    result, out = done
    assert sorted(p.name for p in out.iterdir()) == [
        "auroc.svg", "predictions.parquet", "report.html", "report.md", "results.json"
    ]  # fmt: skip
    assert json.loads((out / "results.json").read_text()) == json.loads(json.dumps(result))
    page = (out / "report.html").read_text()
    for words in ("A genome &lt;made up&gt;.", "same network, random weights", "<svg", "Nonsense against synonymous"):
        assert words in page
    assert "/tmp" not in page + (out / "results.json").read_text()
    assert markdown(result).count("| model |") == 2
    told = lines(result)
    model = next(line for line in told if line.startswith("  model"))
    assert "0." in model
    assert told[told.index(model) + 1].startswith("  same network, random weights")
    assert result["data"]["from"] == "genes"
    assert result["model"]["weights_hash"] == Predictor.load(toy_training, "cpu").weights_hash


def test_a_stopped_call_goes_on_to_the_same_bytes(done, folder, toy_training, tmp_path, monkeypatch):
    _, whole = done
    out = tmp_path / "out"
    real = scoring.write_part

    def stopping(place, number, table):
        if place.name == "random-1":
            raise KeyboardInterrupt
        return real(place, number, table)

    monkeypatch.setattr(scoring, "write_part", stopping)
    words = (toy_training, folder / "genes.fa", folder / "genes.gff3", out)
    with pytest.raises(KeyboardInterrupt):
        zero_shot(*words, settings=SETTINGS, device="cpu")
    assert [p.name for p in out.iterdir()] == ["zeroshot.parts"]
    monkeypatch.setattr(scoring, "write_part", real)
    with pytest.raises(RunError, match="holds an unfinished table of other inputs or settings"):
        zero_shot(*words, settings=replace(SETTINGS, seed=9), device="cpu")
    computed = []
    real_probs = scoring.base_log_probs
    monkeypatch.setattr(scoring, "base_log_probs", lambda p, w: computed.append(p.weights_hash) or real_probs(p, w))
    zero_shot(*words, settings=SETTINGS, device="cpu")
    assert set(computed) == {"random-1"}
    for path in whole.iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes(), path.name


def test_planted_harm_is_found_and_permuted_labels_are_a_coin(done, monkeypatch):
    """A score that knows the classes is told from one that does not, on the rows of a real draw."""
    _, out = done
    table = pq.read_table(out / "predictions.parquet")
    rng = np.random.default_rng(0)
    labels = np.array(table["class"].to_pylist()) == "nonsense"
    which = np.array(table["class"].to_pylist()) != "missense"
    _, genes = np.unique(table["cluster"].to_pylist(), return_inverse=True)
    comparison = runner.Comparison(labels[which], np.zeros(which.sum(), int), genes[which], 100, 0)
    assert comparison.area([(labels + rng.normal(0, 0.3, len(labels)))[which]]).value > 0.95
    scores = table["harm:frame:nonsense"].to_numpy()[which]
    coins = [
        runner.Comparison(rng.permutation(labels[which]), np.zeros(which.sum(), int), genes[which], 1, 0)
        .area([scores])
        .value
        for _ in range(100)
    ]
    assert abs(np.mean(coins) - 0.5) < 0.03


def test_common_and_rare_alleles(folder, toy_training, tmp_path):
    records = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    contig = (folder / "genes.fa").read_text().splitlines()[1]
    for i in range(50):
        position = 20 + 9 * i
        alt = "ACGT"["ACGT".index(contig[position]) - 1 - i % 3]
        records.append(f"one\t{position + 1}\t.\t{contig[position]}\t{alt}\t.\t.\tAC={1 if i % 2 else 30};AN=60")
    vcf = tmp_path / "a.vcf"
    vcf.write_text("\n".join(records) + "\n")
    settings = replace(SETTINGS, n_random=1, block_bp=60)
    result = zero_shot(
        toy_training, folder / "genes.fa", None, tmp_path / "out", vcf=vcf, settings=settings, device="cpu"
    )
    (comparison,) = result["comparisons"]
    assert (comparison["positive"], comparison["negative"]) == ("rare", "common")
    found = comparison["matchings"]["all"]
    assert (found["n_positive"], found["n_negative"]) == (25, 25)
    assert set(found["scores"]) == set(ROW_NAMES) - {"frame"}
    assert "frame" not in comparison["matchings"]
    assert "missing" in comparison["matchings"]["context"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Rare against common" in page
    assert "and 20 are needed" in page


def test_the_command(folder, toy_training, tmp_path):
    words = ["zeroshot", str(toy_training), str(folder / "genes.fa")]
    rest = ["-o", str(tmp_path / "out"), "--n-per-class", "21", "--set", "n_random=1", "--set", "window_bp=16", "-q"]
    ran = CliRunner().invoke(app, [*words, str(folder / "genes.gff3"), *rest, "--device", "cpu"])
    assert ran.exit_code == 0, ran.output
    assert "AUROC of nonsense against synonymous, all pairs (21 and 21" in ran.output
    assert "report " in ran.output
    for extra in ([], [str(folder / "genes.gff3"), "--vcf", "a.vcf"]):
        wrong = CliRunner().invoke(app, [*words, *extra, *rest])
        assert isinstance(wrong.exception, ConfigError)
        assert "name either a GFF3, for coding substitutions, or --vcf" in str(wrong.exception)
