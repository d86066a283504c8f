"""What finished stages of a build leave behind, so that a later call need not do them again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from umbel.files import sha256_file, write_json


@dataclass(frozen=True)
class Part:
    """One finished job: ``parts/<stage>/<name>.json`` in the folder of a build, written last.

    Attributes
    ----------
    folder
        Where the corpus grows.
    stage, name
        Of the job.
    key
        Identifies its inputs and settings; what a job of another key left is not used.
    """

    folder: Path
    stage: str
    name: str
    key: str

    def file(self, suffix: str) -> Path:
        """Path of a file of this job, beside its facts."""
        return self.folder / "parts" / self.stage / f"{self.name}.{suffix}"

    def load(self) -> dict[str, Any] | None:
        """Facts of this job, if an earlier build finished it and its files are still what they were."""
        try:
            found = json.loads(self.file("json").read_text(encoding="utf-8"))
            is_same = found["key"] == self.key and all(
                sha256_file(self.folder / name) == digest for name, digest in found["files"].items()
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found["facts"] if is_same else None

    def save(self, facts: dict[str, Any], files: Iterable[Path]) -> dict[str, Any]:
        """Record the job as finished, with the hashes of its ``files``; return the facts."""
        hashes = {path.relative_to(self.folder).as_posix(): sha256_file(path) for path in files}
        write_json(self.file("json"), {"key": self.key, "files": hashes, "facts": facts})
        return facts
