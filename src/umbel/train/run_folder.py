"""``run.json``: what a run is, from which it can be repeated, and whether a folder holds the same one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import torch

import umbel
from umbel.config import RunConfig, from_dict, to_dict
from umbel.data.corpus.store import Corpus
from umbel.data.tokenizers import Tokens, describe
from umbel.errors import ConfigError, RunError
from umbel.files import write_json
from umbel.model.backbone import count_parameters
from umbel.progress import Reporter
from umbel.train.processes import World

_FREE = ("parallel", "health")
_FREE_OF_TRAIN = ("micro_batch_windows", "save_every_steps", "keep_states", "keep_best")
"""Settings that may change when a run goes on: its result does not depend on them, or only once something is wrong."""


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """List where two nested dictionaries differ, as ``a.b: old -> new``.

    Examples
    --------
    >>> differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}})
    ['a.c: 2 -> 3']
    """
    found = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}: {a} -> {b}")
    return found


def source_commit() -> str | None:
    """Give the commit of the checkout that umbel runs from, with ``+`` where files were changed; None for a package."""
    here = Path(umbel.__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) not in here.parents or not git("ls-files", "__init__.py"):
            return None
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _identity(config: dict[str, Any]) -> dict[str, Any]:
    """Leave out of a run's settings what may change."""
    kept = {name: value for name, value in config.items() if name not in _FREE}
    return kept | {"train": {name: value for name, value in kept["train"].items() if name not in _FREE_OF_TRAIN}}


def _hash_of(facts: dict[str, Any]) -> str:
    """Tell which weights a run began with; runs before there was a choice drew them from their seed."""
    told = facts.get("weights")
    return "random" if told is None else str(told["hash"])


def describe_run(run: RunConfig, corpus: Corpus, tokens: Tokens, world: World) -> dict[str, Any]:
    """Say what this run is, with everything needed to repeat it."""
    total, active = count_parameters(run.model)
    return {
        "config": to_dict(run),
        "corpus": {"path": str(corpus.path.resolve()), "hash": corpus.hash},
        # The file that tokens.file names may change; k-mers follow from the settings.
        "vocabulary": describe(tokens).get("sha256"),
        "n_parameters": total,
        "n_active_parameters": active,
        "umbel": umbel.__version__,
        "commit": source_commit(),
        "torch": torch.__version__,
        "device": world.device.type,
        "device_name": torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else None,
        "processes": world.size,
        "threads": torch.get_num_threads(),
    }


def open_run(folder: Path, facts: dict[str, Any], reporter: Reporter) -> None:
    """Write ``run.json``, or see that the one there is of the same run, and write down what is new.

    Raises
    ------
    RunError
        If the folder holds another run, or something else.
    """
    path = folder / "run.json"
    if not path.exists():
        if folder.exists() and any(folder.iterdir()):
            raise RunError(f"{folder}: not empty, and no run of ours (no run.json). Choose another --out")
        write_json(path, facts)
        return
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
        # Through RunConfig, so that settings that came after that run count with their defaults.
        old_config = to_dict(from_dict(RunConfig, old["config"], "config"))
        old_hash = old["corpus"]["hash"]
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: damaged ({error}); choose another --out") from error
    except ConfigError as error:
        raise RunError(f"{path}: not a run that this umbel knows ({error}); choose another --out") from error
    found = differences(
        {
            "config": _identity(old_config),
            "corpus": {"hash": old_hash},
            "vocabulary": old.get("vocabulary"),
            "weights": _hash_of(old),
        },
        {
            "config": _identity(facts["config"]),
            "corpus": {"hash": facts["corpus"]["hash"]},
            "vocabulary": facts["vocabulary"],
            "weights": _hash_of(facts),
        },
    )
    if found:
        raise RunError(
            f"{folder}: holds another run ({'; '.join(found)}). Repeat that run's settings to continue it, or choose "
            "another --out"
        )
    for key in ("device", "threads", "torch", "processes"):
        if old.get(key, facts[key]) != facts[key]:
            reporter.say(
                f"warning: this run began with {key} {old[key]} and goes on with {facts[key]}: the result is as good, "
                "but not the same to the last bit"
            )
    for change in differences(old_config, facts["config"]):
        reporter.say(f"this run goes on with {change}")
    told = {name: value for name, value in facts.items() if name != "config"}
    before = {name: value for name, value in old.items() if name not in ("config", "earlier")}
    if before != told or old_config != facts["config"]:
        changed = differences({**before, "config": old_config}, {**told, "config": facts["config"]})
        write_json(path, facts | {"earlier": [*old.get("earlier", []), *([changed] if changed else [])]})
