"""The folder of a study, and the command that makes it."""

import json

import pytest
import torch
import typer
from adapted import adapted
from causal_fakes import planted_predictor, planted_source, random_source, small_predictor
from pyarrow import csv, parquet
from test_atlas_causal_patching import tuned
from toys import NAMES, fasta_text, toy_gff3, toy_sequences
from typer.testing import CliRunner

from umbel.cli.experts_causal import causal
from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import hf_tokenizer
from umbel.errors import ConfigError, RunError
from umbel.evaluate.experts.causal.ablation import ablate, ablate_all, ablate_random
from umbel.evaluate.experts.causal.importance import specialisation_against_importance
from umbel.evaluate.experts.causal.patching import patch_routes
from umbel.evaluate.experts.causal.settings import CausalSettings
from umbel.evaluate.experts.causal.study import SCHEMAS, open_other, read_edits, study_causes
from umbel.model.adapters.files import AdapterCard, load_adapter, save_adapter
from umbel.model.checkpoint import load_checkpoint, save_checkpoint, weights_hash
from umbel.model.edited_router import KnockOut, Swap
from umbel.model.tuned import save_tuned, with_head
from umbel.predict.predictor import Predictor

SHAPE = {"n_layers": 2, "d_model": 8, "ffn_hidden": 8}
SETTINGS = CausalSettings(mask_frac=0.3, n_draws=100)


def test_tables_are_the_parts_side_by_side(tmp_path):
    predictor, source = small_predictor(), random_source(6)
    other = tuned(predictor, router=2.0)
    edits = [KnockOut(3, 1), Swap(1, 0, 2)]
    result = study_causes(predictor, source, tmp_path / "a", edits=edits, other=other, settings=SETTINGS)
    tables = {name: parquet.read_table(tmp_path / "a" / f"{name}.parquet").to_pylist() for name in SCHEMAS}
    for name, rows in tables.items():
        assert list(rows[0]) == list(SCHEMAS[name])
        assert csv.read_csv(tmp_path / "a" / f"{name}.csv").num_rows == len(rows)
    model = ablate(predictor, source, edits, tmp_path / "b", settings=SETTINGS).rows()
    twin = ablate_random(predictor, source, edits, tmp_path / "b", settings=SETTINGS).rows()
    for row, ours, random in zip(tables["ablation"], model, twin, strict=True):
        assert {key: row[key] for key in ours} == ours
        assert [row[f"random_{key}"] for key in ("delta", "low", "high")] == [
            random[k] for k in ("delta", "low", "high")
        ]
    patched = patch_routes(predictor, other, source, tmp_path / "b", settings=SETTINGS)
    assert tables["patched"] == patched.rows()
    assert [{k: v for k, v in row.items() if k != "patched"} for row in tables["split"]] == [
        *patched.split(with_weights=True),
        *patched.split(with_weights=False),
    ]
    stored = json.loads((tmp_path / "a" / "causal.json").read_text())
    assert stored == json.loads(json.dumps(result))
    assert (
        stored["model"]["weights_hash"] == "small-0" and stored["n_edits"] == 2 and stored["source"] == {"made": "up"}
    )
    # One expert of one layer has no rank.
    assert {one["overall"] for one in stored["importance"]} == {None}


def test_without_edits_every_expert_is_knocked_out_and_importance_is_compared(tmp_path):
    result = study_causes(
        planted_predictor(), planted_source(), tmp_path, with_random=False, name="planted", settings=SETTINGS
    )
    assert result["n_edits"] == 4 and result["split"] is None and not (tmp_path / "split.csv").exists()
    found = ablate_all(planted_predictor(), planted_source(), tmp_path / "again", settings=SETTINGS)
    assert [(one["labelling"], one["measure"]) for one in result["importance"]] == [
        ("region", "load"),
        ("region", "enrichment"),
        ("species", "load"),
        ("species", "enrichment"),
    ]
    load, enrichment = specialisation_against_importance(found, "region")
    for told, one in zip(result["importance"], (load, enrichment), strict=False):
        assert told["n_experts"] == 4 and told["overall"] == one.overall.to_dict()
    # Expert 2 takes fewest, and it alone costs anything: the least loaded is the most important.
    assert load.overall.value < -0.5
    # One species has nothing to be special to.
    assert result["importance"][3]["left_out"] == 4
    rows = parquet.read_table(tmp_path / "ablation.parquet").to_pylist()
    assert {row["random_delta"] for row in rows} == {None}


def test_again_gives_the_same_bytes(tmp_path):
    predictor, source = small_predictor(), random_source(6)
    files = []
    for _ in range(2):
        study_causes(predictor, source, tmp_path, edits=[KnockOut(1, 1)], settings=SETTINGS)
        files.append({path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()})
        source.stretch = None
    assert files[0] == files[1] and "causal.json" in files[0]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(RunError, match=r"out is a file\. Give a folder for the results with -o"):
        study_causes(small_predictor(), random_source(), tmp_path / "out")


def test_edits_are_read_in_every_mode():
    settings = CausalSettings(modes=("reroute", "silence"))
    assert read_edits(["3:1", "1:0"], ["1:0,2"], settings) == [
        KnockOut(3, 1),
        KnockOut(1, 0),
        KnockOut(3, 1, "silence"),
        KnockOut(1, 0, "silence"),
        Swap(1, 0, 2),
    ]


@pytest.mark.parametrize("text", ["3", "3:", "a:1", "3:1,2", "-3:1", ""])
def test_experts_that_cannot_be_read_are_refused(text):
    with pytest.raises(ConfigError, match=f"--knock-out '{text}': write LAYER:EXPERT, such as 3:1"):
        read_edits([text], [], SETTINGS)
    with pytest.raises(ConfigError, match="--swap '3:1': write LAYER:EXPERT,EXPERT"):
        read_edits([], ["3:1"], SETTINGS)


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("genome")
    (folder / "toy.fa").write_text(fasta_text(toy_sequences()))
    (folder / "toy.gff3").write_text(toy_gff3())
    base = small_predictor(**SHAPE)
    for name, predictor in (("model", base), ("tuned", tuned(base, router=2.0))):
        predictor._model.save_pretrained(folder / name)
    return folder


def test_what_tuning_made_gets_the_head_of_its_base(tmp_path):
    tokenizer = hf_tokenizer(KmerTokens(1), 64)
    save_checkpoint(tmp_path / "base", small_predictor(**SHAPE)._model, tokenizer)
    predictor = Predictor.load(tmp_path / "base", "cpu")
    ground = load_checkpoint(tmp_path / "base")
    with torch.no_grad():
        ground.backbone.layers[1].ffn.router.weight += 1
    moved = with_head(ground, {"kind": "binary", "names": ["no", "yes"]})
    save_tuned(tmp_path / "tuned", moved, tokenizer)
    other = open_other(predictor, tmp_path / "tuned")
    assert torch.equal(other.backbone.layers[1].ffn.router.weight, ground.backbone.layers[1].ffn.router.weight)
    assert torch.equal(other._model.lm_head.weight, predictor._model.lm_head.weight)
    assert other.weights_hash == weights_hash(tmp_path / "tuned")

    adapter = adapted(load_checkpoint(tmp_path / "base"), ("router", "experts"))
    facts = {"species": "una", "taxid": 1, "base": "base", "base_hash": predictor.weights_hash, "data_hash": "d" * 64}
    save_adapter(tmp_path / "adapter", adapter, AdapterCard(**facts, task={}, metrics={}))
    other = open_other(predictor, tmp_path / "adapter")
    merged = load_adapter(tmp_path / "base", tmp_path / "adapter")
    assert torch.equal(other.backbone.layers[1].ffn.gate, merged.backbone.layers[1].ffn.gate)
    assert not torch.equal(other.backbone.layers[1].ffn.gate, predictor.backbone.layers[1].ffn.gate)
    assert other.weights_hash not in (predictor.weights_hash, weights_hash(tmp_path / "tuned"))
    assert open_other(predictor, tmp_path / "base").weights_hash == predictor.weights_hash


def run(*words):
    app = typer.Typer()
    app.command()(causal)
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_command_measures_a_genome(genome, tmp_path):
    words = (genome / "model", genome / "toy.fa", genome / "toy.gff3", "-o", tmp_path / "out", "--n-windows", 12)
    more = ("--contig", NAMES[2], "--knock-out", "1:3", "--swap", "1:0,1", "--routes-of", genome / "tuned")
    shown = run(*words, *more, "--set", "n_draws=100", "--device", "cpu", "-q")
    assert shown.exit_code == 0, shown.output
    assert "masked loss" in shown.output and "before training" in shown.output
    assert "layer 1, experts 0 and 1, swap: " in shown.output
    assert "loss of the other checkpoint minus this one's" in shown.output
    rows = parquet.read_table(tmp_path / "out" / "ablation.parquet").to_pylist()
    assert {row["labelling"] for row in rows} >= {"all", "region", "repeat"}
    assert {(row["layer"], row["expert"], row["mode"]) for row in rows} == {(1, 3, "reroute"), (1, 0, "swap")}
    again = run(*words, *more, "--set", "n_draws=100", "--device", "cpu", "-q", "--json")
    told = json.loads(again.stdout)
    assert told["source"]["contigs"] == [NAMES[2]] and told["source"]["n_stretches"] == 12
    assert told["settings"]["n_draws"] == 100


def test_the_command_takes_modes_and_refuses_others(genome, tmp_path):
    words = (genome / "model", genome / "toy.fa", "-o", tmp_path / "out", "--n-windows", 4, "--device", "cpu", "-q")
    shown = run(*words, "--mode", "silence", "--mode", "mean", "--no-random", "--knock-out", "1:0", "--json")
    assert shown.exit_code == 0, shown.output
    told = json.loads(shown.stdout)
    assert told["settings"]["modes"] == ["silence", "mean"] and told["n_edits"] == 2 and not told["random"]
    wrong = run(*words, "--mode", "kill")
    assert str(wrong.exception) == "--mode kill: use reroute, silence or mean"
    wrong = run(*words, "--knock-out", "0:0")
    assert "layer 0 has no experts; those that have: 1" in str(wrong.exception)
