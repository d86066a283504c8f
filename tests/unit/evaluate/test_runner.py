import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_fakes import CompositionPredictor, FakeCorpus, draw_bases, planted_regions
from toys import toy_run, write_toy_project

from umbel.config import CorpusConfig
from umbel.data.bpe import FIXED, BpeTokens
from umbel.data.corpus.build import build_corpus
from umbel.data.corpus.store import Corpus
from umbel.data.tokenizers import describe, hf_tokenizer
from umbel.errors import ConfigError, CorpusError, RunError
from umbel.evaluate import runner
from umbel.evaluate.facts import find_run, run_facts
from umbel.evaluate.runner import EvaluationSettings, evaluate_checkpoint, evaluate_predictor, read_settings
from umbel.evaluate.stages import code_version, refuse_non_finite
from umbel.evaluate.training_curve import MAX_POINTS, read_curve
from umbel.evaluate.wording import limits
from umbel.model.checkpoint import save_checkpoint
from umbel.model.hf import new_model
from umbel.train.pretrain import pretrain

SETTINGS = EvaluationSettings(n_draws=100, probe_n_per_class=60, max_k=2)


@pytest.fixture(scope="module")
def corpus() -> Any:
    contigs = {}
    for seed, (role, n_bp) in enumerate((("train", 60_000), ("valid", 30_000), ("test", 60_000))):
        codes, regions = planted_regions(n_bp, seed)
        contigs[role] = (role, codes, np.arange(n_bp) % 1000 < 200, regions)
    return FakeCorpus(contigs)


def evaluate(predictor: Any, corpus: Any, out: Path, settings: EvaluationSettings = SETTINGS, **more: Any) -> Any:
    return evaluate_predictor(predictor, corpus, out, settings=settings, name="toy", **more)


def test_everything_is_written_and_finite(corpus: Any, tmp_path: Path) -> None:
    result = evaluate(CompositionPredictor(), corpus, tmp_path / "out")
    stored = json.loads((tmp_path / "out" / "evaluation.json").read_text(), parse_constant=pytest.fail)
    assert stored == json.loads(json.dumps(result))
    assert "What toy learned" in (tmp_path / "out" / "report.html").read_text()
    loss = result["masked_loss"]
    assert set(loss["rows"]) == {"model", "random", "composition", "markov"}
    assert loss["rows"]["random"]["all"]["loss"]["value"] == pytest.approx(math.log(4))
    assert set(result["probe"]["rows"]) == {"model", "random", "kmer", "gc"}
    assert len(result["experts"]["layers"]) == 2
    assert result["verdict"][0].startswith("Masked bases: the model ")
    assert result["curve"]["missing"].startswith("This checkpoint lies in no run folder")


def test_finished_stages_are_not_run_again(corpus: Any, tmp_path: Path) -> None:
    """As after a kill during the experts stage: only that stage is computed, and the bytes come out the same."""
    evaluate(CompositionPredictor(), corpus, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    (tmp_path / "stages" / "experts.json").unlink()
    (tmp_path / "evaluation.json").unlink()
    predictor = CompositionPredictor()
    evaluate(predictor, corpus, tmp_path)
    assert set(predictor.calls) == {"routes"}
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("change", ["settings", "weights", "code"])
def test_another_key_computes_again(
    corpus: Any, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(CompositionPredictor(), corpus, tmp_path)
    predictor, settings = CompositionPredictor(), SETTINGS
    if change == "settings":
        settings = EvaluationSettings(n_draws=100, probe_n_per_class=60, max_k=2, seed=1)
    if change == "weights":
        predictor.weights_hash = "beef"
    if change == "code":
        monkeypatch.setattr(runner, "code_version", lambda: "other")
    from umbel.progress import Reporter

    evaluate(predictor, corpus, tmp_path, settings, reporter=Reporter())
    assert set(predictor.calls) == {"masked_log_probs", "embed", "routes"}
    assert f"loss_model: computed again, because of another {change}" in capsys.readouterr().err


def test_a_damaged_stage_is_computed_again(corpus: Any, tmp_path: Path) -> None:
    evaluate(CompositionPredictor(), corpus, tmp_path)
    (tmp_path / "stages" / "loss_model.json").write_text('{"key"')
    predictor = CompositionPredictor()
    evaluate(predictor, corpus, tmp_path)
    assert set(predictor.calls) == {"masked_log_probs"}


def test_all_rows_see_the_same_hidden_bases(corpus: Any, tmp_path: Path) -> None:
    evaluate(CompositionPredictor(), corpus, tmp_path)
    stages = {name: json.loads((tmp_path / "stages" / f"{name}.json").read_text())["result"] for name in
              ("loss_model", "loss_random", "baselines")}  # fmt: skip
    counts = stages["loss_model"]["n_bases"]
    assert counts == stages["loss_random"]["n_bases"]
    assert all(row["n_bases"] == counts for row in stages["baselines"]["rows"].values())


def test_windows_can_be_limited(corpus: Any, tmp_path: Path) -> None:
    result = evaluate(CompositionPredictor(), corpus, tmp_path, EvaluationSettings(n_windows=20, n_draws=100, max_k=1))
    assert result["corpus"]["n_windows_used"] == result["experts"]["n_windows"] == 20
    assert result["masked_loss"]["n_windows"]["all"] == 20


def test_without_test_windows_there_is_no_evaluation(corpus: Any, tmp_path: Path) -> None:
    only: Any = FakeCorpus({"train": corpus._contigs["train"]})
    with pytest.raises(CorpusError, match=r"no test windows.*role test in the manifest and build the corpus again"):
        evaluate(CompositionPredictor(), only, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_valid_contigs_the_markov_row_and_the_probe_say_so(corpus: Any, tmp_path: Path) -> None:
    some: Any = FakeCorpus({role: corpus._contigs[role] for role in ("train", "test")})
    result = evaluate(CompositionPredictor(), some, tmp_path)
    assert "nothing to choose k on" in result["masked_loss"]["markov"]["missing"]
    assert "markov" not in result["masked_loss"]["rows"]
    assert result["probe"] == {"missing": "The corpus has no valid contigs."}
    assert "nothing to choose k on" in (tmp_path / "report.html").read_text()


def test_no_hidden_base_is_refused(tmp_path: Path) -> None:
    corpus: Any = FakeCorpus({role: (role, draw_bases((0.25,) * 4, 80, 0), None, None) for role in ("train", "test")})
    settings = EvaluationSettings(mask_frac=1e-9, n_draws=100, max_k=0)
    with pytest.raises(CorpusError, match=r"no base of the chosen test windows was hidden\. Raise mask_frac"):
        evaluate(CompositionPredictor(), corpus, tmp_path, settings)


def test_a_file_in_the_way_is_refused(corpus: Any, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(RunError, match=r"out is a file\. Give a folder for the results with -o"):
        evaluate(CompositionPredictor(), corpus, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_no_number_that_is_none_gets_out(bad: float) -> None:
    with pytest.raises(RunError, match=r"evaluation\.rows\[1\]\.loss came out as"):
        refuse_non_finite({"rows": [{"loss": 1.0}, {"loss": bad}]}, "evaluation")


def test_settings_from_texts() -> None:
    assert read_settings([]) == EvaluationSettings()
    assert read_settings(["seed=1", "mask_frac=0.2", "seed=2"]) == EvaluationSettings(seed=2, mask_frac=0.2)
    with pytest.raises(ConfigError, match=r"--set seeds=1: no such setting\. Write name=value; here one of: seed, mas"):
        read_settings(["seeds=1"])
    with pytest.raises(ConfigError, match="--set seed: no such setting"):
        read_settings(["seed"])
    with pytest.raises(ConfigError, match="--set: max_k: "):
        read_settings(["max_k=9"])
    with pytest.raises(ConfigError, match="--set: mask_frac: "):
        read_settings(["mask_frac=much"])


def test_run_folder_is_found_from_either_end(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoint").mkdir(parents=True)
    (tmp_path / "run" / "checkpoint" / "config.json").write_text("{}")
    assert find_run(tmp_path / "run") == (tmp_path / "run" / "checkpoint", tmp_path / "run")
    assert find_run(tmp_path / "run" / "checkpoint") == (tmp_path / "run" / "checkpoint", None)
    (tmp_path / "run" / "run.json").write_text("{}")
    assert find_run(tmp_path / "run" / "checkpoint") == (tmp_path / "run" / "checkpoint", tmp_path / "run")


def test_facts_of_the_run(corpus: Any, tmp_path: Path) -> None:
    config = {"name": "tiny", "model": {"pattern": "Md Me", "n_layers": 8, "d_model": 128}}
    (tmp_path / "run.json").write_text(json.dumps({"config": config, "corpus": {"path": "c", "hash": corpus.hash}}))
    lines = [{"kind": "train", "step": step, "loss": 2.0 - step / 10} for step in range(1, 4)]
    lines.append({"kind": "valid", "step": 3, "loss": 1.5})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = evaluate(CompositionPredictor(), corpus, tmp_path / "out", run=tmp_path)
    assert result["run"]["recipe"] == "tiny" and result["run"]["corpus_hash"] == corpus.hash
    assert result["curve"]["train"] == {"step": [1.0, 2.0, 3.0], "loss": [1.9, 1.8, 1.7]}
    (tmp_path / "run.json").write_text("{}")
    assert run_facts(tmp_path) == {"missing": "run.json could not be read (KeyError)"}


def test_long_curves_become_means(tmp_path: Path) -> None:
    lines = [json.dumps({"kind": "train", "step": step, "loss": float(step)}) for step in range(1000)]
    lines[3] = '{"kind": "train", "step": 3, "loss": NaN}'
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"kind": "tr')
    curve = read_curve(tmp_path)
    assert len(curve["train"]["step"]) <= MAX_POINTS and curve["steps_per_point"] == 3
    assert curve["train"]["loss"][0] == 1.0 and curve["n_skipped"] == 1 and curve["n_steps"] == 999


def test_runs_without_a_record_say_so(tmp_path: Path) -> None:
    assert "no metrics.jsonl" in read_curve(tmp_path)["missing"]
    (tmp_path / "metrics.jsonl").write_text('{"kind": "train", "step": 1, "loss": NaN}\n')
    assert "holds no finite loss" in read_curve(tmp_path)["missing"]


def test_code_version_names_the_release() -> None:
    assert code_version().startswith("0.1.0+") and code_version() == code_version()


def test_a_real_run_on_a_real_corpus(tmp_path: Path) -> None:
    """Files, network and tables together."""
    manifest = write_toy_project(tmp_path, contig_bp=12_000)
    run = toy_run()
    build_corpus(manifest, tmp_path / "corpus", run.corpus)
    pretrain(run, tmp_path / "corpus", tmp_path / "run", device="cpu")
    settings = EvaluationSettings(n_windows=12, n_draws=100, probe_bp=64, probe_n_per_class=20, max_k=3)
    result = evaluate_checkpoint(
        tmp_path / "run", tmp_path / "corpus", tmp_path / "out", settings=settings, device="cpu"
    )
    assert result["model"]["name"] == "run" and result["model"]["moe_layers"] == [1]
    assert result["run"]["recipe"] == "toy" and result["run"]["corpus_hash"] == result["corpus"]["hash"]
    assert result["curve"]["n_steps"] == 12 and len(result["curve"]["valid"]["step"]) == 2
    assert set(result["masked_loss"]["rows"]) == {"model", "random", "composition", "markov"}
    assert len(result["experts"]["layers"][0]["share"]["all"]) == 3
    assert "missing" in result["probe"] or "model" in result["probe"]["rows"]
    assert not any("another corpus" in line for line in limits(result))


def test_a_model_of_words_is_asked_about_the_same_bases(
    toy_corpus: Any, toy_training: Any, toy_packed_training: Any, tmp_path: Path
) -> None:
    settings = EvaluationSettings(n_windows=6, n_draws=100, max_k=1)
    single, words = (
        evaluate_checkpoint(run, toy_corpus.path, tmp_path / run.name, settings=settings, device="cpu")
        for run in (toy_training, toy_packed_training)
    )
    assert single["masked_loss"]["n_bases"] == words["masked_loss"]["n_bases"]
    for row in ("composition", "markov"):
        assert single["masked_loss"]["rows"][row] == words["masked_loss"]["rows"][row]
    # An untrained model knows nothing, whatever the words.
    assert words["masked_loss"]["rows"]["random"]["all"]["loss"]["value"] == pytest.approx(math.log(4), abs=0.02)
    assert single["experts"]["n_bases"] == words["experts"]["n_bases"]
    assert (single["curve"]["per"], words["curve"]["per"]) == ("base", "token")
    page = (tmp_path / "toy3" / "report.html").read_text()
    assert "Per token: a token is more than one base here" in page and "nats per token" in page
    assert "Per token" not in (tmp_path / "toy" / "report.html").read_text()


def test_learnt_words_are_refused_before_anything_is_written(toy_corpus: Any, tmp_path: Path) -> None:
    tokens = BpeTokens([*FIXED, "AC", "ACG"], [("A", "C"), ("AC", "G")])
    model = new_model(replace(toy_run().model, vocab_size=tokens.size), 256, 0, describe(tokens))
    save_checkpoint(tmp_path / "ckpt", model, hf_tokenizer(tokens, 256))
    with pytest.raises(ConfigError, match=r"learnt words \(BPE\).*no masked loss per base"):
        evaluate_checkpoint(tmp_path / "ckpt", toy_corpus.path, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_windows_shorter_than_a_token_are_refused_before_anything_is_written(
    toy_manifest: Any, toy_packed_training: Any, tmp_path: Path
) -> None:
    settings = CorpusConfig(window_bp=256, overlap_bp=0, min_window_bp=1)
    short = build_corpus(toy_manifest, tmp_path / "short", settings)
    lengths = [len(short.read_window(i)[0]) for i in range(short.n_windows)]
    opened = Corpus.open(short.path)
    opened.require_length(min(lengths))
    with pytest.raises(CorpusError, match=rf"window \S+:\d+-\d+ has {min(lengths)} bases.*corpus.min_window_bp=300 or"):
        opened.require_length(300)
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch, pytest.raises(CorpusError, match="and the tokens have 3"):
        patch.setattr(Corpus, "window_sizes", lambda self, ids: (np.full(len(ids), 2), np.full(len(ids), 2)))
        evaluate_checkpoint(toy_packed_training, short.path, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()
