"""``umbel experts`` as a user calls it: a real piece of genome, sequences, and wrong input."""

import json
import math
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from calling import umbel
from toys import toy_run

from umbel import extras
from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import hf_tokenizer
from umbel.evaluate.experts.folder import Recording
from umbel.model.checkpoint import save_checkpoint
from umbel.model.hf import new_model

DATA = Path(__file__).parents[2] / "examples" / "data"
GENOME = (DATA / "thaliana.fa.gz", DATA / "thaliana.gff3.gz")
SMALL = ("--stretch-bp", 600, "--n-stretches", 6, "--n-shifts", 19, "--n-draws", 100, "-q")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model"
    save_checkpoint(path, new_model(toy_run().model, 256, 0), hf_tokenizer(KmerTokens(1), 256))
    return path


def test_an_atlas_of_a_real_piece_of_genome(model, tmp_path, monkeypatch, capsys):
    out = tmp_path / "atlas"
    # A stop before anything is recorded leaves a folder that may be used for another recording.
    assert umbel(monkeypatch, capsys, "experts", model, tmp_path / "none.csv", "-o", out, "-q")[0] == 1
    words = ("experts", "-o", out, model, *GENOME, *SMALL, "--ablate", 2, "--items")
    code, text, err = umbel(monkeypatch, capsys, *words)
    assert (code, err) == (0, "")
    lines = text.splitlines()
    assert lines[0] == str(out / "atlas.html")
    assert "3,600 bases in 6 stretches" in lines[1]
    made = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    for name in ("atlas.html", "atlas.json", "tables/enrichment.csv", "tables/enrichment.parquet", "tracks/igv.html"):
        assert name in made
    items = pq.read_table(out / "recording" / "items")
    facts = json.loads((out / "atlas.json").read_text())["facts"]
    assert facts["sample"]["n_items"] == items.num_rows
    assert (
        facts["model"]["name"] == "model"
        and "model: which expert takes which bases" in (out / "atlas.html").read_text()
    )
    assert {name for name in facts["tracks"] if name.endswith(".bw")} == {n for n in made if n.endswith(".bw")}
    assert {each["name"] for each in facts["labellings"]} >= {"region", "codon position"}
    experts = pq.read_table(out / "tables" / "experts.parquet").to_pylist()
    assert all(row["ablation"] is not None for row in experts)
    joint = Recording.load(out / "random-0").totals.sites[0].joint["region"].sum(0)
    share = joint / joint.sum()
    by_hand = sum(
        p * math.log(p / (share[c].sum() * share[:, e].sum()))
        for c, row in enumerate(share)
        for e, p in enumerate(row)
        if p
    )
    told = pq.read_table(out / "tables" / "information.parquet").to_pylist()
    assert next(row["random"] for row in told if row["labelling"] == "region" and row["site"] == 0) == pytest.approx(
        by_hand
    )
    # The same command again computes nothing anew, and leaves the same bytes.
    before = {name: (out / name).read_bytes() for name in made}
    assert umbel(monkeypatch, capsys, *words)[:2] == (0, text)
    assert {name: (out / name).read_bytes() for name in made} == before
    code, text, err = umbel(monkeypatch, capsys, "experts", "summary", out)
    assert (code, err, text.splitlines()) == (0, "", lines[1:])


def test_two_genomes(model, tmp_path, monkeypatch, capsys):
    beside = f"arenosa={DATA / 'arenosa.fa.gz'},{DATA / 'arenosa.gff3.gz'}"
    words = ("-o", tmp_path / "a", *SMALL, "--ablate", 1, "--track-layer", -2, "--beside", beside)
    code, text, err = umbel(monkeypatch, capsys, "experts", model, *GENOME, *words)
    assert (code, err) == (0, "") and "7,200 bases in 12 stretches" in text
    rows = pq.read_table(tmp_path / "a" / "tables" / "divergence.parquet").to_pylist()
    pairs = {(row["class_a"], row["class_b"]) for row in rows if row["labelling"] == "genome"}
    assert pairs == {("thaliana", "arenosa")}
    knocked = pq.read_table(tmp_path / "a" / "tables" / "ablation.parquet").to_pylist()
    assert {row["class"] for row in knocked if row["labelling"] == "genome"} == {"thaliana", "arenosa"}


def test_sequences_with_labels(model, tmp_path, monkeypatch, capsys):
    table = tmp_path / "tasks.csv"
    rows = ["sequence,kind"]
    for i in range(8):
        rows.append(f"{'ACGTTGCA' * 5}{'ACGT'[i % 4] * 20},{'ab'[i % 2]}")
    table.write_text("\n".join(rows) + "\n")
    out = tmp_path / "atlas"
    words = ("experts", "atlas", model, table, "-o", out, "--label", "kind", "--n-shifts", 19)
    words = (*words, "--n-draws", 100, "-q", "--json")
    code, text, err = umbel(monkeypatch, capsys, *words)
    assert (code, err) == (0, "")
    assert json.loads(text)["n_items"] == 8 * 60
    enrichment = pq.read_table(out / "tables" / "enrichment.parquet").to_pylist()
    assert {row["labelling"] for row in enrichment} == {"kind"} and {row["level"] for row in enrichment} == {"sequence"}
    notes = json.loads((out / "atlas.json").read_text())["facts"]["notes"]
    assert any("are for genomes" in note for note in notes)


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (("--track", "conservation.bw"), 1, "write it as name=file"),
        (("--contig", "chr9"), 1, "chr9"),
        (("--beside", "genome.fa"), 1, "write name=genome.fa or name=genome.fa,genes.gff3"),
        (("--beside", f"thaliana={GENOME[0]}"), 1, "two genomes are called 'thaliana'"),
        (("--window-bp", "300"), 1, "made for 256: use shorter ones"),
        (("--adapter", "x"), 1, "--adapter is for models of Hugging Face"),
        (("--n-draws", "1"), 2, "greater than or equal to 100"),
    ],
)
def test_wrong_usage_says_what_to_do(change, code, message, model, tmp_path, monkeypatch, capsys):
    got, text, err = umbel(monkeypatch, capsys, "experts", model, *GENOME, "-o", tmp_path / "a", *SMALL, *change)
    assert (got, text) == (code, "") and message in err.replace("\n", " ")
    assert not (tmp_path / "a" / "atlas.html").exists()


def test_experts_that_cannot_be_knocked_out_are_told(tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    shape = replace(toy_run().model, n_experts=2, top_k=2)
    save_checkpoint(tmp_path / "model", new_model(shape, 256, 0), hf_tokenizer(KmerTokens(1), 256))
    words = ("-o", tmp_path / "a", *SMALL, "--track-layer", -2, "--random", 0)
    code, text, err = umbel(monkeypatch, capsys, "experts", tmp_path / "model", *GENOME, *words)
    assert (code, err) == (0, "") and "No expert was knocked out: every token takes all of them." in text


def test_a_third_file_and_another_model_in_the_folder(model, tmp_path, monkeypatch, capsys):
    code, _, err = umbel(monkeypatch, capsys, "experts", model, *GENOME, GENOME[1], "-o", tmp_path / "a", *SMALL)
    assert code == 1 and "a genome is FASTA and GFF3, and there are 3 files" in err
    words = ("-o", tmp_path / "a", *SMALL, "--ablate", 0, "--track-layer", -2)
    assert umbel(monkeypatch, capsys, "experts", model, *GENOME, *words)[0] == 0
    code, _, err = umbel(monkeypatch, capsys, "experts", model, *GENOME, *words, "--seed", 1)
    assert code == 1 and "holds a recording with another source, settings" in err
    code, _, err = umbel(monkeypatch, capsys, "experts", "summary", tmp_path)
    assert code == 1 and "holds no expert atlas" in err


def test_the_state_of_a_run(toy_training, tmp_path, monkeypatch, capsys):
    state = next((toy_training / "state").iterdir())
    words = ("experts", state, *GENOME, *SMALL, "--ablate", 0, "--track-layer", -2, "--random", 0)
    code, text, err = umbel(monkeypatch, capsys, *words, "-o", tmp_path / "a")
    assert (code, err) == (0, "") and "3,600 bases" in text
    code, _, err = umbel(monkeypatch, capsys, *words, "-o", tmp_path / "b", "--precision", "bf16")
    assert code == 1 and "compute in fp32: leave --precision out" in err


def test_a_model_that_is_none(tmp_path, monkeypatch, capsys):
    (tmp_path / "config.json").write_text("{")
    code, _, err = umbel(monkeypatch, capsys, "experts", tmp_path, *GENOME, "-o", tmp_path / "a")
    assert code == 1 and "config.json: damaged" in err


@pytest.mark.parametrize("command", [(), ("compare",), ("causal",), ("summary",)])
def test_packages_that_are_missing_are_named_before_anything_is_read(command, monkeypatch, capsys):
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "scipy" else object())
    words = ("nothing",) if command == ("summary",) else ("nothing", "g.fa", "-o", "x")
    code, text, err = umbel(monkeypatch, capsys, "experts", *command, *words)
    assert (code, text) == (1, "") and "umbel experts needs scipy: pip install 'umbel[train]'" in err


@pytest.mark.slow
def test_killed_after_every_part_it_goes_on_to_the_same_bytes(model, tmp_path):
    words = [sys.executable, "-m", "umbel", "experts", model, *GENOME, *SMALL, "--ablate", 4, "--items"]

    def start(out):
        return subprocess.Popen([str(word) for word in (*words, "-o", out)])

    assert start(tmp_path / "whole").wait() == 0
    part = tmp_path / "part"
    for sign in ("recording/sums.npz", "random-0/sums.npz", "ablation", "tables", "tracks"):
        process = start(part)
        while process.poll() is None and not (part / sign).exists():
            time.sleep(0.005)
        process.kill()
        process.wait()
    assert start(part).wait() == 0

    def files(folder):
        # A killed process cannot take back the hidden file that it was writing; under its own name nothing is half.
        there = [p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")]
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in there}

    assert files(part) == files(tmp_path / "whole")
