"""The page of a run folder: what the run is, where it stands, how it and its experts do, and what stands out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from umbel.errors import BackendError
from umbel.files import whole_file
from umbel.page import cell_colour, template
from umbel.train.log import Record
from umbel.train.run_curves import RunStory, read_story
from umbel.train.run_findings import BAD_EVENTS, Finding, bad_step, even_guess, find, in_time, last_experts

PAGE_FILE = "run.html"
_MAX_EVENTS = 40
_MAX_NUMBERED = 16
"""Experts whose cells have room for a number."""


def missing_for_page() -> list[str]:
    """Name the packages that drawing the page needs and that are not installed."""
    return [name for name in ("jinja2", "matplotlib") if find_spec(name) is None]


@dataclass(frozen=True)
class RunPage:
    """Where the page is, and what it found."""

    path: Path
    findings: list[Finding]


def write_run_page(folder: str | Path) -> RunPage:
    """Draw ``run.html`` from a run folder's ``run.json`` and ``metrics.jsonl`` alone, at any time of the run.

    Raises
    ------
    BackendError
        If matplotlib or jinja2 is not installed.
    RunError
        If the folder is no run's, or its files are damaged.
    OutputError
        If the disk is full; an earlier page is untouched.
    """
    if missing := missing_for_page():
        raise BackendError(f"the page of a run needs {', '.join(missing)}: pip install 'umbel[train]'")
    path = Path(folder) / PAGE_FILE
    story = read_story(Path(folder))
    findings = find(story)
    with whole_file(path) as temporary:
        temporary.write_text(render_run_page(story, findings), encoding="utf-8")
    return RunPage(path, findings)


def render_run_page(story: RunStory, findings: list[Finding]) -> str:
    """Return the page as HTML."""
    from umbel.train.run_figures import draw_layers, draw_loss, draw_panel

    config, curves = story.facts["config"], story.curves
    model = config["model"]
    bad = [bad_step(event) for event in story.events if event["event"] in BAD_EVENTS]
    spans = config.get("masking", {}).get("placement_spans", 0)
    levels = {
        "loss": _named_level(config),
        "placement_loss": (math.log(spans), f"even guess, ln {spans}") if spans else None,
    }
    losses = {
        name: [draw_loss(curves, name, level, bad, width_in) for width_in in (7.4, 4.3)]
        for name, level in levels.items()
    }
    clip = config.get("optim", {}).get("clip_norm")
    panels = [
        draw_panel("learning rate", curves.get("train/lr"), is_noisy=False),
        draw_panel(
            "gradient norm", curves.get("train/grad_norm"), is_log=True, level=(clip, "clipped above") if clip else None
        ),
        draw_panel("tokens per second", curves.get("train/tokens_per_s")),
        draw_panel("model FLOP utilisation, %", curves.get("train/mfu"), scale=100),
        draw_panel("time waiting for data, %", curves.get("train/data_wait_frac"), scale=100),
        draw_panel("peak memory, GB", curves.get("train/peak_memory_gb")),
    ]
    per_expert = model["n_experts"] / model["top_k"]
    all_on_few = "one expert has all" if model["top_k"] == 1 else f"{model['top_k']} experts have all"
    experts = [
        draw_layers("Max/Avg", story.layer_curves("max_over_mean"), (1.0, per_expert), all_on_few),
        draw_layers("CV", story.layer_curves("cv"), (0.0, math.sqrt(per_expert - 1)), all_on_few),
        draw_layers(
            "dead experts",
            story.layer_curves("n_dead"),
            (0.0, model["n_experts"] - model["top_k"]),
            "all others dead",
            is_count=True,
        ),
        draw_layers("routing entropy", story.layer_curves("routing_entropy"), (0.0, 1.0), "knows nothing"),
    ]
    record = last_experts(story)
    filters = {"number": lambda value, digits: f"{value:,.{digits}f}", "in_time": in_time}
    return template(Path(__file__).parent, "run.html", filters).render(
        story=story,
        facts=story.facts,
        config=config,
        model=model,
        n_expert_layers=sum(kind[1] == "e" for kind in _layer_kinds(model)),
        guess=even_guess(config),
        findings=findings,
        losses=losses,
        bad=bad,
        loss_width=curves["train/loss"].width if "train/loss" in curves else 1,
        n_lost=curves["train/loss"].n_missing if "train/loss" in curves else 0,
        panels=[panel for panel in panels if panel is not None],
        experts=[panel for panel in experts if panel is not None],
        expert_record=record,
        heat=heat_rows(record) if record else [],
        per_expert=per_expert,
        is_numbered=model["n_experts"] <= _MAX_NUMBERED,
        events=[event for event in story.events if event["event"] != "saved"][: -_MAX_EVENTS - 1 : -1],
        n_told=sum(count for event, count in story.n_events.items() if event != "saved"),
    )


def _named_level(config: dict[str, Any]) -> tuple[float, str] | None:
    guess = even_guess(config)
    return None if guess is None else (guess[0], f"even guess, {guess[1]}")


def _layer_kinds(model: dict[str, Any]) -> list[str]:
    pairs = model["pattern"].split()
    return [pairs[layer % len(pairs)] for layer in range(model["n_layers"])]


def heat_rows(record: Record) -> list[dict[str, Any]]:
    """Give a row per layer with its numbers and a cell per expert: share in per cent, colours, and a title.

    Examples
    --------
    >>> (row,) = heat_rows({"step": 7, "experts": [{"layer": 1, "load": [0.5, 0.5, 0.0]}]})
    >>> row["layer"], [cell["share"] for cell in row["cells"]], row["cells"][2]["background"]
    (1, ['50', '50', '0'], '#e4e4e0')
    """
    rows = []
    for layer in record["experts"]:
        load = layer.get("load", [])
        cells = []
        for expert, share in enumerate(load):
            # Beside the even share; a dead expert is grey, whatever the others do.
            background, colour = cell_colour(share, 1 / len(load) if share else 0.0)
            title = f"layer {layer['layer']}, expert {expert}: {100 * share:.2f} %"
            percent = f"{100 * share:.1f}" if 0 < share < 0.00995 else f"{100 * share:.0f}"
            cells.append(
                {
                    "share": percent,
                    "background": background,
                    "colour": colour,
                    "title": title,
                    "is_dead": share == 0,
                }
            )
        rows.append({**layer, "cells": cells})
    return rows
