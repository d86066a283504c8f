"""The pictures of the data card, as inline SVG: the same corpus gives the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from umbel.page import as_svg, figure_style

# Okabe & Ito's colours, told apart with any colour vision.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_REST = "#b9b9b2"


def draw_histograms(assemblies: list[dict[str, Any]], name: str, label: str) -> Markup | None:
    """Draw how the windows of each species are spread over a share from 0 to 1; ``None`` without windows.

    The species with the most windows have a colour, the others are grey.
    """
    counts = _by_species(assemblies, lambda told: np.array(told["histograms"][name], float))
    if not counts:
        return None

    def draw(axes: Axes, values: np.ndarray, colour: str, species: str | None) -> None:
        edges = np.linspace(0, 100, len(values) + 1)
        axes.stairs(100 * values / values.sum(), edges, color=colour, linewidth=1.6, label=species)

    return _figure(counts, draw, f"{label}, %", "windows, %")


def draw_spectra(assemblies: list[dict[str, Any]]) -> Markup | None:
    """Draw in how many segments of its assembly a k-mer is, for each species; ``None`` where no sketch was made."""
    spectra = _by_species(assemblies, lambda told: np.array(told["kmer_spectrum"] or [0], float))
    if not spectra:
        return None

    def draw(axes: Axes, values: np.ndarray, colour: str, species: str | None) -> None:
        present = np.flatnonzero(values)
        axes.plot(present + 1, values[present], color=colour, linewidth=1.6, marker=".", markersize=4, label=species)
        axes.set_xscale("log")
        axes.set_yscale("log")

    return _figure(spectra, draw, "segments that hold a k-mer", "sampled k-mers")


def _by_species(
    assemblies: list[dict[str, Any]], values_of: Callable[[dict[str, Any]], np.ndarray]
) -> dict[str, np.ndarray]:
    """Sum over the assemblies of each species; the most first, none without any."""
    sums: dict[str, np.ndarray] = {}
    for told in assemblies:
        values = values_of(told)
        before = sums.get(told["species"], np.zeros(0))
        total = np.zeros(max(len(values), len(before)))
        total[: len(values)] += values
        total[: len(before)] += before
        sums[told["species"]] = total
    kept = {species: values for species, values in sums.items() if values.sum()}
    return dict(sorted(kept.items(), key=lambda item: -item[1].sum()))


def _figure(
    series: dict[str, np.ndarray],
    draw: Callable[[Axes, np.ndarray, str, str | None], None],
    x_label: str,
    y_label: str,
) -> Markup:
    with figure_style(x_label):
        figure = Figure(figsize=(7.4, 2.9), layout="constrained", facecolor="none")
        axes = figure.add_subplot(facecolor="none")
        # The grey ones first, so that they lie below.
        for place, (species, values) in reversed(list(enumerate(series.items()))):
            is_named = place < len(_COLOURS)
            draw(axes, values, _COLOURS[place] if is_named else _REST, species if is_named else None)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.spines[["top", "right"]].set_visible(False)
        handles, labels = axes.get_legend_handles_labels()
        more = len(series) - len(_COLOURS)
        legend = axes.legend(
            handles[::-1],
            labels[::-1],
            frameon=False,
            title=f"and {more} more in grey" if more > 0 else None,
            loc="upper left",
            bbox_to_anchor=(1.0, 1.02),
            prop={"style": "italic", "size": 9},
        )
        legend.get_title().set_fontsize(9)
        return as_svg(figure)
