"""umbel: plant-genome foundation models with sparse experts.

``import umbel`` is light: torch comes in with the first name that needs it. It also sees to it that
``transformers.AutoModel`` and its kin know our classes, now or when transformers is imported later.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Corpus": "umbel.data.corpus.store",
    "Head": "umbel.predict.head",
    "ModelConfig": "umbel.config",
    "Predictor": "umbel.predict.predictor",
    "Reference": "umbel.genome.reference",
    "RunConfig": "umbel.config",
    "UmbelError": "umbel.errors",
    "build_corpus": "umbel.data.corpus.build",
    "evaluate_checkpoint": "umbel.evaluate.runner",
    "load": "umbel.predict.predictor",
    "pretrain": "umbel.train.pretrain",
    "recipes": "umbel.train",
    "train_bpe": "umbel.data.bpe_training",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'umbel' has no attribute {name!r}")
    home = importlib.import_module(_HOMES[name])
    value = importlib.import_module(f"{_HOMES[name]}.{name}") if name == "recipes" else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


_REGISTERING = ("umbel.model.hf", "umbel.data.overlapping")


def _register() -> None:
    for module in _REGISTERING:
        importlib.import_module(module)


class _WhenTransformersComes(importlib.abc.MetaPathFinder):
    """Load what registers our classes once transformers has been imported: nobody pays before."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "transformers":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_register(module: ModuleType) -> None:
                run(module)
                _register()

            spec.loader.exec_module = run_and_register  # type: ignore[method-assign]
        return spec


if "transformers" in sys.modules:
    _register()
else:
    sys.meta_path.insert(0, _WhenTransformersComes())
