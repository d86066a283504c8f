"""Results of several benchmarks on one page: read, seen to fit together, and the parts of one model put together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from umbel.errors import RunError
from umbel.evaluate.bench.between import find_runs
from umbel.evaluate.bench.table import MODEL
from umbel.evaluate.bench.wording import BASELINES, ROW_NAMES

FORMAT, FORMAT_VERSION = "umbel-bench", 1
RESULT_FILE = "bench.json"


def read_results(paths: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Read results from folders of ``umbel bench``, or from their ``bench.json``.

    Raises
    ------
    RunError
        If a file is not there, cannot be read, or is something else.
    """
    return [_read(Path(path)) for path in paths]


def _read(path: Path) -> dict[str, Any]:
    file = path / RESULT_FILE if path.is_dir() else path
    if not file.exists():
        raise RunError(
            f"{file} is not there. Give a folder that umbel bench has finished (a benchmark that was stopped goes on "
            "with the same command), or its bench.json"
        )
    try:
        result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        told = (result["format"], result["format_version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file} is no result of umbel bench ({type(error).__name__}: {error})") from error
    if told != (FORMAT, FORMAT_VERSION):
        raise RunError(
            f"{file} is {told[0]} of version {told[1]}, and this umbel reads {FORMAT} of version {FORMAT_VERSION}. "
            "Run umbel bench again with this umbel: what was predicted is read from disk"
        )
    find_runs(result, file.parent)
    return result


def join(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """See that results can stand in one table; those of one model and one method become one.

    Parameters
    ----------
    results
        Contents of ``bench.json``.

    Returns
    -------
    One result for each model and method, in their order, its datasets in the order of the suite.

    Raises
    ------
    RunError
        If there are none, they are of different suites or test data, one has a dataset that another one of the same
        model and method has too, or a row is missing.
    """
    if not results or not any(result["datasets"] for result in results):
        raise RunError("there are no results to make a leaderboard of: give at least one bench.json with a dataset")
    for result in results:
        _require_rows(result)
        _require_same_suite(results[0], result)
    seen: dict[str, tuple[str, dict[str, Any]]] = {}
    for result in results:
        for name, found in result["datasets"].items():
            who, first = seen.setdefault(name, (result["model"]["name"], found))
            _require_same_data(name, (who, first), (result["model"]["name"], found))
    joined: dict[str, dict[str, Any]] = {}
    for result in results:
        identity = json.dumps([result["model"]["weights_hash"], result["config"]], sort_keys=True)
        known = joined.get(identity)
        joined[identity] = result if known is None else _together(known, result)
    order = list(results[0]["suite"]["datasets"])
    return [
        result | {"datasets": {name: result["datasets"][name] for name in order if name in result["datasets"]}}
        for result in joined.values()
    ]


def _require_rows(result: dict[str, Any]) -> None:
    model = result["model"]["name"]
    for name, found in result["datasets"].items():
        missing = [ROW_NAMES[row] for row in (MODEL, *BASELINES) if row not in found["rows"]]
        missing += [f"difference to {ROW_NAMES[row]}" for row in BASELINES if row not in found["differences"]]
        if missing:
            raise RunError(
                f"{name} of {model} has no {', '.join(missing)}: a table without baselines is not made. Run umbel "
                "bench again, which computes what is missing"
            )
        if name not in result["suite"]["datasets"]:
            raise RunError(f"{name} of {model} is no dataset of suite {result['suite']['name']}: bench.json is damaged")


def _require_same_suite(first: dict[str, Any], other: dict[str, Any]) -> None:
    a, b = first["suite"], other["suite"]
    if a["name"] != b["name"]:
        raise RunError(
            f"{first['model']['name']} was measured on suite {a['name']} and {other['model']['name']} on {b['name']}: "
            "a leaderboard is of one suite. Make one of each"
        )
    if a["datasets"] != b["datasets"]:
        changed = sorted({name for name, _ in a["datasets"].items() ^ b["datasets"].items()})
        raise RunError(
            f"{first['model']['name']} and {other['model']['name']} were measured on two suites that are both called "
            f"{a['name']}: they differ in {', '.join(changed)}. Run umbel bench again with one of the two"
        )


def _require_same_data(name: str, first: tuple[str, dict[str, Any]], other: tuple[str, dict[str, Any]]) -> None:
    (who_a, a), (who_b, b) = first, other
    told_a, told_b = ({"metric": found["metric"], "task": found["task"]} for found in (a, b))
    for what, value in told_a.items():
        if told_b[what] != value:
            raise RunError(f"{name}: {who_a} was scored as {what} {value} and {who_b} as {told_b[what]}: no one table")
    if a["data"]["test_hash"] != b["data"]["test_hash"]:
        sizes = [f"{found['data']['found']['test']:,} examples" for found in (a, b)]
        what = " and ".join(sizes) if sizes[0] != sizes[1] else f"{sizes[0]} each, of other sequences, names or targets"
        hashes = [found["data"]["test_hash"][:12] for found in (a, b)]
        raise RunError(
            f"{name}: {who_a} and {who_b} were tested on different data ({what}; hashes {hashes[0]} and {hashes[1]}), "
            "so their scores do not belong into one table. umbel suite check tells which files are the suite's"
        )


def _together(first: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    both = [name for name in other["datasets"] if name in first["datasets"]]
    if both:
        raise RunError(
            f"{', '.join(both)}: two results of {first['model']['name']} with the same weights and settings. "
            "Give one of them"
        )
    umbel = first["umbel"] if other["umbel"] in first["umbel"] else f"{first['umbel']}, {other['umbel']}"
    datasets = first["datasets"] | other["datasets"]
    missing = [name for name in dict.fromkeys([*first["missing"], *other["missing"]]) if name not in datasets]
    return first | {"umbel": umbel, "datasets": datasets, "missing": missing}
