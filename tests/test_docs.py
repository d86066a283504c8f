"""The documents are true: the tree is the disk, the commands exist, the links lead somewhere."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import typer.main

from umbel.cli import app

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


def test_the_six_hops_are_real():
    hops = re.search(r"in six hops\n\n(.*?)\n\n", README, re.S).group(1)
    paths = [ROOT / "src/umbel" / hop for hop in re.findall(r"`([a-z_]+/[a-z_/.]+)`", hops)]
    assert len(paths) == 6
    for here, there in pairwise(paths):
        module = ".".join(there.relative_to(ROOT / "src").with_suffix("").parts)
        text = here.read_text()
        assert module in text, f"{here.name} does not import {module}"


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
    context = command.make_context("umbel", [])
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


def test_the_demo_runs_the_commands_of_the_readme():
    demo = (ROOT / "examples" / "demo.py").read_text()
    quick = re.search(r"which are also the quick start:\n\n```bash\n(.*?)```", README, re.S).group(1)
    for line in quick.splitlines():
        for word in shlex.split(line)[1:]:
            assert word.split("/")[-1] in demo, word


def test_the_changelog_has_the_version():
    import umbel

    assert f"## {umbel.__version__}" in (ROOT / "CHANGELOG.md").read_text()
