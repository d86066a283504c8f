"""The shape of the tree: import contracts, file sizes, and what may not be there."""

import re
from pathlib import Path

from importlinter import cli

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def test_import_contracts_hold():
    assert cli.lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


def test_no_file_grows_beyond_500_lines():
    sizes = {path: len(path.read_text().splitlines()) for path in SOURCES}
    assert {path.name: n for path, n in sizes.items() if n > 500} == {}


def test_banned_names_and_unfinished_marks():
    banned = {"utils", "common", "helpers", "base", "core", "manager", "misc"}
    assert [path for path in SOURCES if path.stem in banned or path.parent.name in banned] == []
    marks = re.compile("TODO|FIXME|XXX|NotImplementedError")
    assert [path.name for path in SOURCES if marks.search(path.read_text())] == []


def test_unit_tests_mirror_the_sources():
    packages = {
        path.name for path in (ROOT / "src" / "umbel").iterdir() if path.is_dir() and path.name != "__pycache__"
    }
    assert {path.name for path in (ROOT / "tests" / "unit").iterdir() if path.is_dir()} - {"__pycache__"} <= packages
