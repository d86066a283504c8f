import json

import huggingface_hub
from bench_fakes import result
from calling import umbel
from huggingface_hub.errors import LocalEntryNotFoundError


def test_the_suites_are_listed(monkeypatch, capsys):
    code, out, _ = umbel(monkeypatch, capsys, "suite", "list")
    assert code == 0 and len(out.splitlines()) == 8
    assert "mpgb                 31 datasets, 11 tasks  CC-BY-NC-SA-4.0" in out
    code, out, _ = umbel(monkeypatch, capsys, "suite", "list", "mpgb")
    assert code == 0
    assert "poly_a.medicago_truncatula" in out and "pearson2/r2" in out
    assert "note: our guess: The paper uses 6 of the 7 chromatin sets of PGB and does not say which." in out
    code, out, _ = umbel(monkeypatch, capsys, "suite", "list", "gue", "--json")
    assert len(json.loads(out)["datasets"]) == 28
    code, out, _ = umbel(monkeypatch, capsys, "suite", "list", "--json")
    assert json.loads(out)["lrb"]["datasets"] == 9
    code, out, err = umbel(monkeypatch, capsys, "suite", "list", "mpg")
    assert (code, out) == (1, "") and err.startswith("error: no suite 'mpg'. Name one of mpgb")


def test_a_partial_folder_is_checked(monkeypatch, capsys, tmp_path):
    (tmp_path / "H3").mkdir()
    (tmp_path / "H3/train.fna").write_text(">a|1\n" + "ACGTN" * 100 + "\n>b|0\n" + "A" * 500 + "\n")
    (tmp_path / "H3/test.fna").write_text(">a|1\n" + "A" * 500 + "\n>b|0\n" + "A" * 499 + "\n")
    code, out, _ = umbel(monkeypatch, capsys, "suite", "check", "nt", tmp_path, "-q")
    assert code == 1
    assert "wrong: H3, train: 2 rows, and 13,468 are claimed" in out
    assert "missing: H3K14ac, " in out and "Get it with: umbel suite fetch nt -o FOLDER --dataset NAME." in out
    assert out.endswith("nt: not ok\n")
    (tmp_path / "H3/train.fna").write_text("".join(f">a|{i % 2}\n{'A' * 500}\n" for i in range(13_468)))
    code, out, _ = umbel(monkeypatch, capsys, "suite", "check", "nt", tmp_path, "-q")
    assert code == 1 and "wrong" not in out
    code, out, err = umbel(monkeypatch, capsys, "suite", "check", "nt", tmp_path, "--allow-missing")
    assert code == 0 and out.endswith("nt: ok\n") and "Checking" in err
    code, out, _ = umbel(monkeypatch, capsys, "suite", "check", "nt", tmp_path, "--dataset", "H3", "-q", "--json")
    told = json.loads(out)
    assert code == 0 and told["ok"] and told["splits"][0]["n_rows"] == 13_468


def test_fetching_offline_fails_with_the_page(monkeypatch, capsys, tmp_path):
    def offline(*_, **__):
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    code, out, err = umbel(monkeypatch, capsys, "suite", "fetch", "pgb", "-o", tmp_path)
    assert (code, out) == (1, "")
    assert err.startswith("licence: CC-BY-NC-SA-4.0 (https://huggingface.co/datasets/InstaDeepAI/plant-genomic")
    assert "error: pgb: poly_a/arabidopsis_thaliana_train.fa of InstaDeepAI/plant-genomic-benchmark cannot be" in err


def test_fetching_one_dataset(monkeypatch, capsys, tmp_path):
    def download(repo_id, filename, *, local_dir, **_):
        path = local_dir / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    words = ("suite", "fetch", "nt", "-o", tmp_path, "--dataset", "H3", "--dataset", "H4", "-q")
    code, out, err = umbel(monkeypatch, capsys, *words)
    assert (code, out, err) == (0, f"4 files in {tmp_path}\n", "")
    code, out, _ = umbel(monkeypatch, capsys, *words, "--json")
    assert len(json.loads(out)["files"]) == 4


def test_several_results_make_one_leaderboard(monkeypatch, capsys, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bench.json").write_text(json.dumps(result(["core_promoters"], name=name)))
    out = tmp_path / "page"
    code, told, _ = umbel(
        monkeypatch, capsys, "suite", "leaderboard", tmp_path / "a", tmp_path / "b/bench.json", "-o", out
    )
    assert code == 0 and told.splitlines() == [str(out / "leaderboard.html"), str(out / "leaderboard.md")]
    assert "A · a, adapter" in (out / "leaderboard.md").read_text()
    code, told, err = umbel(monkeypatch, capsys, "suite", "leaderboard", tmp_path / "c", "-o", out)
    assert (code, told) == (1, "") and "is not there. Give a folder that umbel bench has finished" in err
