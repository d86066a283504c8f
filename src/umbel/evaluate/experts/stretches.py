"""Stretches of any length through a model that reads windows: every base is told by the window it lies deepest in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from umbel.errors import ConfigError
from umbel.evaluate.experts.routes import RoutedModel, RoutedSequence, SiteRoutes
from umbel.evaluate.experts.source import Source, Stretch
from umbel.predict.scan.windows import Tiling, Window

CHUNK_ITEMS = 1 << 17
"""Bases of the stretches that are routed together, about."""


@dataclass(frozen=True)
class Reading:
    """How stretches are cut into windows.

    Attributes
    ----------
    window_bp
        Bases of a window; 0: as many as the model reads.
    overlap_bp
        Bases that neighbours share, at least; -1: a quarter of a window.

    Raises
    ------
    ConfigError
        If windows are longer than the model reads, or do not move on.
    """

    window_bp: int = 0
    overlap_bp: int = -1

    def tiling(self, model: RoutedModel) -> Tiling:
        """Say where the windows lie for this model."""
        window_bp = self.window_bp or model.window
        if window_bp > model.window:
            raise ConfigError(
                f"windows of {window_bp:,} bp, and the model was made for {model.window:,}: use shorter ones"
            )
        return Tiling(window_bp, window_bp // 4 if self.overlap_bp < 0 else self.overlap_bp)


def chunks(source: Source, first: int = 0, chunk_items: int = CHUNK_ITEMS) -> Iterator[list[tuple[int, Stretch]]]:
    """Read stretches with their numbers, several together; where one begins does not depend on ``first``.

    Parameters
    ----------
    first
        Number of the stretch to begin with: that of the first of a chunk.
    """
    chunk: list[tuple[int, Stretch]] = []
    size = 0
    for number in range(first, len(source)):
        stretch = source.stretch(number)
        chunk.append((number, stretch))
        size += len(stretch.content)
        if size >= chunk_items:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def route_stretches(
    model: RoutedModel, stretches: Sequence[Stretch], reading: Reading | None = None
) -> list[RoutedSequence]:
    """Route stretches, in their order; DNA in overlapping windows, text whole.

    Raises
    ------
    ConfigError
        If a text is longer than the model reads.
    """
    tiling = (reading or Reading()).tiling(model)
    content: list[Any] = []
    places: list[tuple[int, Window | None]] = []
    for number, stretch in enumerate(stretches):
        if isinstance(stretch.content, str):
            content.append(stretch.content)
            places.append((number, None))
            continue
        for window in tiling.windows(len(stretch.content)):
            content.append(stretch.content[window.start : window.end])
            places.append((number, window))
    found: list[RoutedSequence | None] = [None] * len(stretches)
    for routed in model.route(content):
        number, place = places[routed.index]
        if place is None:
            found[number] = RoutedSequence(number, routed.tokens, routed.counted, routed.sites)
            continue
        whole = found[number]
        if whole is None:
            whole = found[number] = _empty(number, len(stretches[number].content), routed)
        _put(whole, routed, place)
    return [routed for routed in found if routed is not None]


def _empty(number: int, n_items: int, like: RoutedSequence) -> RoutedSequence:
    def room(array: np.ndarray) -> np.ndarray:
        return np.empty((n_items, *array.shape[1:]), array.dtype)

    sites = tuple(
        SiteRoutes(room(site.experts), room(site.weights), room(site.entropy), room(site.margin)) for site in like.sites
    )
    return RoutedSequence(number, room(like.tokens), room(like.counted), sites)


def _put(whole: RoutedSequence, routed: RoutedSequence, window: Window) -> None:
    to = slice(window.kept_start, window.kept_end)
    kept = slice(window.kept_start - window.start, window.kept_end - window.start)
    whole.tokens[to], whole.counted[to] = routed.tokens[kept], routed.counted[kept]
    for ours, theirs in zip(whole.sites, routed.sites, strict=True):
        ours.experts[to], ours.weights[to] = theirs.experts[kept], theirs.weights[kept]
        ours.entropy[to], ours.margin[to] = theirs.entropy[kept], theirs.margin[kept]
