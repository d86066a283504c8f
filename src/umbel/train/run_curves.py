"""A run read back from ``run.json`` and ``metrics.jsonl``: curves of bounded size, however long the run."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from umbel.errors import RunError
from umbel.train.log import METRICS_FILE, Record

MAX_BINS = 1_000
"""Bins of a curve, each with a mean, a least and a greatest value."""
MAX_EVENTS = 1_000
_BLOCK_RECORDS = 2_000
_WHOLE_BYTES = 32_000_000
"""A file of so many bytes is read whole, of one of ten times as many the experts of every tenth step."""
_EXPERTS = ', "experts": ['
LAYER_NUMBERS = ("max_over_mean", "cv", "n_dead", "entropy", "routing_entropy")


class Curve:
    """A number against step, kept as bins of neighbouring steps that widen twofold when more than 1,000 are needed.

    What comes out does not depend on how the values were handed over.

    Examples
    --------
    >>> curve = Curve()
    >>> curve.add(np.arange(1, 3_001), np.arange(1.0, 3_001.0))
    >>> curve.width, len(curve.steps), float(curve.mean[0]), float(curve.high[-1])
    (4, 751, 2.0, 3000.0)
    """

    def __init__(self) -> None:
        self.width = 1
        self.n_missing = 0
        """Values that were not finite."""
        self._n = np.zeros(MAX_BINS, np.int64)
        self._step_sum, self._sum = np.zeros(MAX_BINS), np.zeros(MAX_BINS)
        self._low, self._high = np.full(MAX_BINS, np.inf), np.full(MAX_BINS, -np.inf)

    def add(self, steps: np.ndarray, values: np.ndarray) -> None:
        """Add ``(n,)`` values at ``(n,)`` steps >= 0."""
        finite = np.isfinite(values)
        self.n_missing += int((~finite).sum())
        steps, values = steps[finite], values[finite]
        if not len(steps):
            return
        while steps.max() // self.width >= MAX_BINS:
            self._widen()
        bins = steps // self.width
        self._n += np.bincount(bins, minlength=MAX_BINS)
        self._step_sum += np.bincount(bins, steps, MAX_BINS)
        self._sum += np.bincount(bins, values, MAX_BINS)
        np.minimum.at(self._low, bins, values)
        np.maximum.at(self._high, bins, values)

    def _widen(self) -> None:
        self.width *= 2
        half = np.zeros(MAX_BINS // 2)
        self._n = np.concatenate([self._n.reshape(-1, 2).sum(1), half.astype(np.int64)])
        self._step_sum = np.concatenate([self._step_sum.reshape(-1, 2).sum(1), half])
        self._sum = np.concatenate([self._sum.reshape(-1, 2).sum(1), half])
        self._low = np.concatenate([self._low.reshape(-1, 2).min(1), half + np.inf])
        self._high = np.concatenate([self._high.reshape(-1, 2).max(1), half - np.inf])

    @property
    def steps(self) -> np.ndarray:
        """``(n_bins,)``: mean step of each bin that has values."""
        return self._step_sum[self._n > 0] / self._n[self._n > 0]

    @property
    def mean(self) -> np.ndarray:
        """``(n_bins,)``: mean value of each."""
        return self._sum[self._n > 0] / self._n[self._n > 0]

    @property
    def low(self) -> np.ndarray:
        """``(n_bins,)``: least value of each."""
        return self._low[self._n > 0]

    @property
    def high(self) -> np.ndarray:
        """``(n_bins,)``: greatest value of each."""
        return self._high[self._n > 0]

    def smoothed(self) -> np.ndarray:
        """``(n_bins,)``: centred means over a twenty-fifth of the curve, less at its ends; all steps count alike."""
        n, sums = self._n[self._n > 0], self._sum[self._n > 0]
        reach, place = len(n) // 50, np.arange(len(n))
        start, end = np.maximum(0, place - reach), np.minimum(len(n), place + reach + 1)
        totals, counts = np.concatenate([[0.0], np.cumsum(sums)]), np.concatenate([[0], np.cumsum(n)])
        return (totals[end] - totals[start]) / (counts[end] - counts[start])


@dataclass
class RunStory:
    """What a run folder tells.

    Attributes
    ----------
    facts
        Content of ``run.json``.
    curves
        By kind and name, such as ``train/loss``; of experts by kind, layer and name, such as ``train/3/cv``.
    last, experts
        The newest record of each kind, and the newest that tells of experts.
    best
        Least validation loss and its step, where there is one.
    events, n_events
        The last thousand, in order, and how many there are of each name.
    seconds
        Wall clock of the steps that count, over all processes that ran one after the other.
    last_seconds
        Wall clock since the last of them began.
    """

    facts: dict[str, Any]
    curves: dict[str, Curve] = field(default_factory=dict)
    last: dict[str, Record] = field(default_factory=dict)
    experts: dict[str, Record] = field(default_factory=dict)
    best: tuple[float, int] | None = None
    events: list[Record] = field(default_factory=list)
    n_events: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    last_seconds: float = 0.0

    @property
    def steps(self) -> int:
        """Steps that the run is to have."""
        return int(self.facts["config"]["train"]["steps"])

    @property
    def step(self) -> int:
        """Steps that it has."""
        return int(self.last.get("train", {}).get("step", 0))

    def layer_curves(self, name: str) -> dict[int, Curve]:
        """Give one of :data:`LAYER_NUMBERS` of each layer, from training, or from validation where that is all."""
        for kind in ("train", "valid"):
            found = {
                int(key.split("/")[1]): curve
                for key, curve in self.curves.items()
                if key.startswith(f"{kind}/") and key.endswith(f"/{name}") and key.count("/") == 2
            }
            if found:
                return dict(sorted(found.items()))
        return {}


def read_story(folder: Path) -> RunStory:
    """Read a run folder in bounded memory; a last line cut short by a kill is left out.

    Raises
    ------
    RunError
        If ``run.json`` is missing or damaged, or any other line of ``metrics.jsonl`` is.
    """
    path = folder / "run.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        facts["config"]["train"]["steps"]
    except FileNotFoundError as error:
        raise RunError(f"{folder}: no run folder (no run.json). Give the folder of an umbel pretrain") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: damaged ({type(error).__name__}: {error}); nothing can be told of this run") from error
    story = RunStory(facts)
    block: list[Record] = []
    for record in _records(folder / METRICS_FILE):
        block.append(record)
        if len(block) == _BLOCK_RECORDS:
            _take(story, block)
            block = []
    _take(story, block)
    return story


def _records(path: Path) -> Iterator[Record]:
    if not path.is_file():
        return
    # Most of a long file are the experts of each step, of which curves need far from all.
    every = 1 + path.stat().st_size // _WHOLE_BYTES
    damaged: tuple[int, ValueError] | None = None
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if damaged:
                raise RunError(f"{path}, line {damaged[0]}: not JSON ({damaged[1]}); delete that line") from damaged[1]
            if number % every and line.startswith('{"kind": "train"') and line.endswith("]}\n"):
                line = line.partition(_EXPERTS)[0] + "}"
            try:
                yield json.loads(line)
            except ValueError as error:
                damaged = (number, error)


def _take(story: RunStory, block: list[Record]) -> None:
    for kind in ("train", "valid"):
        records = [record for record in block if record["kind"] == kind]
        if records:
            _add_numbers(story, kind, records)
            _add_experts(story, kind, [record for record in records if record.get("experts")])
            story.last[kind] = records[-1]
    for record in block:
        if record["kind"] == "event":
            story.events.append(record)
            story.n_events[record["event"]] += 1
        elif record["kind"] == "valid" and math.isfinite(record.get("loss", math.nan)):
            found = (record["loss"], record["step"])
            story.best = found if story.best is None else min(story.best, found)
        elif record["kind"] == "train":
            # Each process counts its seconds from 0.
            before = story.last_seconds if record["seconds"] >= story.last_seconds else 0.0
            story.seconds += record["seconds"] - before
            story.last_seconds = record["seconds"]
    story.events = story.events[-MAX_EVENTS:]


def _add_numbers(story: RunStory, kind: str, records: list[Record]) -> None:
    steps = np.array([record["step"] for record in records], np.int64)
    for name in sorted(set().union(*records) - {"kind", "step", "experts"}):
        values = [record.get(name) for record in records]
        there = np.array([value is not None for value in values]) if None in values else slice(None)
        _curve(story, f"{kind}/{name}").add(steps[there], np.array(values, float)[there])


def _add_experts(story: RunStory, kind: str, records: list[Record]) -> None:
    if not records:
        return
    story.experts[kind] = records[-1]
    steps = np.array([record["step"] for record in records], np.int64)
    for place, layer in enumerate(records[0]["experts"]):
        for name in LAYER_NUMBERS:
            # Runs of earlier versions have fewer numbers.
            if name in layer:
                values = np.array([record["experts"][place][name] for record in records], float)
                _curve(story, f"{kind}/{layer['layer']}/{name}").add(steps, values)


def _curve(story: RunStory, name: str) -> Curve:
    if name not in story.curves:
        story.curves[name] = Curve()
    return story.curves[name]
