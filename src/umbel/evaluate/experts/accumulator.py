"""The sums of a recording while it grows, as named arrays that can be saved and gone on with.

Shapes: U units, E experts, G rows of classes of all labellings of bases, X contexts, S shifts, R top windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.errors import ConfigError
from umbel.evaluate.experts import counting
from umbel.evaluate.experts.contexts import LONGEST, WORDS, shorter_words, words_around
from umbel.evaluate.experts.routes import RoutedSequence, Site
from umbel.evaluate.experts.source import Labelling, Stretch
from umbel.evaluate.experts.totals import AROUND, SiteTotals, Totals

N_TOP, TOP_BP = 12, 100
"""Windows that are kept of each expert, and their bases."""
_FULL_ENOUGH = 0.9
Arrays = dict[str, npt.NDArray[Any]]


class Accumulator:
    """Adds up routed stretches.

    Parameters
    ----------
    sites
        The routers of the model.
    labellings
        Of the source.
    n_units
        Of the source.
    n_shifts
        How often the labels of each stretch are turned by a random distance; 0: never.
    seed
        Of these distances, which depend on it and on the number of the stretch alone.
    arrays
        To go on from; see :attr:`arrays`.

    Attributes
    ----------
    arrays
        All that was added, by name.
    """

    def __init__(
        self,
        sites: Sequence[Site],
        labellings: Sequence[Labelling],
        n_units: int,
        n_shifts: int,
        seed: int,
        arrays: Arrays | None = None,
    ):
        self._sites, self._labellings, self._seed = sites, labellings, seed
        self._of_bases = [each for each in labellings if each.level == "base"]
        self._of_sequences = [each for each in labellings if each.level == "sequence"]
        self._first_row = np.cumsum([0, *(len(each.classes) for each in self._of_bases)])
        self.arrays = arrays if arrays is not None else self._empty(n_units, n_shifts)

    def _empty(self, n_units: int, n_shifts: int) -> Arrays:
        n_rows = int(self._first_row[-1])
        arrays: Arrays = {
            "items": np.zeros(n_units, np.int64),
            "class_items": np.zeros((n_units, n_rows), np.int64),
            "unit_class": np.full((len(self._of_sequences), n_units), -1, np.int64),
            # Rows of contexts are made when the first stretch says what they are: words of bases, or tokens.
            "class_contexts": np.zeros((n_rows, 0), np.int64),
            "is_text": np.array(-1),
        }
        for labelling in self._of_sequences:
            arrays[f"contexts of {labelling.name}"] = np.zeros((len(labelling.classes), 0), np.int64)
        for i, site in enumerate(self._sites):
            e = site.n_experts
            before = self._sites[i - 1].n_experts if i else 0
            arrays |= {
                f"{i}/counts": np.zeros((n_units, e), np.int64),
                f"{i}/weights": np.zeros((n_units, e)),
                f"{i}/entropy": np.zeros(n_units),
                f"{i}/margin": np.zeros(n_units),
                f"{i}/n_scored": np.zeros(n_units, np.int64),
                f"{i}/n_margins": np.zeros(n_units, np.int64),
                f"{i}/pairs": np.zeros((e, e), np.int64),
                f"{i}/paths": np.zeros((before, e), np.int64),
                f"{i}/joint": np.zeros((n_units, n_rows, e), np.int64),
                f"{i}/contexts": np.zeros((0, e), np.int64),
                f"{i}/turned": np.zeros((n_shifts, n_rows, e), np.int64),
                f"{i}/around": np.zeros((e, 2 * AROUND + 1, 4), np.int64),
                f"{i}/top_score": np.full((e, N_TOP), -1.0),
                f"{i}/top_weight": np.zeros((e, N_TOP)),
                f"{i}/top_stretch": np.full((e, N_TOP), -1, np.int64),
                f"{i}/top_start": np.full((e, N_TOP), -1, np.int64),
            }
        return arrays

    def add(self, number: int, stretch: Stretch, routed: RoutedSequence) -> None:
        """Add one stretch, the ``number``-th of its source."""
        a, unit, counted = self.arrays, stretch.unit, routed.counted
        is_text = isinstance(stretch.content, str)
        if a["is_text"] not in (-1, is_text):
            raise ConfigError(f"{stretch.name}: text and bases in one recording; record them apart")
        a["is_text"] = np.array(int(is_text))
        contexts = self._contexts(routed, is_text)
        labels = self._labels(stretch, len(counted))
        a["items"][unit] += int(counted.sum())
        self._add_classes(stretch, counted, contexts, labels)
        distances = np.random.default_rng([self._seed, number]).integers(
            1, max(2, len(counted)), len(a["0/turned"]), dtype=np.int64
        )
        runs = [_runs(row) for row in labels]
        for i, site in enumerate(routed.sites):
            counting.count_choices(
                *(site.experts, site.weights, counted, labels, contexts),
                *(a[f"{i}/counts"][unit], a[f"{i}/weights"][unit], a[f"{i}/joint"][unit]),
                *(a[f"{i}/contexts"], a[f"{i}/pairs"]),
            )
            entropy, margin, n_entropy, n_margin = counting.count_scores(site.entropy, site.margin, counted)
            a[f"{i}/entropy"][unit] += entropy
            a[f"{i}/margin"][unit] += margin
            a[f"{i}/n_scored"][unit] += n_entropy
            a[f"{i}/n_margins"][unit] += n_margin
            if i:
                counting.count_paths(routed.sites[i - 1].experts, site.experts, counted, a[f"{i}/paths"])
            if len(distances) and len(labels):
                before = counting.running_counts(site.experts, counted, self._sites[i].n_experts)
                for row, row_runs in zip(labels, runs, strict=True):
                    places = np.flatnonzero(row >= 0)
                    # Adding a run costs a step per expert, adding its items one per choice.
                    if len(row_runs) * before.shape[1] < len(places) * site.experts.shape[1]:
                        counting.count_turned_runs(before, row_runs, distances, a[f"{i}/turned"])
                    else:
                        rows = row[places]
                        laid = counting.twice(site.experts, counted, before.shape[1])
                        counting.count_turned_items(laid, places.astype(np.int32), rows, distances, a[f"{i}/turned"])
            if not is_text:
                counting.count_around(site.experts, counted, np.asarray(stretch.content), a[f"{i}/around"])
                self._add_top(i, number, site.experts, site.weights, counted)

    def _contexts(self, routed: RoutedSequence, is_text: bool) -> npt.NDArray[np.int32]:
        contexts = routed.tokens if is_text else words_around(routed.tokens.astype(np.uint8))
        needed = int(contexts.max(initial=-1)) + 1 if is_text else 4**LONGEST
        a = self.arrays
        if needed > a["0/contexts"].shape[0]:
            # Vocabularies are not told beforehand: room for the next power of two of tokens.
            room = 1 << (needed - 1).bit_length()
            for i in range(len(self._sites)):
                a[f"{i}/contexts"] = _wider(a[f"{i}/contexts"], room, 0)
            for name in ("class_contexts", *(f"contexts of {each.name}" for each in self._of_sequences)):
                a[name] = _wider(a[name], room, 1)
        return np.where(routed.counted, contexts, -1).astype(np.int32)

    def _labels(self, stretch: Stretch, n_items: int) -> npt.NDArray[np.int16]:
        """Put the labellings of bases on top of each other as rows of the table of classes, int16 ``(A, T)``."""
        labels = np.full((len(self._of_bases), n_items), -1, np.int16)
        for row, labelling in enumerate(self._of_bases):
            own = stretch.labels[labelling.name]
            labels[row] = np.where(own >= 0, own + np.int16(self._first_row[row]), -1)
        return labels

    def _add_classes(
        self,
        stretch: Stretch,
        counted: npt.NDArray[np.bool_],
        contexts: npt.NDArray[np.int32],
        labels: npt.NDArray[np.int16],
    ) -> None:
        a, unit = self.arrays, stretch.unit
        n_contexts = a["class_contexts"].shape[1]
        known = contexts >= 0
        for row in labels:
            there = counted & (row >= 0)
            a["class_items"][unit] += np.bincount(row[there], minlength=a["class_items"].shape[1])
            there &= known
            joined = row[there].astype(np.int64) * n_contexts + contexts[there]
            a["class_contexts"] += np.bincount(joined, minlength=a["class_contexts"].size).reshape(-1, n_contexts)
        for row_number, labelling in enumerate(self._of_sequences):
            own = stretch.classes.get(labelling.name, -1)
            before = int(a["unit_class"][row_number, unit])
            if before not in (-1, own):
                raise ConfigError(
                    f"{stretch.name}: {labelling.name} is {own}, and others of its unit {unit} have {before}; the "
                    "sequences of a unit must have one class"
                )
            a["unit_class"][row_number, unit] = own
            if own >= 0:
                a[f"contexts of {labelling.name}"][own] += np.bincount(contexts[known], minlength=n_contexts)

    def _add_top(
        self,
        i: int,
        number: int,
        experts: npt.NDArray[np.int16],
        weights: npt.NDArray[np.float32],
        counted: npt.NDArray[np.bool_],
    ) -> None:
        a, n_experts = self.arrays, self._sites[i].n_experts
        n_bins = len(counted) // TOP_BP
        n, weight = np.zeros((n_experts, n_bins), np.int64), np.zeros((n_experts, n_bins))
        counting.count_bins(experts, weights, counted, TOP_BP, n, weight)
        n_counted = counted[: n_bins * TOP_BP].reshape(n_bins, TOP_BP).sum(1)
        bins = np.flatnonzero(n_counted >= _FULL_ENOUGH * TOP_BP)
        score = n[:, bins] / n_counted[bins]
        names = [f"{i}/top_{part}" for part in ("score", "weight", "stretch", "start")]
        for e in range(n_experts):
            new = (score[e], weight[e, bins], np.full(len(bins), number), bins * TOP_BP)
            merged = [np.concatenate([a[name][e], values]) for name, values in zip(names, new, strict=True)]
            # Of windows that an expert takes as often, those come first where its weights are larger.
            best = np.lexsort((merged[3], merged[2], -merged[1], -merged[0]))[:N_TOP]
            for name, values in zip(names, merged, strict=True):
                a[name][e] = values[best]

    def totals(self) -> Totals:
        """Give what was added."""
        a = self.arrays
        kinds = {"token": (0, 0)} if a["is_text"] == 1 else WORDS
        class_items: dict[str, Any] = {}
        class_contexts: dict[tuple[str, str], Any] = {}
        for row, labelling in enumerate(self._of_bases):
            rows = slice(int(self._first_row[row]), int(self._first_row[row + 1]))
            class_items[labelling.name] = a["class_items"][:, rows]
            for kind, part in kinds.items():
                class_contexts[labelling.name, kind] = _of_kind(a["class_contexts"][rows].T, kind, part).T
        for row, labelling in enumerate(self._of_sequences):
            member = a["unit_class"][row][:, None] == np.arange(len(labelling.classes))
            class_items[labelling.name] = member * a["items"][:, None]
            for kind, part in kinds.items():
                found = a[f"contexts of {labelling.name}"].T
                class_contexts[labelling.name, kind] = _of_kind(found, kind, part).T
        return Totals([self._site(i, kinds) for i in range(len(self._sites))], a["items"], class_items, class_contexts)

    def _site(self, i: int, kinds: dict[str, tuple[int, int]]) -> SiteTotals:
        a = self.arrays
        joint, turned = {}, {}
        for row, labelling in enumerate(self._of_bases):
            rows = slice(int(self._first_row[row]), int(self._first_row[row + 1]))
            joint[labelling.name], turned[labelling.name] = a[f"{i}/joint"][:, rows], a[f"{i}/turned"][:, rows]
        for row, labelling in enumerate(self._of_sequences):
            member = a["unit_class"][row][:, None] == np.arange(len(labelling.classes))
            joint[labelling.name] = member[:, :, None] * a[f"{i}/counts"][:, None, :]
        return SiteTotals(
            counts=a[f"{i}/counts"],
            weights=a[f"{i}/weights"],
            entropy=a[f"{i}/entropy"],
            margin=a[f"{i}/margin"],
            n_scored=a[f"{i}/n_scored"],
            n_margins=a[f"{i}/n_margins"],
            pairs=a[f"{i}/pairs"],
            paths=a[f"{i}/paths"],
            joint=joint,
            contexts={kind: _of_kind(a[f"{i}/contexts"], kind, part) for kind, part in kinds.items()},
            shifted=turned,
            around=a[f"{i}/around"] if a["is_text"] == 0 else np.zeros((0, 2 * AROUND + 1, 4), np.int64),
        )


def _runs(labels: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
    """Give start, end and class of each run of one class; items without a class are in none."""
    first = np.flatnonzero(np.append(True, labels[1:] != labels[:-1])) if len(labels) else np.zeros(0, np.int64)
    found = np.column_stack((first, np.append(first[1:], len(labels))[: len(first)], labels[first].astype(np.int64)))
    return np.ascontiguousarray(found[found[:, 2] >= 0])


def _wider(array: npt.NDArray[Any], room: int, axis: int) -> npt.NDArray[Any]:
    """Add zeros along an axis until it is ``room`` long."""
    missing = [(0, 0)] * array.ndim
    missing[axis] = (0, room - array.shape[axis])
    return np.pad(array, missing)


def _of_kind(table: npt.NDArray[Any], kind: str, part: tuple[int, int]) -> npt.NDArray[Any]:
    if kind == "token" or not len(table):
        return table
    return shorter_words(table, *part)
