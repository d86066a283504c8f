"""The pictures of a run's page, as inline SVG: the same run gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from umbel.page import as_svg, figure_style
from umbel.train.run_curves import Curve

# Okabe & Ito's colours, told apart with any colour vision.
TRAIN, BAND, VALID, AVERAGE, LEVEL, BAD = "#5b6875", "#d5dae0", "#0072B2", "#009E73", "#7a5200", "#b34a00"
_PANEL_IN = (4.3, 2.5)
_MANY_POINTS = 40
_HEADROOM = 0.25
_MAX_KEYS = 8


def draw_loss(
    curves: Mapping[str, Curve], name: str, level: tuple[float, str] | None, bad_steps: Sequence[int], width_in: float
) -> Any | None:
    """Draw training (its spread, and smoothed), validation, and the moving average's validation, against step.

    Parameters
    ----------
    curves
        Of :class:`~umbel.train.run_curves.RunStory`.
    name
        ``loss`` or ``placement_loss``.
    level
        What guessing costs, and its name.
    bad_steps
        Marked at the upper edge.
    width_in
        Width in inches at which 10-point text looks right.

    Returns
    -------
    An ``<svg>`` element, or None where there is nothing to draw.
    """
    train, valid, average = (curves.get(f"{key}") for key in (f"train/{name}", f"valid/{name}", f"valid/ema_{name}"))
    if not any(curve is not None and len(curve.steps) for curve in (train, valid)):
        return None
    with figure_style(f"{name} {width_in}"):
        figure = Figure(figsize=(width_in, 3.3), layout="constrained", facecolor="none")
        axes = figure.add_subplot(facecolor="none")
        must_show: list[float] = []
        if train is not None and len(train.steps):
            smooth = train.smoothed()
            _draw_line(axes, train.steps, smooth, TRAIN, 1.6, 3)
            axes.fill_between(train.steps, train.low, train.high, color=BAND, linewidth=0.6, zorder=1)
            must_show += [float(smooth[-1]), float(np.min(train.low))]
        for curve, colour, mark in ((valid, VALID, "o"), (average, AVERAGE, "D")):
            if curve is not None and len(curve.steps):
                shown = mark if len(curve.steps) <= _MANY_POINTS else ""
                axes.plot(curve.steps, curve.mean, color=colour, marker=shown, markersize=3.5, linewidth=1.6, zorder=4)
                must_show += [float(curve.mean.min()), float(np.median(curve.mean))]
        if level is not None:
            axes.axhline(level[0], color=LEVEL, linewidth=1.2, linestyle=(0, (1, 1.5)), zorder=2)
            axes.annotate(
                level[1], (1, level[0]), xycoords=("axes fraction", "data"), xytext=(0, 3),
                textcoords="offset points", ha="right", color=LEVEL, fontsize=9,
            )  # fmt: skip
            must_show.append(level[0])
        _frame(axes, must_show, [] if train is None else train.high.tolist())
        if bad_steps:
            axes.plot(
                bad_steps, np.ones(len(bad_steps)), "v", color=BAD, markersize=6, clip_on=False, zorder=5,
                transform=axes.get_xaxis_transform(),
            )  # fmt: skip
        _finish(axes, "nats per cut span" if name == "placement_loss" else "loss, nats per token", int(width_in))
        return as_svg(figure)


def draw_panel(
    label: str,
    curve: Curve | None,
    *,
    is_log: bool = False,
    is_noisy: bool = True,
    scale: float = 1.0,
    level: tuple[float, str] | None = None,
) -> Any | None:
    """Draw one number of training against step, its spread and (if noisy) smoothed; None where there is none."""
    if curve is None or not len(curve.steps):
        return None
    with figure_style(label):
        figure = Figure(figsize=_PANEL_IN, layout="constrained", facecolor="none")
        axes = figure.add_subplot(facecolor="none")
        axes.fill_between(curve.steps, scale * curve.low, scale * curve.high, color=BAND, linewidth=0.6)
        _draw_line(axes, curve.steps, scale * (curve.smoothed() if is_noisy else curve.mean), TRAIN, 1.3, 3)
        if level is not None:
            axes.axhline(level[0], color=LEVEL, linewidth=1.2, linestyle=(0, (1, 1.5)))
            axes.annotate(
                level[1], (1, level[0]), xycoords=("axes fraction", "data"), xytext=(0, 3),
                textcoords="offset points", ha="right", color=LEVEL, fontsize=9,
            )  # fmt: skip
        _finish(axes, label)
        # On a logarithmic axis a norm of 0 has no place.
        if is_log and curve.low.min() > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.yaxis.set_major_formatter(FuncFormatter(_plain))
        else:
            axes.set_ylim(0, 1.06 * scale * float(curve.high.max()) or 1)
        return as_svg(figure)


def draw_layers(
    label: str, curves: Mapping[int, Curve], bounds: tuple[float, float], name: str, *, is_count: bool = False
) -> Any | None:
    """Draw one number of every layer against step, the deeper the darker; None where there is none.

    Parameters
    ----------
    bounds
        Least and greatest value that the number can have; the greatest is drawn as a line where curves come near it.
    name
        What is so at the greatest.
    is_count
        Whole numbers on the axis.
    """
    if not any(len(curve.steps) for curve in curves.values()):
        return None
    with figure_style(f"layers {label}"):
        figure = Figure(figsize=_PANEL_IN, layout="constrained", facecolor="none")
        axes = figure.add_subplot(facecolor="none")
        shades = colormaps["viridis_r"](np.linspace(0.12, 1.0, len(curves)))
        named = set(np.linspace(0, len(curves) - 1, min(_MAX_KEYS, len(curves))).round().astype(int).tolist())
        for place, ((layer, curve), shade) in enumerate(zip(curves.items(), shades, strict=True)):
            _draw_line(axes, curve.steps, curve.smoothed(), shade, 1.4, 3, str(layer) if place in named else None)
        low, high = bounds
        top = max(float(curve.smoothed().max()) for curve in curves.values())
        if top > 0.6 * high:
            axes.axhline(high, color=LEVEL, linewidth=1.2, linestyle=(0, (1, 1.5)))
            axes.annotate(
                name, (1, high), xycoords=("axes fraction", "data"), xytext=(0, -10),
                textcoords="offset points", ha="right", color=LEVEL, fontsize=9,
            )  # fmt: skip
            top = high
        # Where every layer has the least, the axis would be a point.
        top = top if top - low > 1e-9 else low + 1
        axes.set_ylim(low - 0.03 * (top - low), top + 0.06 * (top - low))
        axes.legend(
            frameon=False, title="layer", loc="upper left", bbox_to_anchor=(1.0, 1.05), handlelength=1.0,
            prop={"size": 9}, title_fontsize=9,
        )  # fmt: skip
        _finish(axes, label)
        if is_count:
            axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        return as_svg(figure)


def _draw_line(
    axes: Axes, x: np.ndarray, y: np.ndarray, colour: Any, width: float, order: int, label: str | None = None
) -> None:
    mark = "o" if len(x) <= _MANY_POINTS else ""
    axes.plot(x, y, color=colour, linewidth=width, marker=mark, markersize=3, zorder=order, label=label)


def _frame(axes: Axes, must_show: list[float], points: list[float]) -> None:
    """Frame what must be seen and the points near it: the first steps start far above and would flatten the rest."""
    low, high = min(must_show), max(must_show)
    near = [point for point in points if point <= high + _HEADROOM * (high - low)]
    high = max([high, *near])
    pad = 0.06 * (high - low) or 0.01
    axes.set_ylim(low - pad, high + pad)


def _finish(axes: Axes, label: str, n_ticks: int = 4) -> None:
    axes.set_xlabel("optimiser step")
    axes.set_ylabel(label)
    axes.grid(axis="y", color="#e6e6e1", linewidth=0.7, zorder=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    left, right = axes.get_xlim()
    if right - left < 2:
        # One step alone would be between fractions of steps.
        axes.set_xlim((left + right) / 2 - 1, (left + right) / 2 + 1)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=n_ticks, integer=True))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(_plain))


def _plain(value: float, _place: int) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.6g}"
