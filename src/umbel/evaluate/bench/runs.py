"""One run of a benchmark on disk: what it said of dev and test, and how it came about; whole or not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from umbel.errors import RunError
from umbel.evaluate.scores.predictions import Predictions
from umbel.files import whole_folder, write_json
from umbel.progress import Reporter

FACTS_FILE, DEV_FILE, TEST_FILE = "run.json", "dev.parquet", "test.parquet"


@dataclass(frozen=True)
class Run:
    """A row of the table with one seed.

    Attributes
    ----------
    dev, test
        What was said; None where there is no test.
    facts
        ``seconds``, ``flops``, ``n_parameters`` (those trained), ``chosen`` (what dev decided), ``problem``, ...
    """

    dev: Predictions
    test: Predictions | None
    facts: dict[str, Any]

    def save(self, folder: Path, key: dict[str, Any], keep: Callable[[Path], None] = lambda folder: None) -> None:
        """Write the run; ``key`` is what it was computed from, and ``keep`` puts more into its folder."""
        with whole_folder(folder) as temporary:
            self.dev.save(temporary / DEV_FILE)
            if self.test is not None:
                self.test.save(temporary / TEST_FILE)
            keep(temporary)
            write_json(temporary / FACTS_FILE, {"key": key, "facts": self.facts})


def find_run(folder: Path, key: dict[str, Any], reporter: Reporter) -> Run | None:
    """Give the run of this key, or None where it is not there, damaged, or was computed from something else.

    A run that cannot be used is told, and will be computed again.
    """
    path = folder / FACTS_FILE
    if not path.exists():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        asked = json.loads(json.dumps(key))
        changed = [part for part, value in asked.items() if stored["key"].get(part) != value]
        if changed:
            reporter.say(f"{folder}: computed again, because of another {', '.join(changed)}")
            return None
        test = Predictions.load(folder / TEST_FILE) if "test" in stored["key"] else None
        return Run(Predictions.load(folder / DEV_FILE), test, stored["facts"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RunError) as error:
        reporter.say(f"warning: {folder} is damaged ({error}); computed again")
        return None
