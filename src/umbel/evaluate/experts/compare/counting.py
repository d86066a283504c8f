"""All checkpoints over the same sequences, chunk by chunk; killed at any point, it goes on to the same numbers."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from umbel.errors import ConfigError, RunError
from umbel.evaluate.experts.compare.checkpoints import Checkpoint, are_alike
from umbel.evaluate.experts.compare.paired import Choices, Ints, Items, PairSums, SiteSums
from umbel.evaluate.experts.routes import RoutedSequence
from umbel.evaluate.experts.source import NO_CLASS, Labelling, Source, Stretch
from umbel.evaluate.experts.stretches import Reading, chunks, route_stretches
from umbel.evaluate.stages import code_version
from umbel.files import sha256_json, whole_file
from umbel.progress import Reporter, reporter_or_silent

STATE_FILE = "state.npz"
SAVE_EVERY_S = 20.0
_CHUNK_ENTRIES, _CHUNK_ITEMS = 2**22, (2**12, 2**16)
_ALL_PAIRS = 8

Pair = tuple[int, int]


@dataclass
class Sums:
    """Everything that is kept of a comparison.

    Attributes
    ----------
    items
        ``(U,)``: items counted.
    n_stretches
        Sequences done.
    sites
        For each checkpoint one :class:`SiteSums` a router.
    pairs
        For two checkpoints by their numbers one :class:`PairSums` a router.
    """

    items: Ints
    n_stretches: int
    sites: list[list[SiteSums]]
    pairs: dict[Pair, list[PairSums]]

    @classmethod
    def empty(cls, checkpoints: Sequence[Checkpoint], pairs: Sequence[Pair], source: Source) -> Sums:
        """Begin."""
        n, labellings = source.n_units, source.labellings
        return cls(
            np.zeros(n, np.int64),
            0,
            [[SiteSums.empty(site, n, labellings) for site in checkpoint.sites] for checkpoint in checkpoints],
            {
                (i, j): [
                    PairSums.empty(a, b, n, labellings)
                    for a, b in zip(checkpoints[i].sites, checkpoints[j].sites, strict=True)
                ]
                for i, j in pairs
            },
        )

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Give all arrays under names; changing one changes the sums."""
        found: dict[str, npt.NDArray[Any]] = {"items": self.items}
        owners: list[tuple[str, SiteSums | PairSums]] = [
            (f"site.{i}.{m}", sums) for i, each in enumerate(self.sites) for m, sums in enumerate(each)
        ]
        owners += [(f"pair.{i}.{j}.{m}", sums) for (i, j), each in self.pairs.items() for m, sums in enumerate(each)]
        for name, sums in owners:
            for key, value in vars(sums).items():
                if isinstance(value, dict):
                    found |= {f"{name}.{key}.{inner}": array for inner, array in value.items()}
                else:
                    found[f"{name}.{key}"] = value
        return found


def choose_pairs(checkpoints: Sequence[Checkpoint], *, match: bool) -> list[Pair]:
    """Say which checkpoints are laid beside which, by number.

    Each trained one beside the next and beside the last, and all beside all where they are few or are to be matched;
    controls beside all of them, and beside each other. Two of unlike shape are left out.
    """
    trained = [i for i, checkpoint in enumerate(checkpoints) if not checkpoint.is_control]
    controls = [i for i, checkpoint in enumerate(checkpoints) if checkpoint.is_control]
    if match or len(trained) <= _ALL_PAIRS:
        pairs = [(i, j) for i in trained for j in trained if i < j]
        beside = trained
    else:
        pairs = sorted({*pairwise(trained), *((i, trained[-1]) for i in trained[:-1])})
        beside = [trained[0], trained[-1]]
    pairs += [(i, j) for i in beside for j in controls] + [(i, j) for i in controls for j in controls if i < j]
    return [(i, j) for i, j in pairs if not are_alike(checkpoints[i], checkpoints[j])]


def count(
    checkpoints: Sequence[Checkpoint],
    pairs: Sequence[Pair],
    source: Source,
    *,
    seed: int,
    reading: Reading | None = None,
    state: Path | None = None,
    reporter: Reporter | None = None,
) -> Sums:
    """Route every stretch of a source with every checkpoint, and add up.

    Parameters
    ----------
    pairs
        As :func:`choose_pairs` gives them.
    seed
        Of the distances by which sequences are turned.
    reading
        How stretches of DNA are cut into windows; by default into the longest that all models read.
    state
        A file that is written whole every 20 seconds, and from which a run that was stopped goes on.

    Raises
    ------
    ConfigError
        If two models make other tokens of a sequence, so that their items are not the same; if there is nothing to
        count, or a labelling of bases has not one class for each item.
    RunError
        If the state is of another comparison or damaged.
    """
    # What a base is told by must be the same bases for all.
    reading = reading or Reading(min(checkpoint.model.window for checkpoint in checkpoints))
    sums = Sums.empty(checkpoints, pairs, source)
    key = _key(checkpoints, pairs, source, reading, seed)
    if state is not None and state.is_file():
        _load(sums, state, key)
    room = sum(site.top_k + 4 for checkpoint in checkpoints for site in checkpoint.sites)
    chunk_items = min(max(_CHUNK_ENTRIES // room, _CHUNK_ITEMS[0]), _CHUNK_ITEMS[1])
    task = reporter_or_silent(reporter).start("routing", len(source), "sequences", sums.n_stretches)
    saved = time.monotonic()
    for chunk in chunks(source, sums.n_stretches, chunk_items):
        _add(sums, checkpoints, chunk, source.labellings, reading, seed)
        task.advance(len(chunk))
        if state is not None and time.monotonic() - saved >= SAVE_EVERY_S:
            _save(sums, state, key)
            saved = time.monotonic()
    task.close()
    if not sums.items.any():
        raise ConfigError("there is no base or token to count in these sequences: give longer ones, or more")
    if state is not None:
        _save(sums, state, key)
    return sums


def _add(
    sums: Sums,
    checkpoints: Sequence[Checkpoint],
    chunk: list[tuple[int, Stretch]],
    labellings: tuple[Labelling, ...],
    reading: Reading,
    seed: int,
) -> None:
    stretches = [stretch for _, stretch in chunk]
    first: list[RoutedSequence] = []
    choices: list[list[Choices]] = []
    for checkpoint in checkpoints:
        routed = route_stretches(checkpoint.model, stretches, reading)
        first = first or routed
        _require_same(checkpoints[0], first, checkpoint, routed, stretches)
        choices.append([_choices(routed, m) for m in range(len(checkpoint.sites))])
    items = _items(chunk, first, labellings, seed)
    sums.items += np.bincount(items.unit, minlength=len(sums.items))
    for own, found in zip(sums.sites, choices, strict=True):
        for site_sums, site_choices in zip(own, found, strict=True):
            site_sums.add(items, site_choices)
    for (i, j), paired in sums.pairs.items():
        for pair_sums, a, b in zip(paired, choices[i], choices[j], strict=True):
            pair_sums.add(items, a, b)
    sums.n_stretches += len(chunk)


def _require_same(
    a: Checkpoint, ours: list[RoutedSequence], b: Checkpoint, theirs: list[RoutedSequence], stretches: list[Stretch]
) -> None:
    for one, other, stretch in zip(ours, theirs, stretches, strict=True):
        if not (np.array_equal(one.tokens, other.tokens) and np.array_equal(one.counted, other.counted)):
            raise ConfigError(
                f"{stretch.name}: {a.name} and {b.name} make other tokens of it ({len(one.tokens)} and "
                f"{len(other.tokens)}), so their choices are not about the same items. Compare models of one vocabulary"
            )


def _choices(routed: list[RoutedSequence], site: int) -> Choices:
    return Choices(
        np.concatenate([sequence.sites[site].experts[sequence.counted] for sequence in routed]),
        np.concatenate([sequence.sites[site].entropy[sequence.counted] for sequence in routed]),
    )


def _items(
    chunk: list[tuple[int, Stretch]], routed: list[RoutedSequence], labellings: tuple[Labelling, ...], seed: int
) -> Items:
    counts = [int(sequence.counted.sum()) for sequence in routed]
    unit = np.repeat([stretch.unit for _, stretch in chunk], counts).astype(np.int64)
    labels = {}
    for labelling in labellings:
        if labelling.level == "sequence":
            given = [stretch.classes.get(labelling.name, NO_CLASS) for _, stretch in chunk]
            labels[labelling.name] = np.repeat(given, counts).astype(np.int16)
            continue
        for (_, stretch), sequence in zip(chunk, routed, strict=True):
            n_labels = len(stretch.labels[labelling.name])
            if n_labels != len(sequence.tokens):
                raise ConfigError(
                    f"{stretch.name}: {len(sequence.tokens)} items, and {labelling.name} has classes for {n_labels}: "
                    "only bases of DNA have classes of their own"
                )
        labels[labelling.name] = np.concatenate(
            [stretch.labels[labelling.name][s.counted] for (_, stretch), s in zip(chunk, routed, strict=True)]
        )
    turned, begin = [], 0
    for (number, _), n in zip(chunk, counts, strict=True):
        # Of the sequence's own number, so that it does not matter where a stopped run goes on.
        distance = int(np.random.default_rng((seed, number)).integers(1, n)) if n > 1 else 0
        turned.append(begin + (np.arange(n) + distance) % max(n, 1))
        begin += n
    return Items(unit, labels, np.concatenate(turned).astype(np.int64))


def _key(checkpoints: Sequence[Checkpoint], pairs: Sequence[Pair], source: Source, reading: Reading, seed: int) -> str:
    described = [checkpoint.describe() for checkpoint in checkpoints]
    told = {"checkpoints": described, "pairs": [list(pair) for pair in pairs], "seed": seed}
    told |= {
        "code": code_version(),
        "source": source.facts,
        "n": len(source),
        "units": source.n_units,
        "reading": dataclasses.asdict(reading),
    }
    return sha256_json(json.loads(json.dumps(told, default=str)))


def _save(sums: Sums, path: Path, key: str) -> None:
    with whole_file(path) as temporary, open(temporary, "wb") as handle:
        np.savez(handle, key=np.array(key), n_stretches=np.array(sums.n_stretches), **sums.arrays())  # type: ignore[arg-type]


def _load(sums: Sums, path: Path, key: str) -> None:
    try:
        # Opened here, because numpy leaves a file open that it cannot read.
        with open(path, "rb") as handle, np.load(handle) as stored:
            if str(stored["key"]) != key:
                raise RunError(
                    f"{path}: is of another comparison (other checkpoints, sequences or settings): choose another --out"
                )
            for name, array in sums.arrays().items():
                array[...] = stored[name]
            sums.n_stretches = int(stored["n_stretches"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise RunError(f"{path}: damaged ({error}); delete it to begin again") from error
