"""``mini`` wherever a checkpoint is asked for: on the command line, and in the calls behind it."""

import gzip
import json
import time
from pathlib import Path
from typing import get_type_hints

import pytest
import torch
from calling import umbel
from safetensors.torch import load_file

import umbel as package
from umbel.cli import app
from umbel.cli.experts_compare import sort_out
from umbel.config import FinetuneConfig, apply_settings
from umbel.evaluate.bench.runner import bench
from umbel.evaluate.experts.causal.study import open_other
from umbel.evaluate.experts.compare.opening import kind_of, open_checkpoint
from umbel.evaluate.facts import find_run, run_facts
from umbel.evaluate.finetuning import LabelledFiles, finetune
from umbel.evaluate.zero_shot.runner import zero_shot
from umbel.model.checkpoint import export_released, weights_hash
from umbel.model.shipped import shipped_folder
from umbel.predict.head import Head

DATA = Path(__file__).parents[2] / "examples" / "data"
FASTA = DATA / "thaliana.fa.gz"
MINI = shipped_folder("mini")


def parameters(app, path=()):
    """Every parameter of every command as it was declared: words of the command and name, and typer's description."""
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        for parameter, kind in get_type_hints(command.callback, include_extras=True).items():
            if parameter != "return":
                yield (*path, name, parameter), kind.__metadata__[0]
    for group in app.registered_groups:
        yield from parameters(group.typer_instance, (*path, group.name))


ALL = dict(parameters(app))
TAKE_A_MODEL = {
    name: described
    for name, described in ALL.items()
    if described.metavar in ("CKPT", "CKPT2", "MODEL") or name[-1] in ("checkpoint", "base", "weights")
}


def test_every_command_that_uses_a_model_is_looked_at():
    wanted = ["embed", "variants", "ism", "scan", "search", "zeroshot", "evaluate", "bench", "finetune", "predict"]
    commands = {(name,) for name in (*wanted, "pretrain", "export")}
    assert {name[:-1] for name in TAKE_A_MODEL} == commands | {
        ("experts", name) for name in ("atlas", "causal", "compare")
    }


@pytest.mark.parametrize("name", TAKE_A_MODEL, ids=" ".join)
def test_the_name_means_the_model_of_the_package(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parse = TAKE_A_MODEL[name].parser
    assert parse("mini") == MINI
    assert parse("./mini") == Path("mini")


def test_checkpoints_to_compare_go_by_name_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.fa").write_text(">a\nACGT\n")
    assert sort_out(["mini", "a.fa"]) == ({"mini": MINI}, [Path("a.fa")])
    assert sort_out(["small=mini", "a.fa"])[0] == {"small": MINI}


def test_library_calls_take_the_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert kind_of("mini") == "checkpoint"
    checkpoint, predictor = open_checkpoint("m", "mini", "cpu")
    assert predictor is not None and predictor.source == MINI
    assert open_other(predictor, "mini").weights_hash == predictor.weights_hash == weights_hash("mini")
    assert checkpoint.facts["source"] == "mini"
    assert find_run("mini") == (MINI, MINI)
    config = json.loads((MINI / "run.json").read_text())["config"]
    assert run_facts(MINI)["recipe"] == config["name"]
    export_released("mini", tmp_path / "released")
    assert package.load(tmp_path / "released", "cpu").n_parameters == predictor.n_parameters


def test_embed_and_variants_from_anywhere(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.fa").write_text(">a\n" + "ACGTTGCA" * 40 + "\n")
    code, _, err = umbel(monkeypatch, capsys, "embed", "mini", "a.fa", "-o", "a.parquet")
    assert code == 0 and err.count("error") == 0 and (tmp_path / "a.parquet").is_file()
    (tmp_path / "a.vcf").write_text(
        "##fileformat=VCFv4.2\n##contig=<ID=a,length=320>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
        "a\t161\t.\tA\tT\t.\t.\t.\n"
    )
    words = ["variants", "mini", "a.vcf", "a.fa", "-o", "b.vcf.gz", "--background", "0", "--json"]
    code, out, _ = umbel(monkeypatch, capsys, *words)
    assert code == 0 and json.loads(out)
    assert "UMBEL_LLR=" in gzip.decompress((tmp_path / "b.vcf.gz").read_bytes()).decode()


def test_a_folder_of_that_name_makes_the_command_stop(monkeypatch, capsys, toy_training, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mini").symlink_to(toy_training)
    (tmp_path / "a.fa").write_text(">a\n" + "ACGTTGCA" * 40 + "\n")
    code, _, err = umbel(monkeypatch, capsys, "embed", "mini", "a.fa", "-o", "a.parquet")
    assert code == 1 and err.startswith("error: mini: this could be the model that comes with umbel")
    assert umbel(monkeypatch, capsys, "embed", "./mini", "a.fa", "-o", "a.parquet", "-q")[0] == 0


def rows(n, first):
    letters = ["ACGTTGCAAC", "TTGACCATGA", "GGATCTTACG", "CATGACTTGC"]
    sequences = [letters[(i + first) % 4] + letters[i // 4 % 4] + letters[(i // 16 + first) % 4] for i in range(n)]
    return [f"{one}{'TATATATA' if i % 2 else 'GCCGGCCG'},{'ab'[i % 2]}" for i, one in enumerate(sequences)]


@pytest.mark.parametrize("method", ["full", "adapter"])
def test_tuning_starts_from_the_name_and_finds_it_again(method, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, n, first in (("train", 24, 0), ("valid", 8, 1)):
        Path(f"{name}.csv").write_text("\n".join(["sequence,label", *rows(n, first)]) + "\n")
    files = LabelledFiles(Path("train.csv"), Path("valid.csv"), keep_copies=True)
    settings = [f"method={method}", "epochs=1", "lr=[1e-3]", "batch_size=8", "stranded=true"]
    result = finetune("mini", files, "out", config=apply_settings(FinetuneConfig(), settings), device="cpu")
    assert result["base"] == {"path": "mini", "weights_hash": weights_hash("mini")}
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    head = Head.load(tmp_path / "out", "cpu")
    assert head.task.names == ("a", "b")
    kept = tmp_path / "out" / "runs" / result["best_run"]
    file = "adapter/adapter_model.safetensors" if method == "adapter" else "model/model.safetensors"
    assert {value.dtype for value in load_file(kept / file).values()} == {torch.float32}
    if method == "adapter":
        card = json.loads((kept / "adapter" / "adapter_card.json").read_text())["card"]
        assert (card["base"], card["base_hash"]) == ("mini", weights_hash("mini"))
        assert Head.load(kept / "adapter", "cpu", base="mini").task.names == ("a", "b")


def test_zero_shot_and_bench_get_as_far_as_their_data(tmp_path, monkeypatch):
    """Both load the model before they read; what stops them here is not the model."""
    monkeypatch.chdir(tmp_path)
    Path("no_genes.gff3").write_text("##gff-version 3\n")
    with pytest.raises(package.UmbelError, match="no_genes"):
        zero_shot("mini", FASTA, "no_genes.gff3", "out", device="cpu")
    with pytest.raises(package.UmbelError, match="mpgb"):
        bench("mini", "mpgb", tmp_path / "none", "out")


def test_a_first_variant_is_there_in_seconds(tmp_path):
    """In processor time with a margin of three, because this machine may be busy; kernels are on disk by now."""
    lines = (DATA / "accession.vcf").read_text().splitlines(keepends=True)
    records = [line for line in lines if not line.startswith("#")]
    (tmp_path / "one.vcf").write_text("".join(line for line in lines if line.startswith("#")) + records[0])
    package.load("mini", "cpu").score_variants(tmp_path / "one.vcf", FASTA)
    began = time.process_time()
    table = package.load("mini", "cpu").score_variants(tmp_path / "one.vcf", FASTA)
    assert time.process_time() - began < 3 * 5
    assert table.num_rows == 1 and table["llr"][0].is_valid
