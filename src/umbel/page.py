"""The looks that all our pages share: how templates are read, and how figures are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

FIGURE_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.edgecolor": "#8a8a84",
    "axes.labelcolor": "#45453f",
    "xtick.color": "#8a8a84",
    "ytick.color": "#8a8a84",
    "xtick.labelcolor": "#45453f",
    "ytick.labelcolor": "#45453f",
}
"""Settings of matplotlib; text stays text, in the font of the page."""


def template(folder: Path, name: str, filters: Mapping[str, Any]) -> Any:
    """Read the template ``name`` of a folder; it may include ``page.css``.

    ``filters`` are functions by name. What the template is given is text and never markup, and a name that it does not
    know is an error.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(name)
