"""The documents are true: the tree is the disk, the commands exist, the links lead somewhere."""

import inspect
import json
import re
import shlex
from pathlib import Path

import pytest
import typer.main
from toys import toy_run
from typer.testing import CliRunner

from umbel.cli import app
from umbel.config import to_dict
from umbel.model.shipped import shipped_folder
from umbel.ops import grouped_mlp

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def test_the_tree_in_the_readme_is_the_disk():
    block = re.search(r"```text\n(src/umbel/.*?)```", README, re.S).group(1)
    listed, folders = set(), []
    for line in block.splitlines():
        indent, name, note = re.fullmatch(r"( *)(\S+)(?: +(.*))?", line).groups()
        folders = folders[: len(indent) // 2]
        if name.endswith("/"):
            folders.append(name.rstrip("/"))
        else:
            assert note, f"{name} has no comment"
            listed.add("/".join([*folders, name]))
    exempt = {f"src/umbel/{p}/__init__.py" for p in ("genome", "data", "ops", "model", "train", "predict", "evaluate")}
    on_disk = {str(p.relative_to(ROOT)) for p in (ROOT / "src").rglob("*.py")} - exempt
    assert listed == on_disk


def test_the_six_hops_are_those_of_a_run(toy_corpus, tmp_path, monkeypatch):
    """The call stack at the kernel, during a real command, passes the named files in the named order."""
    hops = re.search(r"in six hops\n\n(.*?)\n\n", README, re.S).group(1)
    named = re.findall(r"`([a-z_]+/[a-z_/.]+)`", hops)
    assert len(named) == 6 + 1
    stacks, real = [], grouped_mlp.op.apply

    def looking(*args):
        stacks.append([frame.filename for frame in reversed(inspect.stack())])
        return real(*args)

    monkeypatch.setattr(grouped_mlp.op, "apply", looking)
    recipe = tmp_path / "toy.json"
    recipe.write_text(json.dumps(to_dict(toy_run(steps=1))))
    words = ["pretrain", str(recipe), "--corpus", str(toy_corpus.path), "--out", str(tmp_path / "run"), "-q"]
    assert CliRunner().invoke(app, words).exit_code == 0
    inside = ("/umbel/train/step.py", "/umbel/model/moe.py")
    through_experts = next(path for path in stacks if all(any(name.endswith(x) for name in path) for x in inside))
    passed = [hop for path in through_experts for hop in named if f"/umbel/{hop}" in path]
    assert list(dict.fromkeys(passed)) == named


def commands():
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.S):
            for line in block.splitlines():
                words = shlex.split(line, comments=True)
                if words and words[0].endswith("umbel") and len(words) > 1:
                    yield pytest.param(words[1:], id=f"{page.stem}: {' '.join(words[:4])}")


@pytest.mark.parametrize("words", list(commands()))
def test_every_command_in_the_documents_parses(words):
    command = typer.main.get_command(app)
    context = command.make_context("umbel", [], resilient_parsing=True)
    while hasattr(command, "commands"):
        name, command, words = command.resolve_command(context, list(words))
        context = command.make_context(name, list(words), parent=context, resilient_parsing=True)
    parser = command.make_parser(context)
    options, _, _ = parser.parse_args(list(words))
    required = {p.name for p in command.params if p.required and p.param_type_name == "option"}
    assert required <= set(options)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_the_python_of_the_readme_runs(toy_training, monkeypatch):
    monkeypatch.chdir(ROOT)
    first, code = re.findall(r"```python\n(.*?)```", README, re.S)
    names: dict = {}
    exec(first, names)
    assert names["m"].source == shipped_folder("mini")
    assert names["table"].num_rows == 118 and len(names["vectors"]) == 2
    names = {}
    exec(code.replace("demo/run", str(toy_training)), names)
    assert names["vectors"].shape == (2, 16)
    assert type(names["backbone"]).__name__ == "UmbelModel"
    assert names["tokenizer"]("ACG").input_ids == [0, 7, 8, 9, 1]


def test_the_python_of_the_guide_to_tokens_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(re.search(r"```python\n(.*?)```", (ROOT / "docs" / "guide" / "tokenizers.md").read_text(), re.S).group(1), {})


def test_the_demo_runs_the_commands_of_the_readme():
    demo = (ROOT / "examples" / "demo.py").read_text()
    quick = re.search(r"which are also the quick start:\n\n```bash\n(.*?)```", README, re.S).group(1)
    for line in quick.splitlines():
        for word in shlex.split(line)[1:]:
            assert word.split("/")[-1] in demo, word


def test_the_changelog_has_the_version():
    import umbel

    assert f"## {umbel.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_tables_of_the_performance_page_are_made_from_the_results():
    import sys

    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import tables
    finally:
        sys.path.pop(0)
    page = tables.PAGE.read_text()
    assert tables.render(page) == page
