import json
from pathlib import Path

import pytest
from toys import toy_run
from typer.testing import CliRunner

from umbel.cli import app
from umbel.config import to_dict


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "toy.json"
    path.write_text(json.dumps(to_dict(toy_run())))
    return str(path)


def test_a_plan_is_told_and_nothing_is_written(recipe, tmp_path, monkeypatch):
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    done = CliRunner().invoke(app, ["plan", recipe, "--devices", "2", "--set", "train.steps=5", "--device", "cpu"])
    assert done.exit_code == 0
    assert "measuring cpu" in done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "toy on 2 devices"
    assert [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "] == [
        "model",
        "step",
        "run",
        "operations",
        "memory",
        "disk",
        "speed",
        "time",
    ]
    assert list(empty.iterdir()) == []
    assert sorted(p.name for p in Path(recipe).parent.iterdir()) == ["empty", "toy.json"]


def test_json_of_one_plan_is_the_speed_of_the_next(recipe, tmp_path):
    words = ["plan", recipe, "--device", "cpu", "--json", "-q"]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.stderr) == (0, "")
    first = json.loads(done.stdout)
    (tmp_path / "plan.json").write_text(done.stdout)
    again = json.loads(CliRunner().invoke(app, [*words, "--measured", str(tmp_path / "plan.json")]).stdout)
    assert again["duration"] == first["duration"]
    assert again["throughput"]["source"].endswith("plan.json")
    assert again["memory"]["total"] > again["memory"]["activations"] > 0
