"""The card of mini: made of results alone, the same again, and refused where a result does not fit the weights."""

import hashlib
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
MINI = ROOT / "benchmarks" / "mini"
SHIPPED = ROOT / "src" / "umbel" / "model" / "shipped" / "mini"


@pytest.fixture(scope="module")
def scripts():
    """The scripts of mini as modules; their folder is on the path while they are read."""
    before = list(sys.path)
    sys.path.insert(0, str(MINI))
    try:
        yield {
            name: importlib.import_module(name) for name in ("held_out", "card", "card_tables", "strength", "scaling")
        }
    finally:
        sys.path[:] = before


def estimate(value):
    return {"value": value, "low": value - 0.01, "high": value + 0.01}


def both(value):
    return {"loss": estimate(value), "accuracy": estimate(value / 4)}


@pytest.fixture
def project(tmp_path):
    """A shipped folder, results of regions and scaling, and a manifest."""
    shipped, results = tmp_path / "mini", tmp_path / "results"
    shipped.mkdir()
    results.mkdir()
    (shipped / "model.safetensors").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    run = {
        "config": {
            "model": {"pattern": "Md Me", "n_layers": 4, "d_model": 64, "n_experts": 4, "top_k": 1},
            "corpus": {"window_bp": 512},
            "train": {"batch_windows": 8},
            "optim": {"kind": "adamw", "lr": 0.001},
            "tokens": {"k": 1},
            "masking": {"mask_frac": 0.15},
        },
        "n_parameters": 385856,
        "n_active_parameters": 200000,
        "device": "cpu",
        "device_name": None,
        "threads": 1,
        "processes": 2,
        "umbel": "0.1.0",
        "commit": "abc",
        "corpus": {"hash": "c0ffee"},
        "shipped": {"step": 1000, "dtype": "bfloat16", "weights_sha256": digest},
    }
    (shipped / "run.json").write_text(json.dumps(run))
    rows = {"model": both(1.25), "random": both(1.4), "markov_both_flanks": both(1.31), "bf16": both(1.26)}
    whole = {"n_bases": 1000, "n_windows": 10, "rows": rows, "differences": {
        "markov_both_flanks": both(-0.06), "bf16": both(-0.01)}}  # fmt: skip
    rare = {"n_bases": 3, "n_windows": 1, "missing": "seen in 1 windows; 5 are the least"}
    regions = {
        "facts": {"commit": "abc", "machine": "a machine", "date": "2026-11-22"},
        "model": {"weights_hash": digest},
        "mask_frac": 0.15,
        "sets": {name: {"classes": {"all": whole, "5' UTR": rare}} for name in ("napus", "chr5")},
    }
    (results / "mini_regions.json").write_text(json.dumps(regions))
    (tmp_path / "manifest.toml").write_text(
        '[[assembly]]\nspecies = "Planta ficta"\nassembly = "p1"\nlicence = "INSDC: no restriction on use"\n'
        'source = "nowhere"\ncontigs = { train = ["*"] }\n'
    )
    return tmp_path


def render(scripts, project):
    return scripts["card"].render(project / "mini", project / "results", project / "manifest.toml")


def test_a_card_tells_what_was_measured_and_what_was_not(scripts, project):
    text = render(scripts, project)
    assert text.startswith("---\nlicense: apache-2.0\n") and text == render(scripts, project)
    assert "1.250 (1.240 to 1.260)" in text and "1.310 (1.300 to 1.320)" in text and "value: 1.2500" in text
    assert "seen in 1 windows" in text and "385,856" in text and "4.1 million" in text
    assert hashlib.sha256(b"weights").hexdigest() in text
    assert text.count("Not measured on these weights.") == len(scripts["card"].SECTIONS) - 1
    assert "| *Planta ficta* | p1 | train | nowhere | INSDC: no restriction on use | yes |" in text


def edit(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v.pop("mask_frac"), r"mini_regions.json: no key 'mask_frac'"),
        (lambda v: v["sets"].pop("chr5"), r"mini_regions.json, sets: no key 'chr5'"),
        (lambda v: v["model"].update(weights_hash="0"), "measured on other weights than are shipped"),
    ],
)
def test_results_that_do_not_fit_are_refused_by_name(scripts, project, change, said):
    edit(project / "results" / "mini_regions.json", change)
    with pytest.raises(scripts["card_tables"].CardError, match=said):
        render(scripts, project)


def test_other_weights_and_licences_that_nobody_judged_are_refused(scripts, project):
    (project / "manifest.toml").write_text((project / "manifest.toml").read_text().replace("no restriction", "ask us"))
    with pytest.raises(
        scripts["card_tables"].CardError, match="may weights be redistributed under 'INSDC: ask us on use'"
    ):
        render(scripts, project)
    (project / "mini" / "model.safetensors").write_bytes(b"others")
    with pytest.raises(scripts["card_tables"].CardError, match=r"run\.json tells of other weights"):
        render(scripts, project)


def test_the_committed_card_is_the_one_that_its_results_make(scripts):
    made = scripts["card"].render(SHIPPED, ROOT / "benchmarks" / "results", MINI / "manifest.toml")
    assert (SHIPPED / "README.md").read_text(encoding="utf-8") == made


def test_every_licence_of_the_manifest_is_judged(scripts):
    text = scripts["card"].sources(MINI / "manifest.toml")
    assert text.count("| yes") == (MINI / "manifest.toml").read_text().count("[[assembly]]")


def test_roles_of_a_manifest(scripts):
    contigs_of_role = scripts["held_out"].contigs_of_role
    among = ("LK031787", "LK031790", "LK031845")
    assert contigs_of_role(MINI / "manifest.toml", "test", among) == ["LK031790"]
    assert contigs_of_role(MINI / "manifest.toml", "train", among) == ["LK031787"]


def test_genes_are_on_one_side_and_those_seen_are_never_tested(scripts, tmp_path):
    import gzip

    split = scripts["strength"].split
    rng = np.random.default_rng(0)
    lines = ["set\tsp\tgene\tsequence\tenrichment"]
    for i in range(300):
        gene = f"AT{1 + i % 5}G{i // 2:05d}"
        lines.append(f"test\tAt\t{gene}\t{''.join(rng.choice(list('ACGT'), 170))}\t{rng.normal()}")
    with gzip.open(tmp_path / "p.tsv.gz", "wt") as handle:
        handle.write("\n".join(lines) + "\n")
    dataset = split(tmp_path / "p.tsv.gz", "promoter_leaf", 100, 0, 0)
    assert len(dataset.splits["train"]) == 100 and 0 < len(dataset.splits["test"]) < 100
    shown = [{codes.tobytes() for codes in dataset.splits[role].codes} for role in ("train", "test")]
    assert not shown[0] & shown[1]
    assert not any(scripts["strength"].is_test(f"AT1G{i:05d}") for i in range(200))


def test_loss_against_bases_is_read_from_a_run(scripts, toy_training):
    run = toy_training if isinstance(toy_training, Path) else toy_training[0]
    points = scripts["scaling"].read_points(Path(run))
    config = json.loads((Path(run) / "run.json").read_text())["config"]
    per_step = config["train"]["batch_windows"] * config["corpus"]["window_bp"]
    assert points["bases_per_step"] == per_step
    assert points["train"]["bases"][0] >= per_step and points["bases_seen"] % per_step == 0
