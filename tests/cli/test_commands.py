"""Every command on toys, as a user calls it: output, exit codes, and what a wrong input says."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from calling import umbel
from planted import SEGMENT_BP, write_planted_project
from toys import toy_run, write_toy_project
from typer.testing import CliRunner

from umbel.cli import app
from umbel.config import to_dict

GOLDEN = Path(__file__).parents[1] / "golden" / "plantbimoe-tiny-top1"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "toy.json"
    path.write_text(json.dumps(to_dict(toy_run())))
    return str(path)


def test_help_is_quick_because_it_imports_no_torch():
    code = "import sys; from umbel.cli import main; sys.argv = ['umbel', 'pretrain', '--help']\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'transformers', 'numba', 'pyarrow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "continue a run that was" in done.stdout


@pytest.mark.parametrize("words", [["bloom"], ["pretrain"], ["embed", "--per"], ["corpus", "build", "--nope"]])
def test_wrong_usage_exits_with_2(words):
    assert CliRunner().invoke(app, words).exit_code == 2


def test_doctor(monkeypatch, capsys):
    code, out, _ = umbel(monkeypatch, capsys, "doctor", "--json")
    assert code == 0
    assert "selective_scan, float32 on cpu" in json.loads(out)["backends"]
    assert "selective_scan, float32 on cpu: cpu: numba" in umbel(monkeypatch, capsys, "doctor")[1]


def test_the_whole_path(monkeypatch, capsys, recipe, tmp_path):
    manifest = write_toy_project(tmp_path / "project")
    corpus, run, out = tmp_path / "corpus", tmp_path / "run", tmp_path / "results"
    code, text, _ = umbel(monkeypatch, capsys, "corpus", "build", manifest, "-o", corpus, "--recipe", recipe, "-q")
    assert code == 0
    assert "train" in text
    assert "windows dropped for N" in text
    assert umbel(monkeypatch, capsys, "corpus", "check", corpus)[0] == 0
    words = ("pretrain", recipe, "--corpus", corpus, "--out", run, "--set", "train.steps=6", "-q")
    code, text, err = umbel(monkeypatch, capsys, *words)
    assert (code, err) == (0, "")
    assert "validation loss" in text
    code, text, _ = umbel(
        monkeypatch, capsys, "embed", run, tmp_path / "project" / "toy0.fa", "-o", out / "e.parquet", "-q", "--json"
    )
    assert code == 0
    assert json.loads(text)["rows"] == pq.read_table(out / "e.parquet").num_rows
    few = ("--set", "n_draws=100", "--set", "probe_n_per_class=20", "--set", "max_k=2")
    code, text, _ = umbel(monkeypatch, capsys, "evaluate", run, "--corpus", corpus, "-o", out, "-q", *few)
    assert code == 0
    assert "random weights" in text
    assert (out / "report.html").stat().st_size > 10_000


def test_scan(monkeypatch, capsys, toy_training, tmp_path):
    from umbel.config import ModelConfig
    from umbel.data.kmers import KmerTokens
    from umbel.data.tokenizers import hf_tokenizer
    from umbel.model.checkpoint import save_checkpoint
    from umbel.model.hf import new_model

    config = ModelConfig(pattern="Hd Ad", n_layers=2, d_model=8, d_state=2, n_heads=2, ffn_hidden=8)
    save_checkpoint(tmp_path / "model", new_model(config, 256, 0), hf_tokenizer(KmerTokens(1), 256))
    fasta, out = tmp_path / "in.fa", tmp_path / "o.parquet"
    fasta.write_text(">a\n" + "ACGTT" * 60 + "\n>b\n" + "N" * 40 + "\n")
    words = ("scan", tmp_path / "model", fasta, "--track", "embeddings", "-o", out, "--bin-bp", 50, "-q")
    words = (*words, "--chunk-tokens", 60)
    code, text, err = umbel(monkeypatch, capsys, *words, "--overlap-tokens", 20, "--check-tokens", 200)
    assert (code, err) == (0, "")
    assert f"{out}: 7 rows\n  attention saw 20 tokens on either side: against one pass over 200 tokens" in text
    assert "1 of them have no token of A, C, G or T, and so no embedding" in text
    code, text, _ = umbel(monkeypatch, capsys, *words, "--json")
    told = json.loads(text)
    assert (code, told["rows"], told["without_tokens"]) == (0, 7, 1)
    assert (told["streaming"]["overlap_tokens"], told["streaming"]["cost"]["n_tokens"]) == (1024, 302)
    words = ("scan", toy_training, fasta, "-o", tmp_path / "x", "-q")
    code, _, err = umbel(monkeypatch, capsys, *words, "--track", "embeddings")
    assert (code, "Mamba layers, which also read against time" in err) == (1, True)
    assert not list(tmp_path.glob("x*"))


def test_scan_of_tracks(monkeypatch, capsys, toy_training, tmp_path):
    fasta = tmp_path / "in.fa"
    fasta.write_text(">a\n" + "ACGTT" * 60 + "\n>b\n" + "N" * 40 + "\n")
    words = ("scan", toy_training, fasta, "--workers", 1, "--n-passes", 2, "-q", "--contig", "a")
    code, text, err = umbel(monkeypatch, capsys, *words, "--dry-run")
    assert (code, err) == (0, "") and text.startswith("300 bases in 2 windows (about 2 with bases): about")
    code, text, err = umbel(monkeypatch, capsys, *words, "-o", tmp_path / "out")
    assert (code, err) == (0, "")
    assert f"{tmp_path / 'out'}: log_prob.bw, entropy.bw, constraint.bw, scan.json, igv.html" in text
    assert "  300 bases in 2 windows; 2 of them hold bases and were read" in text
    code, text, _ = umbel(
        monkeypatch, capsys, *words, "-o", tmp_path / "e", "--track", "experts", "--json", "--no-page"
    )
    assert code == 0 and json.loads(text)["model"]["layer"] == 1
    assert not (tmp_path / "e" / "igv.html").exists() and (tmp_path / "e" / "dominant.bed.gz.tbi").exists()
    for more, said in (
        (("--track", "probe"), "use zero-shot, head, experts or embeddings"),
        (("--call",), "called from a head that classifies bases"),
        (("--type", "exon"), "write it as label=term"),
        (("--contig", "c"), "no contig 'c'"),
    ):
        code, _, err = umbel(monkeypatch, capsys, *words, "-o", tmp_path / "x", *more)
        assert (code, said in err) == (1, True), err
    assert not list(tmp_path.glob("x*"))


def test_import_and_export(monkeypatch, capsys, tmp_path):
    code, text, _ = umbel(monkeypatch, capsys, "import", GOLDEN, "-o", tmp_path / "ours", "--json")
    assert code == 0
    assert json.loads(text)["parameters"] > json.loads(text)["active_parameters"]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {p.name for p in (tmp_path / "ours").iterdir()}
    assert umbel(monkeypatch, capsys, "export", tmp_path / "ours", "-o", tmp_path / "theirs")[0] == 0
    assert (tmp_path / "theirs" / "config.json").exists()
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    code, _, err = umbel(monkeypatch, capsys, "import", tmp_path, "-o", tmp_path / "x")
    assert code == 1
    assert "model_type is 'bert', must be 'plantbimoe'" in err
    assert not (tmp_path / "x").exists()


def test_a_vocabulary_is_learnt_and_refusals_write_nothing(monkeypatch, capsys, toy_corpus, tmp_path):
    train, out = ("tokenizer", "train", toy_corpus.path, "-o"), tmp_path / "words"
    code, text, err = umbel(monkeypatch, capsys, *train, out, "--vocab-size", 60, "--bases", "3_000", "--seed", 1)
    assert code == 0
    assert text.startswith(f"{out}: 60 tokens, the longest of ")
    assert f"--set tokens.kind=bpe --set tokens.file={out} --set model.vocab_size=60" in text
    assert "asked for" not in text
    assert "reading: 100%" in err
    assert "learning 48 words" in err
    assert {p.name for p in out.iterdir()} == {"tokenizer.json", "tokenizer_config.json", "tokenizer.facts.json"}
    many = ("--vocab-size", 40_000, "--bases", 600, "-q")
    code, text, err = umbel(monkeypatch, capsys, *train, tmp_path / "many", *many)
    assert (code, err) == (0, "")
    assert "40,000 were asked for: no further pair of tokens occurs twice in what was read" in text
    found = json.loads(umbel(monkeypatch, capsys, *train, tmp_path / "many", *many, "--json")[1])
    assert found["vocab_size"] < 1_000
    before = sorted(tmp_path.iterdir())
    for words, problem in (
        ((*train, out, "--vocab-size", 61), "words: holds a vocabulary of another corpus or other settings"),
        ((*train, tmp_path), "exists, and is no vocabulary of ours"),
        ((*train, tmp_path / "new", "--vocab-size", 12), "is to have 12 tokens: give at least 16"),
        (("tokenizer", "train", tmp_path / "none", "-o", tmp_path / "new"), "none: no corpus here"),
    ):
        code, text, err = umbel(monkeypatch, capsys, *words, "-q")
        assert (code, text, problem in err) == (1, "", True), err
    assert sorted(tmp_path.iterdir()) == before


def test_a_missing_extra_is_named_with_the_remedy(monkeypatch, capsys, tmp_path):
    from umbel import extras

    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "sklearn" else object())
    code, _, err = umbel(monkeypatch, capsys, "evaluate", tmp_path, "--corpus", tmp_path, "-o", tmp_path / "x")
    assert (code, err) == (1, "error: umbel evaluate needs sklearn: pip install 'umbel[train]'\n")


def break_fasta(text):
    def change(folder):
        (folder / "toy0.fa").write_text(text)

    return change


def truncate_gzip(folder):
    path = folder / "toy0.fa"
    path.write_bytes(gzip.compress(path.read_bytes())[:-400])


def rename_contig_in_manifest(folder):
    path = folder / "manifest.toml"
    path.write_text(path.read_text().replace('"lcl.3-b"', '"chr99"'))


def rename_contigs_in_gff3(folder):
    path = folder / "toy0.gff3"
    rows = path.read_text().splitlines()
    path.write_text("\n".join([rows[0], *("Chr" + row for row in rows[1:])]) + "\n")


BAD = {
    "empty FASTA": (break_fasta(""), ["toy0.fa", "empty"]),
    "record with no sequence": (break_fasta(">a\n>b\nACGT\n"), ["toy0.fa, line 1", "sequence"]),
    "duplicate contig names": (break_fasta(">a\nACGT\n>a x\nACGT\n"), ["toy0.fa, line 3", "line 1", "'a'"]),
    "protein letters": (break_fasta(">a\nACGT\nMKLV\n"), ["toy0.fa, line 3", "L"]),
    "truncated gzip": (truncate_gzip, ["toy0.fa", "gzip"]),
    "contig that is not there": (rename_contig_in_manifest, ["manifest.toml", "chr99", "toy0.fa", "lcl.3-b"]),
    "GFF3 of another assembly": (rename_contigs_in_gff3, ["toy0.gff3", "Chr"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_message_and_leaves_what_was_there(name, monkeypatch, capsys, recipe, tmp_path):
    manifest = write_toy_project(tmp_path)
    build = ("corpus", "build", manifest, "--recipe", recipe, "-q", "-o")
    assert umbel(monkeypatch, capsys, *build, tmp_path / "earlier")[0] == 0
    before = {p: p.read_bytes() for p in (tmp_path / "earlier").rglob("*") if p.is_file()}
    change, parts = BAD[name]
    change(tmp_path)
    code, out, err = umbel(monkeypatch, capsys, *build, tmp_path / "new")
    assert code == 1
    assert out == ""
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == 1
    for part in parts:
        assert part in err, err
    assert not (tmp_path / "new").exists()
    assert {p: p.read_bytes() for p in (tmp_path / "earlier").rglob("*") if p.is_file()} == before


def test_other_refusals_name_the_key(monkeypatch, capsys, recipe, toy_corpus, tmp_path):
    run = ("pretrain", recipe, "--corpus", toy_corpus.path, "--out", tmp_path / "run")
    for words, text in (
        (("--set", "optim.speed=3"), "no such setting. Write section.name=value; here one of: beta1"),
        (("--set", "optim.lr=fast"), "optim.lr"),
        (("--set", "model.pattern=Xe"), "pattern has Xe"),
        (("--device", "abacus"), "no such device"),
    ):
        code, _, err = umbel(monkeypatch, capsys, *run, *words)
        assert (code, text in err) == (1, True), err
    code, _, err = umbel(monkeypatch, capsys, "pretrain", "giant", "--corpus", toy_corpus.path, "-o", tmp_path / "run")
    assert (code, "giant: no such recipe" in err) == (1, True)
    code, _, err = umbel(monkeypatch, capsys, "pretrain", recipe, "--corpus", tmp_path, "-o", tmp_path / "run")
    assert (code, "no corpus here" in err) == (1, True)
    assert not (tmp_path / "run").exists()


def test_an_interrupt_exits_with_130_and_the_same_command_goes_on(recipe, toy_corpus, tmp_path):
    folder = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "umbel",
        "pretrain",
        recipe,
        "--corpus",
        str(toy_corpus.path),
        "--out",
        str(folder),
    ]
    command += ["--threads", "1", "--set", "train.steps=4000", "--quiet"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    metrics = folder / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_size > 500):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command continues from here" in err
    states = sorted((folder / "state").glob("step-*"))
    assert int(states[-1].name.split("-")[1]) == len([x for x in metrics.read_text().splitlines() if '"train"' in x])


def test_a_corpus_from_add_to_card(monkeypatch, capsys, tmp_path):
    manifest = write_planted_project(tmp_path / "in")
    settings = [
        *("--set", "corpus.window_bp=512", "--set", "corpus.duplicates.scaled=16"),
        *("--set", f"corpus.duplicates.segment_bp={SEGMENT_BP}", "--set", "corpus.min_n50_bp=0"),
    ]
    (tmp_path / "in/new.fa").write_text(">chr1\n" + "ACGTTGCA" * 300 + "\n")
    add = ("corpus", "add", manifest, "--species", "Arabidopsis thaliana", "--taxid", 3702, "--assembly", "new")
    code, text, _ = umbel(monkeypatch, capsys, *add, "--fasta", tmp_path / "in/new.fa", "--json")
    assert (
        code == 0
        and json.loads(text)["statistics"]["n_bases"] == 2_400
        and json.loads(text)["family"] == "Brassicaceae"
    )
    build = ("corpus", "build", manifest, *settings, "-q", "-o")
    code, text, _ = umbel(monkeypatch, capsys, *build, tmp_path / "good", "--workers", 2, "--json")
    assert code == 0 and json.loads(text)["duplicates"]["n_clusters"] >= 2
    assert (tmp_path / "good/corpus.html").read_text().startswith("<!doctype html>")
    code, text, _ = umbel(monkeypatch, capsys, "corpus", "check", tmp_path / "good", "--deep", "-q")
    assert code == 0 and "clusters of copies crosses a split (compared anew" in text
    code, text, _ = umbel(monkeypatch, capsys, "corpus", "card", tmp_path / "good", "-o", tmp_path / "card.html")
    assert code == 0 and (tmp_path / "card.html").read_text() == (tmp_path / "good/corpus.html").read_text()

    leaky = ("--set", "corpus.split.drop_copies=false")
    assert umbel(monkeypatch, capsys, *build, tmp_path / "leaky", *leaky)[0] == 0
    code, _, err = umbel(monkeypatch, capsys, "corpus", "check", tmp_path / "leaky")
    assert code == 1 and "clusters of copies that cross a split" in err and "(test)" in err

    (tmp_path / "in/new.fa").write_text(">chr1\n" + "ACGTTGCA" * 301 + "\n")
    code, _, err = umbel(monkeypatch, capsys, *build, tmp_path / "changed")
    assert code == 1 and "new.fa has changed since it was added" in err and not (tmp_path / "changed").exists()
    code, _, err = umbel(monkeypatch, capsys, *build, tmp_path / "other", "--executor", "spark")
    assert code == 2
