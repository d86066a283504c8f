"""The picture of a mutated region: a sequence logo of what the model expects, above every substitution's score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from umbel.files import whole_file
from umbel.genome.sequence import BASES, N
from umbel.page import BASE_COLOURS, figure_style
from umbel.predict.ism.result import DELETION, IsmResult

ROW_BP = 100
MAX_ROWS = 20
"""Rows of one picture: beyond 2,000 bases nobody sees a letter, and the tables hold them all."""

_SCALES_BITS = (0.25, 0.5, 1.0, 2.0)
_LEAST_FRAC = 0.003
"""Letters lower than this share of the axis are left out: they would be a line."""
_COLUMN_IN, _SIDE_IN, _TOP_IN, _LOGO_IN, _CELL_IN, _GAP_IN = 0.135, 0.85, 0.62, 0.85, 0.135, 0.62
_TICK_BP = 10
_SIDE_BY_SIDE = 95
"""With fewer bases the title is too narrow for a legend."""


def information_bits(log_probs: np.ndarray) -> np.ndarray:
    """Heights of the letters of a logo: each base's share of the information of its column.

    Parameters
    ----------
    log_probs
        ``(n, 4)`` natural logs; a row is scaled to add up to 1 first (the mean of two strands' logs does not).

    Returns
    -------
    ``(n, 4)`` bits: p times (2 - entropy), so that a column is 0 to 2 bits high; 0 where a row is NaN.

    References
    ----------
    Schneider & Stephens 1990, "Sequence logos: a new way to display consensus sequences" (without their correction for
    small samples: a model's distribution is no sample).

    Examples
    --------
    >>> information_bits(np.log([[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 1e-30, 1e-30]])).round(3).tolist()
    [[0.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]]
    """
    logs = np.asarray(log_probs, np.float64)
    powers = np.exp(logs - np.nan_to_num(logs, nan=0.0).max(axis=1, keepdims=True))
    p = powers / powers.sum(axis=1, keepdims=True)
    entropy = -(p * np.log2(np.maximum(p, 1e-300))).sum(axis=1, keepdims=True)
    return np.nan_to_num(p * np.maximum(2 - entropy, 0.0), nan=0.0)


def write_pictures(result: IsmResult, folder: Path) -> dict[str, Path]:
    """Draw a result as ``ism.png`` and ``ism.svg``; the same result gives the same bytes.

    Of a region beyond 2,000 bases the first 2,000 are drawn, and the picture says so.

    Returns
    -------
    The two files, by ``png`` and ``svg``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    files = {"png": folder / "ism.png", "svg": folder / "ism.svg"}
    with figure_style("ism"):
        figure = draw(result)
        with whole_file(files["png"]) as temporary:
            FigureCanvasAgg(figure).print_png(temporary, metadata={"Software": None})
        with whole_file(files["svg"]) as temporary:
            FigureCanvasSVG(figure).print_svg(temporary, metadata={"Date": None, "Creator": None})
    return files


def draw(result: IsmResult) -> Any:
    """Draw a result as a figure of matplotlib: rows of 100 bases, each with its logo and its table of scores."""
    from matplotlib.figure import Figure

    n = min(len(result.ref), ROW_BP * MAX_ROWS)
    n_rows = -(-n // ROW_BP)
    n_kinds = result.llr.shape[1]
    width = _SIDE_IN + _COLUMN_IN * min(ROW_BP, max(n, 30)) + 0.95
    row_in = _LOGO_IN + 0.06 + n_kinds * _CELL_IN + _GAP_IN
    height = _TOP_IN + n_rows * row_in
    figure = Figure(figsize=(width, height), dpi=110, facecolor="white")
    bits = information_bits(result.log_probs[:n])
    top_bits = next(top for top in _SCALES_BITS if top >= 2 or bits.sum(axis=1).max() <= top)
    shown, usual = _shown_scores(result)
    figure.text(_SIDE_IN / width, 1 - 0.2 / height, _title(result, n, usual), va="center", fontsize=10, color="#1c1c1a")
    limit = _colour_limit(shown[:n])
    image = None
    for row in range(n_rows):
        first, last = row * ROW_BP, min((row + 1) * ROW_BP, n)
        top = height - _TOP_IN - row * row_in
        box = _COLUMN_IN * (last - first) / width
        logo = figure.add_axes((_SIDE_IN / width, (top - _LOGO_IN) / height, box, _LOGO_IN / height))
        cells_in = n_kinds * _CELL_IN
        below = top - _LOGO_IN - 0.06 - cells_in
        table = figure.add_axes((_SIDE_IN / width, below / height, box, cells_in / height))
        _draw_logo(logo, bits[first:last], top_bits)
        image = _draw_table(table, result, shown, first, last, limit)
    _draw_scale(figure, image, width, height)
    return figure


def _title(result: IsmResult, n: int, usual: float | None) -> str:
    shown = "" if n == len(result.ref) else f", the first {n:,} bases of {len(result.ref):,}"
    told = [f"{result.region}{shown}"]
    if n > _SIDE_BY_SIDE:
        told.append("letters: information in the model's prediction; cells: ln P(base) − ln P(reference)")
    if usual is not None:
        told.append(f"del: less the region's median, {usual:.2f}".replace("-", "−"))
    return (" · " if n > _SIDE_BY_SIDE else "\n").join(told)


def _shown_scores(result: IsmResult) -> tuple[np.ndarray, float | None]:
    """Give the scores as they are coloured, and what was taken from those of deletions.

    A shorter window is the likelier one wherever the base is, so that a deletion is compared with its neighbours.
    """
    if DELETION not in result.kinds:
        return result.llr, None
    deletions = result.llr[:, -1]
    usual = float(np.median(deletions[~np.isnan(deletions)])) if not np.isnan(deletions).all() else 0.0
    return np.column_stack([result.llr[:, :-1], deletions - np.float32(usual)]), usual


def _colour_limit(llr: np.ndarray) -> float:
    """Where colours are full: a size that 1 in 100 scores exceeds, so that one outlier leaves the rest its colours."""
    known = np.abs(llr[~np.isnan(llr)])
    return float(np.quantile(known, 0.99)) or 1.0 if known.size else 1.0


def letter_places(bits: np.ndarray, least_bits: float) -> list[tuple[int, int, float, float]]:
    """Stack the letters of each column, the highest on top: (base, column, bottom, height) of each.

    Examples
    --------
    >>> letter_places(np.array([[0.5, 0.0, 1.0, 0.001]]), 0.01)
    [(0, 0, 0.0, 0.5), (2, 0, 0.5, 1.0)]
    """
    found = []
    for i, column in enumerate(bits):
        bottom = 0.0
        for base in np.argsort(column, kind="stable").tolist():
            if column[base] >= least_bits:
                found.append((base, i, bottom, float(column[base])))
                bottom += float(column[base])
    return found


def _draw_logo(axes: Any, bits: np.ndarray, top_bits: float) -> None:
    from matplotlib.font_manager import FontProperties
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    font = FontProperties(family="DejaVu Sans", weight="bold")
    outlines = [TextPath((0, 0), letter, size=1, prop=font) for letter in "ACGT"]
    boxes = [outline.get_extents() for outline in outlines]
    drawn: list[list[Any]] = [[] for _ in outlines]
    for base, column, bottom, height in letter_places(bits, _LEAST_FRAC * top_bits):
        box = boxes[base]
        # To the width of a column and the height of the share, from wherever the font puts the letter.
        place = (
            Affine2D()
            .translate(-box.x0, -box.y0)
            .scale(0.92 / box.width, height / box.height)
            .translate(column + 0.04, bottom)
        )
        drawn[base].append(place.transform_path(outlines[base]))
    for paths, colour in zip(drawn, BASE_COLOURS, strict=True):
        if paths:
            axes.add_patch(PathPatch(Outline.make_compound_path(*paths), facecolor=colour, linewidth=0))
    axes.set_xlim(0, len(bits))
    axes.set_ylim(0, top_bits)
    axes.set_yticks([0, top_bits / 2, top_bits], ["0", f"{top_bits / 2:g}", f"{top_bits:g}"])
    axes.tick_params(axis="y", labelsize=7, length=2)
    axes.set_xticks([])
    axes.set_ylabel("bits", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_table(axes: Any, result: IsmResult, shown: np.ndarray, first: int, last: int, limit: float) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    # Less likely than the reference is brown, more likely violet, as in every page.
    scale = LinearSegmentedColormap.from_list("umbel", ["#b35806", "#fafaf8", "#542788"])
    colours = scale.with_extremes(bad="#d8d8d4")
    kinds = result.kinds
    values = shown[first:last].T
    image = axes.imshow(
        np.ma.masked_invalid(values), aspect="auto", cmap=colours, vmin=-limit, vmax=limit,
        extent=(0, last - first, len(kinds), 0), interpolation="nearest",
    )  # fmt: skip
    known = np.flatnonzero(result.ref[first:last] < N)
    axes.plot(known + 0.5, result.ref[first:last][known] + 0.5, ".", color="#55554f", markersize=2)
    for i, base in enumerate(result.ref[first:last]):
        axes.text(
            i + 0.5, len(kinds) + 0.55, BASES[base], ha="center", va="center", fontsize=6.5, family="DejaVu Sans Mono",
            color=BASE_COLOURS[base] if base < N else "#8a8a84", fontweight="bold",
        )  # fmt: skip
    axes.set_yticks(np.arange(len(kinds)) + 0.5, [("del" if kind == DELETION else kind) for kind in kinds])
    axes.tick_params(axis="y", labelsize=6.5, length=0)
    start = result.region.start + first + 1
    ticks = [p for p in range(start, start + last - first) if p % _TICK_BP == 0]
    # Below the letters of the reference.
    axes.set_xticks([p - start + 0.5 for p in ticks], [f"{p:,}" for p in ticks])
    axes.tick_params(axis="x", labelsize=6.5, length=0, pad=10)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    return image


def _draw_scale(figure: Any, image: Any, width: float, height: float) -> None:
    """Put the scale of colours at the top right, beside the first row."""
    bar_in = min(1.1, height - _TOP_IN)
    axes = figure.add_axes(((width - 0.6) / width, 1 - (_TOP_IN + bar_in) / height, 0.1 / width, bar_in / height))
    bar = figure.colorbar(image, cax=axes)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=6.5, length=2)
    bar.ax.set_title("LLR", fontsize=7.5, color="#45453f")
