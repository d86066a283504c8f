"""From checkpoints to a folder: tables, sentences, the page, and the command."""

import dataclasses
import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from comparison_fakes import MemorySource, by_letter, checkpoint, noisy, permuted
from typer.testing import CliRunner

from umbel.cli.experts_compare import sort_out
from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import describe, hf_tokenizer
from umbel.errors import ConfigError, RunError
from umbel.evaluate.experts.compare.runner import compare
from umbel.evaluate.experts.compare.settings import CompareSettings
from umbel.evaluate.experts.compare.tables import COLUMNS, as_table
from umbel.evaluate.experts.compare.wording import findings, percent
from umbel.model.checkpoint import save_checkpoint
from umbel.model.hf import new_model

FAST = {"n_draws": 50, "n_permutations": 19}
SOURCE = MemorySource(n=24, n_units=12)


def weights(router=0.0, experts=0.0):
    return {
        "layers.1.ffn.router.weight": torch.ones(4, 2) + router,
        "layers.1.ffn.up": torch.ones(4, 2, 2) + experts,
        "norm.weight": torch.ones(2),
    }


def chain():
    models = [
        checkpoint("base", by_letter),
        checkpoint("cpt", noisy(by_letter, 0.2, 1)),
        checkpoint("tuned", noisy(by_letter, 0.6, 2)),
    ]
    moved = [weights(), weights(experts=0.1), weights(router=0.5, experts=0.1)]
    models = [dataclasses.replace(model, weights=w) for model, w in zip(models, moved, strict=True)]
    return [*models, *(checkpoint(f"random {i}", noisy(by_letter, 1.0, 9 + i), is_control=True) for i in (1, 2))]


def test_a_chain_makes_tables_sentences_and_a_page(tmp_path):
    found = compare(chain(), SOURCE, tmp_path / "out", CompareSettings(**FAST))
    out = tmp_path / "out"
    told = json.loads((out / "compare.json").read_text())
    assert told == found.result
    assert told["tables"] == ["agreement", "transitions", "saturation", "drift", "differentiation", "stages"]
    for name in told["tables"]:
        table = pq.read_table(out / f"{name}.parquet")
        assert table.to_pylist() == as_table(name, found.tables[name]).to_pylist()
        assert (out / f"{name}.csv").read_text().count("\n") == table.num_rows + 1
    assert told["sample"]["n_items"] == found.sums.items.sum() and told["sample"]["n_units"] == 12
    assert told["findings"][0] == (
        "base to cpt, weights: the experts moved and the router did not. Change relative to their norm: experts "
        "10.0 %; exactly as they were: router, norms."
    )
    assert told["findings"][2].startswith("cpt to tuned, weights: the router moved and the experts did not.")
    assert re.match(r"base to cpt, choices: 8\d\.\d % stayed, the mean of 2 routers", told["findings"][1])
    assert any("The checkpoints are a chain" in line for line in told["notes"])
    assert any("Only 12 units" in line for line in told["notes"])
    page = (out / "compare.html").read_text()
    assert page.count("<svg") == 5 and not re.search(r'(src|href)="http', page)
    assert "<strong>the split depends on it</strong>" in page
    assert "Did training move the router, or the experts?" in page


def test_the_same_command_goes_on_and_gives_the_same_bytes(tmp_path):
    compare(chain(), SOURCE, tmp_path / "a", CompareSettings(**FAST))
    first = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    compare(chain(), SOURCE, tmp_path / "a", CompareSettings(**FAST))
    compare(chain(), SOURCE, tmp_path / "b", CompareSettings(**FAST))
    for folder in ("a", "b"):
        assert {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} == first


def test_seeds_are_paired_beside_chance_and_their_page_says_so(tmp_path):
    models = [checkpoint(f"seed{i}", permuted(noisy(by_letter, 0.1, i), np.roll(range(4), i))) for i in range(3)]
    models += chain()[3:]
    found = compare(models, SOURCE, tmp_path / "out", CompareSettings("none", match=True, **FAST))
    assert found.result["tables"] == ["agreement", "transitions", "differentiation", "matching", "partners", "seeds"]
    assert len(found.tables["seeds"]) == 4
    line = found.result["findings"][0]
    assert re.match(
        r"Layer 1: 8\d\.\d % \(SD between seeds .* %\) of choices agree once experts are paired up, 3 pairs of", line
    )
    assert "; more than any of 7 pairs with random weights in them (up to " in line
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "Do other trainings find the same experts?" in page and page.count("<svg") == 4
    assert "flatters" in page


def test_models_of_unlike_shape_are_compared_by_their_divergences_alone(tmp_path):
    models = [checkpoint("base", by_letter), checkpoint("wide", by_letter, n_experts=5)]
    found = compare(models, SOURCE, tmp_path / "out", CompareSettings(**FAST))
    assert found.result["tables"] == ["differentiation"]
    assert found.result["findings"] == []
    assert any("base has 4 experts in layer 1 and wide 5" in line for line in found.result["notes"])
    assert any("No networks with random weights" in line for line in found.result["notes"])
    assert (tmp_path / "out" / "compare.html").read_text().count("<svg") == 1


def test_a_two_by_two_design_averages_over_orders(tmp_path):
    models = [*chain()[:3], checkpoint("both", noisy(by_letter, 0.7, 7))]
    found = compare(models, SOURCE, tmp_path / "out", CompareSettings("2x2", **FAST))
    assert not any(row["is_order_dependent"] for row in found.tables["stages"])
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "Means over both orders" in page and "by way of cpt" in page and "by way of tuned" in page
    with pytest.raises(ConfigError, match=r"a 2x2 design has four checkpoints, .* these are 3 \(base, cpt, tuned\)"):
        compare(chain(), SOURCE, tmp_path / "other", CompareSettings("2x2", **FAST))


def test_many_checkpoints_of_a_run_have_a_curve_and_no_split(tmp_path):
    models = [
        dataclasses.replace(checkpoint(f"s{i}", noisy(by_letter, 0.9 - 0.1 * i, i)), step=100 * i) for i in range(10)
    ]
    found = compare(models, SOURCE, tmp_path / "out", CompareSettings(**FAST))
    assert len(found.tables["saturation"]) == 18 and "stages" not in found.result["tables"]
    assert any("10 checkpoints: a split into more than 6 stages is not made" in line for line in found.result["notes"])
    assert len(found.result["findings"]) == 1
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "training step" in page
    pairs = {(row["first"], row["second"]) for row in found.tables["agreement"] if not row["is_control"]}
    assert f"Drawn are 6 of {len(pairs)} pairs; the table <code>agreement</code> has all" in page


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match=r"not empty, and no comparison of ours \(no state\.npz\)"):
        compare(chain(), SOURCE, tmp_path / "out", CompareSettings(**FAST))
    compare(chain(), SOURCE, tmp_path / "b", CompareSettings(**FAST))
    with pytest.raises(RunError, match="is of another comparison"):
        compare(chain()[:3], SOURCE, tmp_path / "b", CompareSettings(**FAST))


def test_a_row_that_does_not_fit_its_table_is_refused():
    row = dict.fromkeys(COLUMNS["seeds"])
    assert as_table("seeds", [row]).num_rows == 1
    with pytest.raises(ValueError, match=r"seeds: a row has \['more'\] more or less than the table"):
        as_table("seeds", [row | {"more": 1}])


@pytest.mark.parametrize(
    ("router", "experts", "said"),
    [
        (0, 0, "none of them moved."),
        (0.1, 0.1, "router and experts moved about alike"),
        (0.1, 0.5, "the experts moved more than the router"),
        (0.5, 0.1, "the router moved more than the experts"),
    ],
)
def test_what_moved_is_said(router, experts, said):
    from umbel.evaluate.experts.compare.drift import drift_rows

    rows = [{"first": "a", "second": "b"} | row for row in drift_rows(weights(), weights(router, experts))]
    lines = findings(["a", "b"], CompareSettings(), {"drift": rows, "agreement": [], "stages": []})
    assert lines[0].startswith(f"a to b, weights: {said}")


def test_only_what_lies_around_them_moved():
    from umbel.evaluate.experts.compare.drift import drift_rows

    after = weights() | {"norm.weight": torch.zeros(2)}
    rows = [{"first": "a", "second": "b"} | row for row in drift_rows(weights(), after)]
    lines = findings(["a", "b"], CompareSettings(), {"drift": rows, "agreement": [], "stages": []})
    assert lines == [
        "a to b, weights: neither router nor experts moved; what they are given did. Change relative to their norm: "
        "norms 100 %; exactly as they were: router, experts."
    ]
    assert percent(0.9999) == ">99.9 %"


def test_checkpoints_and_files_are_told_apart(tmp_path):
    for name in ("run", "step-000000100"):
        (tmp_path / name).mkdir()
    genome = tmp_path / "a=b.fa"
    genome.write_text(">a\nACGT\n")
    run, state = tmp_path / "run", tmp_path / "step-000000100"
    assert sort_out([f"base={run}", str(state), str(genome)]) == ({"base": run, "step 100": state}, [genome])
    with pytest.raises(ConfigError, match="two checkpoints are called 'run'"):
        sort_out([str(run), f"run={state}", str(genome)])
    with pytest.raises(ConfigError, match=r"nowhere: not there. Write checkpoints as NAME=DIR"):
        sort_out([f"base={tmp_path}/nowhere"])
    with pytest.raises(ConfigError, match="no sequences to route: after the checkpoints name a FASTA"):
        sort_out([str(run)])


def test_the_command_compares_two_models_of_ours(tmp_path):
    import typer

    from umbel.cli.experts_compare import compare as command
    from umbel.config import ModelConfig

    config = ModelConfig(n_layers=2, d_model=16, ffn_hidden=24, n_experts=4, d_state=4)
    for seed in (0, 1):
        model = new_model(config, 64, seed, describe(KmerTokens(1)))
        save_checkpoint(tmp_path / f"m{seed}", model, hf_tokenizer(KmerTokens(1), 64))
    rng = np.random.default_rng(0)
    letters = "".join(np.array(list("ACGTacgt"))[rng.integers(0, 8, 3000)])
    (tmp_path / "g.fa").write_text(f">chr1\n{letters}\n")
    app = typer.Typer()
    app.command()(command)
    arguments = [
        f"a={tmp_path}/m0",
        f"b={tmp_path}/m0",
        f"c={tmp_path}/m1",
        f"{tmp_path}/g.fa",
        "-o",
        f"{tmp_path}/out",
    ]
    arguments += ["--stretch-bp", "200", "--n-stretches", "12", "--n-draws", "20", "--random", "1", "-q", "--json"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["findings"][0] == "a to b, weights: none of them moved."
    assert told["findings"][1].startswith("a to b, choices: 100 % stayed")
    rows = pq.read_table(tmp_path / "out" / "agreement.parquet").to_pylist()
    assert {row["agreement"] for row in rows if (row["first"], row["second"]) == ("a", "b")} == {1.0}
    assert {row["second"] for row in rows if row["is_control"]} == {"random 1"}
    assert max(row["agreement"] for row in rows if row["second"] == "c") < 1
    assert (tmp_path / "out" / "compare.html").is_file()
