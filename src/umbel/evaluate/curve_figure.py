"""The loss curve as inline SVG, with the baselines as level lines."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from umbel.page import as_svg, figure_style

# Okabe & Ito's colours, told apart with any colour vision; each line also has a dash pattern of its own.
_TRAIN, _VALID, _TEST = "#9aa5b1", "#0072B2", "#0072B2"
_LEVELS = {
    "composition": ("composition", "#7a5200", (0, (1, 1.5))),
    "markov": ("Markov", "#00795a", (0, (5, 2))),
    "random": ("random weights", "#a3437a", (0, (4, 1.5, 1, 1.5))),
}
_LABEL_GAP_FRAC = 0.065
_LABELS_IN = 1.32
_HEADROOM = 0.25


def spread(heights: list[float], gap: float) -> list[float]:
    """Move heights apart until neighbours are ``gap`` from each other, as little as possible on the whole.

    Examples
    --------
    >>> spread([1.0, 1.0, 5.0], 2.0)
    [0.0, 2.0, 5.0]
    """
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    groups: list[list[float]] = []
    members: list[list[int]] = []
    for i in order:
        groups.append([heights[i]])
        members.append([i])
        while len(groups) > 1:
            (low, high) = (groups[-2], groups[-1])
            top = np.mean(low) + gap * (len(low) - 1) / 2
            bottom = np.mean(high) - gap * (len(high) - 1) / 2
            if bottom - top >= gap:
                break
            groups[-2:] = [low + high]
            members[-2:] = [members[-2] + members[-1]]
    placed = [0.0] * len(heights)
    for values, indices in zip(groups, members, strict=True):
        for rank, i in enumerate(indices):
            placed[i] = float(np.mean(values) + gap * (rank - (len(values) - 1) / 2))
    return placed


def draw_curve(curve: dict[str, Any], loss: dict[str, Any], width_in: float) -> Markup | None:
    """Draw train and valid loss against step, the model's held-out loss, and the baselines.

    Where a token is more than a base, the loss of training answers another question: then it stands alone.

    Parameters
    ----------
    curve
        From :func:`umbel.evaluate.training_curve.read_curve`.
    loss
        From :func:`umbel.evaluate.masked_loss.summarise_rows`.
    width_in
        Width in inches at which 10-point text looks right: the page shows a narrow drawing on a phone.

    Returns
    -------
    An ``<svg>`` element, or None where there is no curve.
    """
    if "missing" in curve:
        return None
    # Two drawings on a page need different ids.
    with figure_style(str(width_in)):
        figure = Figure(figsize=(width_in, 3.7), facecolor="none")
        left, right = 0.8 / width_in, 1 - _LABELS_IN / width_in
        axes = figure.add_axes((left, 0.135, right - left, 0.84), facecolor="none")
        train, valid = curve["train"], curve["valid"]
        labels: list[tuple[float, str, str]] = []
        axes.plot(train["step"], train["loss"], color=_TRAIN, linewidth=1.0, zorder=2)
        axes.plot(valid["step"], valid["loss"], color=_VALID, linewidth=1.8, marker="o", markersize=3.5, zorder=4)
        last = float(curve["n_steps"])
        if curve["per"] == "base":
            labels = _draw_levels(axes, loss, last)
        _set_limits(axes, train["loss"], [*valid["loss"], *(level for level, _, _ in labels)], last)
        low, high = axes.get_ylim()
        places = spread([level for level, _, _ in labels], _LABEL_GAP_FRAC * (high - low))
        end = axes.get_xlim()[1]
        for (_, text, colour), place in zip(labels, places, strict=True):
            weight = "bold" if text.startswith("model") else "normal"
            axes.annotate(
                text, (end, place), xytext=(7, 0), textcoords="offset points", va="center", color=colour,
                fontsize=10, fontweight=weight, annotation_clip=False,
            )  # fmt: skip
        axes.set_xlabel("optimiser step")
        axes.set_ylabel(f"loss, nats per {curve['per']}")
        axes.grid(axis="y", color="#e6e6e1", linewidth=0.7, zorder=0)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        return as_svg(figure)


def _draw_levels(axes: Any, loss: dict[str, Any], last: float) -> list[tuple[float, str, str]]:
    """Draw the baselines as lines and the model's held-out loss at the last step; give their labels."""
    labels = []
    for name, (label, colour, dashes) in _LEVELS.items():
        if name in loss["rows"]:
            level = loss["rows"][name]["all"]["loss"]["value"]
            axes.axhline(level, color=colour, linewidth=1.3, linestyle=dashes, zorder=1)
            labels.append((level, label, colour))
    test = loss["rows"]["model"]["all"]["loss"]
    arms = None if test["low"] is None else [[test["value"] - test["low"]], [test["high"] - test["value"]]]
    axes.errorbar(
        [last], [test["value"]], yerr=arms, fmt="D", color=_TEST, markersize=6, markerfacecolor="white",
        markeredgewidth=1.6, capsize=3, zorder=5, clip_on=False,
    )  # fmt: skip
    return [*labels, (test["value"], "model, held out", _TEST)]


def _set_limits(axes: Any, train: list[float], must_show: list[float], last: float) -> None:
    """Frame all levels, and the train points near them: the first steps start far above and would flatten the rest."""
    must_show = must_show or train
    low = min([*must_show, *train])
    shown = [point for point in train if point <= max(must_show) + _HEADROOM * (max(must_show) - low)]
    high = max([*must_show, *shown])
    pad = 0.06 * (high - low) or 0.01
    axes.set_ylim(low - pad, high + pad)
    axes.set_xlim(0, last * 1.02 or 1)
