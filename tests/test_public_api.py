import importlib
import inspect

import pytest

import umbel

FUNCTIONS = [name for name in umbel.__all__ if name not in ("__version__", "recipes")]


def test_all_is_sorted_complete_and_loads():
    assert umbel.__all__[1:] == sorted(umbel.__all__[1:])
    assert dir(umbel) == sorted(umbel.__all__)
    for name in umbel.__all__:
        assert getattr(umbel, name) is not None
    with pytest.raises(AttributeError, match="module 'umbel' has no attribute 'bloom'"):
        umbel.bloom  # noqa: B018


@pytest.mark.parametrize("name", FUNCTIONS)
def test_public_names_are_documented(name):
    text = inspect.getdoc(getattr(umbel, name)) or ""
    assert len(text.splitlines()[0]) > 20, f"{name} has no summary"


@pytest.mark.parametrize(
    "module", ["errors", "config", "files", "genome.fasta", "data.corpus", "model.moe", "predict.embed", "predict.scan"]
)
def test_public_functions_of_modules_have_docstrings(module):
    home = importlib.import_module(f"umbel.{module}")
    for name, thing in vars(home).items():
        if name.startswith("_") or getattr(thing, "__module__", "") != home.__name__:
            continue
        if inspect.isfunction(thing) or inspect.isclass(thing):
            assert inspect.getdoc(thing), f"umbel.{module}.{name}"


def test_version_is_that_of_the_package():
    from importlib.metadata import version

    assert umbel.__version__ == version("umbel")
