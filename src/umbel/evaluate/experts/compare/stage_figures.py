"""Figures of differentiation: divergence between classes by checkpoint, and what each stage adds to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from umbel.evaluate.experts.compare.figures import GREY, INK, WIDTH_IN, colour, tidy
from umbel.page import as_svg, figure_style

Rows = Sequence[Mapping[str, Any]]
_PER_ROW = 2


def differentiation_figure(rows: Rows) -> Any:
    """Draw the divergence between the classes of each labelling, by layer and checkpoint, with floor and bound."""
    from matplotlib.figure import Figure

    labellings = list(dict.fromkeys(row["labelling"] for row in rows))
    names = list(dict.fromkeys(row["checkpoint"] for row in rows if not row["is_control"]))
    n_columns = min(_PER_ROW, len(labellings))
    n_rows = ceil(len(labellings) / n_columns)
    panel_in = 2.2
    height = n_rows * (panel_in + 0.75) + 0.3
    with figure_style("compare differentiation"):
        figure = Figure(figsize=(WIDTH_IN, height), facecolor="none")
        for number, labelling in enumerate(labellings):
            row, column = divmod(number, n_columns)
            box = (
                (0.78 + column * (WIDTH_IN - 0.1) / n_columns) / WIDTH_IN,
                (height - 0.6 - panel_in - row * (panel_in + 0.75)) / height,
                ((WIDTH_IN - 0.1) / n_columns - 0.9) / WIDTH_IN,
                panel_in / height,
            )
            axes = figure.add_axes(box, facecolor="none")
            _panel(axes, [r for r in rows if r["labelling"] == labelling], names)
            axes.set_title(labelling, fontsize=9, loc="left", color=INK)
        figure.legend(
            handles=_handles(names, any(row["is_control"] for row in rows)),
            loc="upper left",
            ncols=6,
            fontsize=8,
            frameon=False,
            bbox_to_anchor=(0.0, 1.0),
        )
        return as_svg(figure)


def _handles(names: Sequence[str], has_controls: bool) -> list[Any]:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour(i), marker="o", markersize=4, label=name) for i, name in enumerate(names)]
    handles.append(Line2D([], [], color=INK, linestyle=":", label="floor: halves of one class"))
    if has_controls:
        handles.append(Line2D([], [], color=GREY, linewidth=0.9, label="random weights"))
    return handles


def _panel(axes: Any, rows: Rows, names: Sequence[str]) -> None:
    layers = list(dict.fromkeys((row["site"], row["layer"]) for row in rows))
    shift = {name: (i - (len(names) - 1) / 2) * 0.12 for i, name in enumerate(names)}
    for name in dict.fromkeys(row["checkpoint"] for row in rows):
        here = sorted((row for row in rows if row["checkpoint"] == name), key=lambda row: row["site"])
        if here[0]["is_control"]:
            axes.plot(
                [r["site"] for r in here], [r["js"] for r in here], color=GREY, linewidth=0.9, marker=".", zorder=1
            )
            continue
        i = list(names).index(name)
        xs = [row["site"] + shift[name] for row in here]
        axes.plot(xs, [row["js"] for row in here], color=colour(i), linewidth=0.8, alpha=0.6, zorder=2)
        for x, row in zip(xs, here, strict=True):
            if row["js_low"] is not None:
                axes.plot([x, x], [row["js_low"], row["js_high"]], color=colour(i), linewidth=1.8, zorder=3)
            axes.plot([x], [row["js"]], "o", color=colour(i), markersize=4.5, zorder=4)
    floors = {row["site"]: row["floor"] for row in rows if row["floor"] is not None and not row["is_control"]}
    axes.plot(list(floors), list(floors.values()), ":", color=INK, linewidth=1.1, zorder=2)
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.set_xticks([site for site, _ in layers], [f"layer {layer}" for _, layer in layers])
    axes.set_xlim(-0.5, layers[-1][0] + 0.5)
    bound = max(row["bound"] for row in rows)
    axes.set_ylabel(f"divergence, nats\n(at most {bound:.2f})", fontsize=8)
    # The bound is drawn only where it does not squeeze everything else.
    if max(row["js"] for row in rows) > bound / 3:
        axes.axhline(bound, color=GREY, linewidth=0.9, linestyle=(0, (3, 2)))
    tidy(axes, grid="y")


def stages_figure(rows: Rows) -> Any:
    """Draw what each stage adds to the divergence of each labelling at each router, with intervals."""
    from matplotlib.figure import Figure

    stages = list(dict.fromkeys(row["stage"] for row in rows))
    places = list(dict.fromkeys((row["labelling"], row["site"], row["layer"]) for row in rows))
    panel_in = len(places) * (0.17 * (len(stages) + 1) + 0.12)
    height = panel_in + 0.85
    with figure_style("compare stages"):
        figure = Figure(figsize=(WIDTH_IN, height), facecolor="none")
        axes = figure.add_axes((2.2 / WIDTH_IN, 0.45 / height, (WIDTH_IN - 2.4) / WIDTH_IN, panel_in / height))
        axes.set_facecolor("none")
        thick = 0.84 / (len(stages) + 1)
        for y, (labelling, site, _) in enumerate(places):
            here = {row["stage"]: row for row in rows if (row["labelling"], row["site"]) == (labelling, site)}
            for number, stage in enumerate(stages):
                _bar(axes, y - 0.42 + thick * (number + 0.5), thick, here[stage], "change", colour(number))
            last = here[stages[-1]]
            _bar(axes, y + 0.42 - thick / 2, thick, last, "total", "#b9b9b2" if last["is_suppressed"] else INK)
            if last["is_suppressed"]:
                end = max(last["total_high"] or 0, last["total"], 0)
                axes.annotate(
                    "  no change to share out", (end, y + 0.42 - thick / 2), va="center", fontsize=7.5, color=GREY
                )
        axes.axvline(0, color=GREY, linewidth=0.9)
        axes.set_yticks(range(len(places)), [f"{labelling}, layer {layer}" for labelling, _, layer in places])
        axes.set_ylim(len(places) - 0.45, -0.55)
        axes.set_xlabel("change of the divergence between classes, nats", fontsize=8, loc="left")
        axes.margins(x=0.12)
        tidy(axes)
        axes.tick_params(axis="y", labelsize=9, length=0)
        _stage_key(figure, stages)
        return as_svg(figure)


def _stage_key(figure: Any, stages: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=colour(i), label=stage) for i, stage in enumerate(stages)]
    handles.append(Patch(color=INK, label="all stages"))
    figure.legend(handles=handles, loc="upper left", ncols=6, fontsize=8, frameon=False, bbox_to_anchor=(0.0, 1.0))


def _bar(axes: Any, y: float, thick: float, row: Mapping[str, Any], what: str, paint: str) -> None:
    axes.barh(y, row[what], thick * 0.8, color=paint, zorder=2, alpha=0.45)
    if row[f"{what}_low"] is not None:
        axes.plot([row[f"{what}_low"], row[f"{what}_high"]], [y, y], color=paint, linewidth=1.8, zorder=3)
    axes.plot([row[what]], [y], "o", color=paint, markersize=3.5, zorder=4)
