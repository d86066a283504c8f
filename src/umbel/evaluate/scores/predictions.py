"""What a model said of labelled examples, beside what is true: all that the numbers of a table are computed from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from umbel.config import from_dict
from umbel.data.labelled.examples import Examples, Targets
from umbel.data.labelled.task import IGNORED, Task
from umbel.errors import RunError
from umbel.files import whole_file

Array = npt.NDArray[Any]
Scores = npt.NDArray[np.float32]

FORMAT = "umbel-predictions"
FORMAT_VERSION = 1
# Probabilities in float32 add up to 1 within a few units of their last place for each class.
_SUM_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Predictions:
    """Scores and targets of one model on one set of examples; a row is an example, or a base or bin of one.

    Attributes
    ----------
    task
        What was asked.
    ids
        One name an example, all different.
    targets
        int64 ``(rows,)`` where one class is right (-100: a base without one), else float32 ``(rows, outputs)``
        (NaN: nothing was measured).
    scores
        float32 ``(rows, outputs)``: probabilities of classes or labels, or values in the units of the targets.
    units
        int64 ``(rows,)``: index into ``ids``, ascending. Rows of one example lie together, and every example has one.
    facts
        Whatever else belongs to them, as plain JSON: model, seed, data.

    Raises
    ------
    RunError
        If shapes do not fit together, a score is NaN or infinite, or a probability is none.

    Examples
    --------
    >>> task = Task("binary", ("no", "yes"))
    >>> scores = np.array([[0.75, 0.25], [0.5, 0.5]], np.float32)
    >>> Predictions(task, ("a", "b"), np.array([0, 1]), scores, np.arange(2)).n_examples
    2
    """

    task: Task
    ids: tuple[str, ...]
    targets: Array
    scores: Scores
    units: npt.NDArray[np.int64]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows, outputs = len(self.units), self.task.n_outputs
        expected = (rows,) if self.task.is_classes else (rows, outputs)
        if self.targets.shape != expected or self.scores.shape != (rows, outputs):
            raise RunError(
                f"predictions of a {self.task.kind} task with {rows} rows: targets are {expected} and scores "
                f"{(rows, outputs)}, not {self.targets.shape} and {self.scores.shape}"
            )
        if not rows:
            raise RunError("there are no predictions: give at least one example")
        steps = np.diff(self.units)
        if self.units[0] != 0 or self.units[-1] != len(self.ids) - 1 or ((steps < 0) | (steps > 1)).any():
            raise RunError(f"units must number the {len(self.ids)} examples in their order, each with at least one row")
        if len(set(self.ids)) < len(self.ids):
            raise RunError("ids of examples are repeated, so predictions cannot be told apart by them")
        bad = np.flatnonzero(~np.isfinite(self.scores).all(axis=1))
        if len(bad):
            raise RunError(
                f"{len(bad)} of {rows} predictions are NaN or infinite, the first for "
                f"{self.ids[self.units[bad[0]]]!r}. The model has diverged: lower its learning rate."
            )
        if not self.task.is_numbers:
            self._require_probabilities()

    def _require_probabilities(self) -> None:
        wrong = ((self.scores < 0) | (self.scores > 1)).any(axis=1)
        if self.task.is_classes:
            wrong |= np.abs(self.scores.sum(axis=1, dtype=np.float64) - 1) > _SUM_TOLERANCE
            known = self.targets != IGNORED if self.task.kind == "bases" else np.full(len(self.targets), True)
            if ((self.targets < 0) | (self.targets >= self.task.n_outputs))[known].any():
                raise RunError(f"a target is none of the {self.task.n_outputs} classes of the task")
        if wrong.any():
            row = int(wrong.argmax())
            raise RunError(
                f"scores of {self.ids[self.units[row]]!r} are {self.scores[row].tolist()}, which are no probabilities. "
                "Give those, not logits."
            )

    @property
    def n_examples(self) -> int:
        """Examples, of which along a sequence each has many rows."""
        return len(self.ids)

    @classmethod
    def from_logits(
        cls,
        task: Task,
        ids: Sequence[str],
        targets: Targets,
        logits: Array | Sequence[Array],
        facts: Mapping[str, Any] | None = None,
    ) -> Predictions:
        """Turn the outputs of a head into scores: softmax of classes, sigmoid of labels, numbers as they are.

        Parameters
        ----------
        task
            What was asked.
        ids
            One name an example.
        targets
            As in :class:`umbel.data.labelled.examples.Examples`.
        logits
            ``(n, outputs)``; along a sequence one ``(rows_i, outputs)`` an example.
        facts
            What to keep beside them.

        Raises
        ------
        RunError
            As the class, and if an example has another number of rows than targets.

        Examples
        --------
        >>> task = Task("binary", ("no", "yes"))
        >>> Predictions.from_logits(task, ["a"], np.array([1]), np.zeros((1, 2))).scores.tolist()
        [[0.5, 0.5]]
        """
        if task.is_along_sequence:
            for name, target, logit in zip(ids, targets, logits, strict=True):
                if len(target) != len(logit):
                    raise RunError(f"example {name!r} has {len(target)} targets and {len(logit)} predictions")
        flat = np.concatenate(list(logits)) if task.is_along_sequence else np.asarray(logits)
        # Before the softmax, which would make probabilities of an infinity.
        if not task.is_numbers and np.isfinite(flat).all():
            flat = softmax(flat) if task.is_classes else sigmoid(flat)
        flat_targets, units = flattened(task, targets)
        return cls(task, tuple(ids), flat_targets, flat.astype(np.float32), units, dict(facts or {}))

    @classmethod
    def of_examples(cls, examples: Examples, scores: Array, facts: Mapping[str, Any] | None = None) -> Predictions:
        """Set ``scores`` ``(rows, outputs)`` beside the targets of ``examples``."""
        targets, units = flattened(examples.task, examples.targets)
        return cls(examples.task, examples.ids, targets, np.asarray(scores, np.float32), units, dict(facts or {}))

    def save(self, path: str | Path) -> None:
        """Write them as a Parquet file, whole or not at all; every float32 comes back as it was.

        Columns: ``id``, ``unit``, ``target`` (the name of the class; null: none) or one ``target:NAME`` an output
        (NaN: not measured), and one ``score:NAME`` an output. Task and facts stand as JSON in the schema's metadata.

        Raises
        ------
        OutputError
            If the disk is full or not ours to write to.
        """
        ids = pa.DictionaryArray.from_arrays(pa.array(self.units.astype(np.int32)), pa.array(self.ids, pa.string()))
        columns: dict[str, Any] = {"id": ids, "unit": pa.array(self.units)}
        if self.task.is_classes:
            known = self.targets != IGNORED
            indices = pa.array(np.where(known, self.targets, 0).astype(np.int32), mask=~known)
            columns["target"] = pa.DictionaryArray.from_arrays(indices, pa.array(self.task.names, pa.string()))
        else:
            columns |= {f"target:{name}": self.targets[:, i] for i, name in enumerate(self.task.names)}
        columns |= {f"score:{name}": self.scores[:, i] for i, name in enumerate(self.task.names)}
        about = {"format": FORMAT, "format_version": FORMAT_VERSION, "task": asdict(self.task), "facts": self.facts}
        table = pa.table(columns).replace_schema_metadata({FORMAT: json.dumps(about, sort_keys=True)})
        with whole_file(path) as temporary:
            pq.write_table(table, temporary, compression="zstd")

    @classmethod
    def load(cls, path: str | Path) -> Predictions:
        """Read what :meth:`save` wrote.

        Raises
        ------
        RunError
            If there is no such file, it is damaged, or it holds something else.
        """
        try:
            table = pq.read_table(path)
            about = json.loads((table.schema.metadata or {})[FORMAT.encode()])
        except FileNotFoundError as error:
            raise RunError(f"{path}: no such file of predictions") from error
        except KeyError as error:
            raise RunError(f"{path}: a Parquet file, but not of predictions that umbel saved") from error
        except (pa.ArrowException, OSError, ValueError) as error:
            raise RunError(f"{path}: cannot be read as predictions ({error}). Delete it and predict again.") from error
        if about.get("format_version") != FORMAT_VERSION:
            raise RunError(f"{path}: predictions of format version {about.get('format_version')}, not {FORMAT_VERSION}")
        task = from_dict(Task, about["task"], str(path))
        try:
            return _from_table(table, task, about["facts"])
        except (KeyError, RunError) as error:
            raise RunError(f"{path}: the predictions are damaged: {error}") from error


def _from_table(table: pa.Table, task: Task, facts: Mapping[str, Any]) -> Predictions:
    def matrix(prefix: str) -> Array:
        return np.column_stack([table[f"{prefix}:{name}"].to_numpy() for name in task.names])

    units = table["unit"].to_numpy()
    first = np.flatnonzero(np.diff(units, prepend=-1))
    ids = tuple(table["id"].take(pa.array(first)).cast(pa.string()).to_pylist())
    if task.is_classes:
        named = table["target"].cast(pa.string()).combine_chunks()
        found = pa.compute.index_in(named, pa.array(task.names, pa.string()))
        targets = found.fill_null(IGNORED).to_numpy(zero_copy_only=False).astype(np.int64)
    else:
        targets = matrix("target")
    return Predictions(task, ids, targets, matrix("score"), units, facts)


def flattened(task: Task, targets: Targets) -> tuple[Array, npt.NDArray[np.int64]]:
    """Lay the targets of all examples end to end.

    Returns
    -------
    targets
        ``(rows,)`` or ``(rows, outputs)``.
    units
        int64 ``(rows,)``: the example that each belongs to.

    Examples
    --------
    >>> task = Task("bases", ("exon", "intron"))
    >>> targets, units = flattened(task, (np.array([0, 0]), np.array([1])))
    >>> targets.tolist(), units.tolist()
    ([0, 0, 1], [0, 0, 1])
    """
    if not task.is_along_sequence:
        rows = np.asarray(targets)
        return rows, np.arange(len(rows))
    return np.concatenate(list(targets)), np.repeat(np.arange(len(targets)), [len(each) for each in targets])


def softmax(logits: Array) -> Array:
    """Probabilities of the last axis, in float64.

    Examples
    --------
    >>> softmax(np.array([1000.0, 1000.0])).tolist()
    [0.5, 0.5]
    """
    wide = np.asarray(logits, np.float64)
    powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def sigmoid(logits: Array) -> Array:
    """Probability of yes, in float64, without overflow.

    Examples
    --------
    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    wide = np.asarray(logits, np.float64)
    power = np.exp(-np.abs(wide))
    return np.where(wide >= 0, 1, power) / (1 + power)
