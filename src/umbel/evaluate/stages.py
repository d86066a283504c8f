"""Stages of an evaluation that stay on disk, so that a killed one goes on where it was."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import umbel
from umbel.errors import RunError
from umbel.files import write_json
from umbel.progress import Reporter


class Stages:
    """Results of finished stages, on disk, each with the key that it belongs to."""

    def __init__(self, folder: Path, key: dict[str, Any], reporter: Reporter):
        self._folder, self._key, self._reporter = folder, key, reporter

    def run(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return the stored result of a stage, or compute and store it."""
        path = self._folder / f"{name}.json"
        if path.exists():
            try:
                stored = json.loads(path.read_text(encoding="utf-8"))
                changed = [part for part, value in self._key.items() if stored["key"].get(part) != value]
            except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
                changed = ["file is damaged"]
            if not changed:
                self._reporter.say(f"{name}: already done")
                return stored["result"]
            self._reporter.say(f"{name}: computed again, because of another {', '.join(changed)}")
        result = compute()
        refuse_non_finite(result, name)
        write_json(path, {"key": self._key, "result": result})
        return result


def refuse_non_finite(value: Any, where: str) -> None:
    """Raise if a number anywhere in ``value`` is NaN or infinite.

    Raises
    ------
    RunError
        Naming the place.

    Examples
    --------
    >>> refuse_non_finite({"a": [1.0, None]}, "result")
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            refuse_non_finite(inner, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            refuse_non_finite(inner, f"{where}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise RunError(f"{where} came out as {value}, which is no result. Please report this with your settings.")


def code_version() -> str:
    """Version of umbel and a hash of its sources, so that no stage of other code is reused."""
    digest = hashlib.sha256()
    root = Path(umbel.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{umbel.__version__}+{digest.hexdigest()[:12]}"
