"""A study of causes on disk: knock-outs and swaps beside the random twin, routes patched, every number as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

import umbel
from umbel.errors import ConfigError, RunError
from umbel.evaluate.experts.causal.ablation import Ablation, ablate, ablate_random, every_expert
from umbel.evaluate.experts.causal.importance import Correlation, specialisation_against_importance
from umbel.evaluate.experts.causal.patching import Patched, patch_routes
from umbel.evaluate.experts.causal.settings import CausalSettings
from umbel.evaluate.experts.compare.opening import kind_of, read_state
from umbel.evaluate.experts.source import Source
from umbel.evaluate.experts.table_files import write_table
from umbel.evaluate.facts import model_facts
from umbel.evaluate.metrics import Estimate
from umbel.evaluate.stages import refuse_non_finite
from umbel.files import sha256_file, sha256_json, write_json
from umbel.model.adapters.files import CARD_FILE, WEIGHTS_FILE, load_adapter
from umbel.model.edited_router import KnockOut, Swap
from umbel.model.shipped import model_path
from umbel.predict.head import Head, find_tuned
from umbel.predict.predictor import Predictor
from umbel.progress import Reporter, reporter_or_silent

if TYPE_CHECKING:
    from umbel.model.backbone import Backbone

RESULT_FILE, STAGES_FOLDER = "causal.json", "stages"
_FORMAT = 1
_INT, _REAL, _TEXT = pa.int64(), pa.float64(), pa.string()
_CELL = {"labelling": _TEXT, "class": _TEXT, "n_bases": _INT}
_DELTA = {"delta": _REAL, "low": _REAL, "high": _REAL}
SCHEMAS = {
    "ablation": {
        **{"site": _INT, "layer": _INT, "expert": _INT},
        **_CELL,
        **_DELTA,
        **{"mode": _TEXT, "other": _INT, "taken": _REAL, "taken_hidden": _REAL},
        **{"random_delta": _REAL, "random_low": _REAL, "random_high": _REAL},
    },
    "untouched": {**_CELL, "loss": _REAL, "low": _REAL, "high": _REAL, "random_loss": _REAL},
    "patched": {"model": _TEXT, "layers": _TEXT, "patched": _TEXT, **_CELL, "loss": _REAL, **_DELTA},
    "split": {
        "patched": _TEXT,
        **_CELL,
        **{f"{what}{end}": _REAL for what in ("total", "routes", "rest") for end in ("", "_low", "_high")},
        **{"routes_share": _REAL, "suppressed": pa.bool_()},
    },
}
"""Columns of each table. Losses and their changes in nats a hidden base; see ``docs/guide/experts-causal.md``."""


def study_causes(
    predictor: Predictor,
    source: Source,
    out: str | Path,
    *,
    edits: Sequence[KnockOut | Swap] = (),
    other: Predictor | None = None,
    with_random: bool = True,
    name: str = "model",
    settings: CausalSettings | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Measure what experts do, and write ``causal.json`` and each table as Parquet and CSV.

    Parameters
    ----------
    source
        Labelled stretches of DNA, each no longer than the model's window.
    out
        A folder; the same call goes on where a stopped one was.
    edits
        Each alone; none given: every expert of every layer is knocked out, in each of ``settings.modes``.
    other
        Another checkpoint of the same shape: each of the two also gets the routes of the other.
    with_random
        Make the same edits in the network before any training, too.
    name
        What the model is called.

    Returns
    -------
    The content of ``causal.json``: ``model``, ``source``, ``settings``, ``n_edits``, ``importance`` (for each
    labelling and mode, see :func:`~umbel.evaluate.experts.causal.importance.specialisation_against_importance`),
    ``untouched`` and, with ``other``, ``split``.

    Raises
    ------
    ConfigError, CheckpointError, AdapterError
        As :func:`~umbel.evaluate.experts.causal.ablation.ablate` and
        :func:`~umbel.evaluate.experts.causal.patching.patch_routes` do.
    RunError
        If ``out`` is a file.
    """
    settings, reporter, out = settings or CausalSettings(), reporter_or_silent(reporter), Path(out)
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file. Give a folder for the results with -o.")
    chosen = list(edits) or every_expert(predictor, settings)
    stages = out / STAGES_FOLDER
    found = ablate(predictor, source, chosen, stages, settings=settings, reporter=reporter)
    twin = (
        ablate_random(predictor, source, chosen, stages, settings=settings, reporter=reporter) if with_random else None
    )
    patched = None
    if other is not None:
        patched = patch_routes(predictor, other, source, stages, settings=settings, reporter=reporter)
    tables = _tables(found, twin, patched)
    result = {
        "format": "umbel-causal",
        "format_version": _FORMAT,
        "version": umbel.__version__,
        "model": model_facts(predictor, name),
        "other": None if other is None else other.weights_hash,
        "random": with_random,
        "source": source.facts,
        "settings": asdict(settings),
        "n_edits": len(chosen),
        "importance": _importance(found),
        "untouched": tables["untouched"],
        "split": tables.get("split"),
    }
    refuse_non_finite(result, "causal")
    for table, rows in tables.items():
        write_table(out, table, pa.Table.from_pylist(rows, schema=pa.schema(list(SCHEMAS[table].items()))))
    write_json(out / RESULT_FILE, result)
    return result


def _tables(found: Ablation, twin: Ablation | None, patched: Patched | None) -> dict[str, list[dict[str, Any]]]:
    nothing = {"delta": None, "low": None, "high": None, "loss": None}
    rows, before = found.rows(), found.untouched_rows()
    beside = twin.rows() if twin else [nothing] * len(rows)
    before_beside = twin.untouched_rows() if twin else [nothing] * len(before)
    tables = {
        "ablation": [
            row | {f"random_{key}": its[key] for key in ("delta", "low", "high")}
            for row, its in zip(rows, beside, strict=True)
        ],
        "untouched": [row | {"random_loss": its["loss"]} for row, its in zip(before, before_beside, strict=True)],
    }
    if patched is not None:
        tables["patched"] = patched.rows()
        tables["split"] = [
            {"patched": what} | row
            for what, with_weights in (("choices and weights", True), ("choices", False))
            for row in patched.split(with_weights=with_weights)
        ]
    return tables


def _importance(found: Ablation) -> list[dict[str, Any]]:
    modes = dict.fromkeys(edit.mode for edit in found.edits if isinstance(edit, KnockOut))
    labellings = dict.fromkeys(column.labelling for column in found.losses.columns[1:])
    return [
        {"labelling": labelling, "mode": mode, **_correlation(one)}
        for mode in modes
        for labelling in labellings
        for one in specialisation_against_importance(found, labelling, mode)
    ]


def _correlation(found: Correlation) -> dict[str, Any]:
    def told(estimate: Estimate | None) -> dict[str, float | None] | None:
        return None if estimate is None else estimate.to_dict()

    return {
        "measure": found.measure,
        "overall": told(found.overall),
        "within_layers": told(found.within_layers),
        "n_experts": found.n_experts,
        "left_out": found.left_out,
    }


def open_other(predictor: Predictor, path: str | Path) -> Predictor:
    """Open a second checkpoint beside a model: of the same kind, or what tuning made of it.

    A tuned model or adapter gets the language head of ``predictor``, as it has none: it should have been made from it.

    Raises
    ------
    CheckpointError, RunError, ConfigError
        If it cannot be loaded, has another shape, or is an adapter of another base.
    """
    path = model_path(path)
    kind, device = kind_of(path), str(predictor.device)
    if kind == "state":
        return read_state(path, device)[0]
    if kind == "checkpoint":
        return Predictor.load(path, device, predictor.precision)
    folder = find_tuned(path)
    if (folder / CARD_FILE).is_file() and predictor.source is not None:
        key = sha256_json([predictor.weights_hash, sha256_file(folder / WEIGHTS_FILE)])
        return predictor.with_backbone(cast("Backbone", load_adapter(predictor.source, folder).backbone), key)
    head = Head.load(path, device)
    return predictor.with_backbone(head._backbone, head.weights_hash)


def read_edits(knock_out: Iterable[str], swap: Iterable[str], settings: CausalSettings) -> list[KnockOut | Swap]:
    """Read edits as the command line names them: ``LAYER:EXPERT`` (in each mode), and ``LAYER:A,B``.

    Raises
    ------
    ConfigError
        If a text is neither.

    Examples
    --------
    >>> read_edits(["3:1"], ["1:0,2"], CausalSettings())
    [KnockOut(layer=3, expert=1, mode='reroute'), Swap(layer=1, a=0, b=2)]
    """
    experts = [_numbers(text, 1, "--knock-out", "LAYER:EXPERT, such as 3:1") for text in knock_out]
    pairs = [_numbers(text, 2, "--swap", "LAYER:EXPERT,EXPERT, such as 3:0,1") for text in swap]
    return [
        *(KnockOut(layer, expert, mode) for mode in settings.modes for layer, expert in experts),
        *(Swap(layer, a, b) for layer, a, b in pairs),
    ]


def _numbers(text: str, n_experts: int, option: str, form: str) -> list[int]:
    layer, _, experts = text.partition(":")
    parts = [layer, *experts.split(",")]
    if len(parts) != 1 + n_experts or not all(part.strip().isdecimal() for part in parts):
        raise ConfigError(f"{option} {text!r}: write {form}")
    return [int(part) for part in parts]
