"""umbel finetune from files: what it reads, chooses and keeps; test never decides; killed it goes on."""

import csv
import json

import numpy as np
import pytest
import torch

from umbel.config import FinetuneConfig, apply_settings
from umbel.data.kmers import KmerTokens
from umbel.errors import LabelError, RunError
from umbel.evaluate.finetuning import LabelledFiles, Species, finetune, load_tuned_run
from umbel.evaluate.scores.definitions import score
from umbel.evaluate.scores.predictions import Predictions
from umbel.files import sha256_file

FAST = ["epochs=2", "batch_size=16", "lr=[5e-3]", "stranded=true"]


def planted_rows(n, seed, flip=False):
    """Sequences of 40 bases, half of them with TATATATA; ``flip`` gives all the wrong label."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        letters = rng.choice(list("ACGT"), 40)
        if i % 2:
            place = rng.integers(0, 32)
            letters[place : place + 8] = list("TATATATA")
        rows.append(("".join(letters), ("none", "tata")[(i + flip) % 2]))
    return rows


def write(path, rows, header=("sequence", "label")):
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows([header, *rows])
    return path


@pytest.fixture
def files(tmp_path):
    return LabelledFiles(
        write(tmp_path / "train.csv", planted_rows(64, 1)),
        write(tmp_path / "valid.csv", planted_rows(24, 2)),
        write(tmp_path / "test.csv", planted_rows(24, 3)),
    )


def settings(*more):
    return apply_settings(FinetuneConfig(), [*FAST, *more])


@pytest.mark.parametrize("method", ["full", "adapter"])
def test_a_run_keeps_model_predictions_and_numbers_that_agree(toy_training, files, tmp_path, method):
    out = tmp_path / "out"
    before = sha256_file(toy_training / "checkpoint" / "model.safetensors")
    result = finetune(toy_training, files, out, config=settings(f"method={method}"), species=Species("Zea mays", 4577))
    assert json.loads((out / "finetune.json").read_text()) == json.loads(json.dumps(result))
    assert sha256_file(toy_training / "checkpoint" / "model.safetensors") == before
    run = out / "runs" / "seed-0-lr-0.005"
    said = Predictions.load(run / "test.parquet")
    told = score(said.task, said.targets, said.scores)
    assert {name: found["value"] for name, found in result["scores"]["test"].items()} == told
    assert tuple(result["task"]["names"]) == ("none", "tata")
    # The kept model says what was saved.
    model, tokens = load_tuned_run(toy_training, run), KmerTokens(1)
    rows = planted_rows(24, 3)
    for i in (0, 7, 23):
        ids = torch.from_numpy(tokens.encode(np.array(["ACGT".index(x) for x in rows[i][0]], np.uint8)).ids)[None]
        with torch.no_grad():
            probability = model(ids).logits.softmax(-1)[0]
        np.testing.assert_allclose(probability.numpy(), said.scores[i], atol=1e-5)
    if method == "adapter":
        card = json.loads((run / "adapter" / "adapter_card.json").read_text())["card"]
        assert card["species"] == "Zea mays" and card["taxid"] == 4577 and card["base_hash"] == before


def test_test_labels_decide_nothing(toy_training, files, tmp_path):
    first = finetune(toy_training, files, tmp_path / "a", config=settings("lr=[1e-3,5e-3]"))
    write(files.test, planted_rows(24, 3, flip=True))
    second = finetune(toy_training, files, tmp_path / "b", config=settings("lr=[1e-3,5e-3]"))
    assert first["lr"] == second["lr"] and first["scores"]["dev"] == second["scores"]["dev"]
    accuracies = [each["scores"]["test"]["accuracy"]["value"] for each in (first, second)]
    assert sum(accuracies) == pytest.approx(1)
    assert sorted(p.name for p in (tmp_path / "a" / "runs").iterdir()) == ["seed-0-lr-0.001", "seed-0-lr-0.005"]


def test_the_same_again_is_read_from_disk_and_another_setting_is_not(toy_training, files, tmp_path, monkeypatch):
    import umbel.evaluate.bench.tuned_rows as rows

    first = finetune(toy_training, files, tmp_path / "a", config=settings())
    calls, true = [], rows.tune
    monkeypatch.setattr(rows, "tune", lambda *a, **k: calls.append(1) or true(*a, **k))
    assert finetune(toy_training, files, tmp_path / "a", config=settings()) == first
    assert not calls
    finetune(toy_training, files, tmp_path / "a", config=settings("weight_decay=0.2"))
    assert len(calls) == 1


def test_killed_between_epochs_it_ends_in_the_same_numbers(toy_training, files, tmp_path, monkeypatch):
    import umbel.train.finetune.fitting as fitting

    whole = finetune(toy_training, files, tmp_path / "whole", config=settings("epochs=3"))
    true, counts = fitting._gradients, [0]

    def dying(*arguments):
        counts[0] += 1
        if counts[0] == 7:
            raise RuntimeError("power cut")
        return true(*arguments)

    monkeypatch.setattr(fitting, "_gradients", dying)
    with pytest.raises(RuntimeError, match="power cut"):
        finetune(toy_training, files, tmp_path / "cut", config=settings("epochs=3"))
    again = finetune(toy_training, files, tmp_path / "cut", config=settings("epochs=3"))
    assert again["scores"] == whole["scores"]
    assert not list((tmp_path / "cut" / "runs").glob(".*"))


def test_without_valid_a_part_of_train_is_dev_and_the_order_of_rows_does_not_matter(toy_training, tmp_path):
    rows = planted_rows(60, 1)
    found = []
    for name, shown in (("a", rows), ("b", rows[::-1])):
        files = LabelledFiles(write(tmp_path / f"{name}.csv", shown))
        result = finetune(toy_training, files, tmp_path / name, config=settings("epochs=1"))
        said = Predictions.load(tmp_path / name / "runs" / "seed-0-lr-0.005" / "dev.parquet")
        dev = {shown[int(each.removeprefix("row-")) - 2][0] for each in said.ids}
        found.append(dev)
        assert "test" not in result["scores"] and "near-duplicates together" in result["data"]["dev_from"]
    assert found[0] == found[1] and 3 <= len(found[0]) <= 9


def test_seeds_are_summed_up(toy_training, files, tmp_path):
    result = finetune(toy_training, files, tmp_path / "a", config=settings("seeds=[3,4]", "epochs=1"))
    assert [run["seed"] for run in result["runs"]] == [3, 4] and result["best_seed"] in (3, 4)
    assert len(result["scores"]["test"]["auroc"]["by_seed"]) == 2


def test_what_cannot_be_is_refused(toy_training, files, tmp_path):
    write(files.valid, planted_rows(64, 1)[:5] + planted_rows(10, 8))
    with pytest.raises(LabelError, match=r"valid.csv.*5 of 15 sequences"):
        finetune(toy_training, files, tmp_path / "a", config=settings())
    write(files.valid, [*planted_rows(10, 8), ("ACGTACGT", "other")])
    with pytest.raises(LabelError, match="other"):
        finetune(toy_training, files, tmp_path / "a", config=settings())
    write(files.valid, [*planted_rows(10, 8), ("ACGT" * 100, "tata")])
    with pytest.raises(LabelError, match="longer than the 256 bases"):
        finetune(toy_training, files, tmp_path / "a", config=settings())
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file"):
        finetune(toy_training, files, tmp_path / "file", config=settings())


def test_forgetting_is_told(toy_training, toy_corpus, files, tmp_path):
    result = finetune(toy_training, files, tmp_path / "a", config=settings("epochs=1"), corpus=toy_corpus.path)
    rows = result["forgetting"]["species"]["all species"]["rows"]
    assert set(rows) == {"base", "tuned", "random"}


@pytest.mark.parametrize("kind", ["regression", "multilabel", "bases"])
def test_adapters_of_other_tasks_come_back_from_disk_as_they_were(toy_training, tmp_path, kind):
    from umbel.evaluate.scores.predictions import sigmoid, softmax
    from umbel.train.finetune.outputs import say_outputs

    def rows(n, seed):
        rng = np.random.default_rng(seed)
        found = []
        for letters in ("".join(rng.choice(list("ACGT"), 40)) for _ in range(n)):
            share = (letters.count("G") + letters.count("C")) / 40
            if kind == "regression":
                found.append((letters, str(100 * share), str(rng.normal())))
            elif kind == "multilabel":
                found.append((letters, f"{int(share > 0.5)}", f"{int('TAT' in letters)}"))
            else:
                found.append((letters, "".join(("GC".count(letter) and "s") or "w" for letter in letters)))
        return found

    header = ("sequence", "label") if kind == "bases" else ("sequence", "a", "b")
    label = () if kind == "bases" else ("a", "b")
    files = LabelledFiles(
        write(tmp_path / "t.csv", rows(48, 1), header), write(tmp_path / "v.csv", rows(16, 2), header), label=label
    )
    result = finetune(toy_training, files, tmp_path / "o", config=settings("method=adapter", "epochs=1"))
    assert result["task"]["kind"] == kind
    run = tmp_path / "o" / "runs" / "seed-0-lr-0.005"
    said = Predictions.load(run / "dev.parquet")
    model = load_tuned_run(toy_training, run)
    dev = files.read(files.valid, said.task).examples
    outputs = say_outputs(model, KmerTokens(1), dev, stranded=True)
    flat = np.concatenate(outputs) if kind == "bases" else np.stack(outputs)
    scores = {"regression": lambda x: x, "multilabel": sigmoid, "bases": softmax}[kind](flat)
    np.testing.assert_allclose(scores, said.scores, atol=2e-5 * max(1, abs(said.scores).max()))
    if kind == "regression":
        assert 20 < said.scores[:, 0].mean() < 80
