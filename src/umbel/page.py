"""The looks that all our pages share: how templates are read, and how figures are drawn."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import log2
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


# Ends and middle of a brown-white-violet scale: told apart with any colour vision, and in grey by the numbers.
_LESS, _EVEN, _MORE = (179, 88, 6), (250, 250, 248), (84, 39, 136)
_FULL_COLOUR_LOG2 = 2.0
BASE_COLOURS = ("#009E73", "#0072B2", "#E69F00", "#D55E00")
"""Of A, C, G and T: Okabe and Ito's, told apart with any colour vision."""


def between(position: float, even: tuple[int, int, int] = _EVEN) -> tuple[int, int, int]:
    """Give a colour of the scale as red, green and blue up to 255: brown at -1, ``even`` at 0, violet at 1.

    Examples
    --------
    >>> between(0.0), between(7.0)
    ((250, 250, 248), (84, 39, 136))
    """
    position = max(-1.0, min(1.0, position))
    end = _MORE if position > 0 else _LESS
    r, g, b = (round(middle + abs(position) * (full - middle)) for middle, full in zip(even, end, strict=True))
    return r, g, b


def cell_colour(share: float, load: float) -> tuple[str, str]:
    """Background and text colour of a share: violet above the load beside it, brown below, grey where that is 0.

    Examples
    --------
    >>> cell_colour(0.25, 0.25)
    ('rgb(250, 250, 248)', '#1c1c1a')
    """
    if load <= 0:
        return "#e4e4e0", "#6b6b66"
    r, g, b = between(log2(max(share, 1e-9) / load) / _FULL_COLOUR_LOG2)
    luminance = 0.299 * r + 0.587 * g + 0.114 * b
    return f"rgb({r}, {g}, {b})", "#1c1c1a" if luminance > 140 else "#ffffff"


@contextmanager
def figure_style(salt: str) -> Iterator[None]:
    """Draw and save a figure inside this; each on a page needs another ``salt``, and the same gives the same bytes."""
    import matplotlib

    with matplotlib.rc_context(FIGURE_STYLE | {"svg.hashsalt": f"umbel {salt}"}):
        yield


def as_svg(figure: Any) -> Any:
    """Give a figure of matplotlib as an ``<svg>`` element, whose size comes from the page; every text is escaped."""
    from markupsafe import Markup
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    text = io.StringIO()
    FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None, "Creator": None})
    # The XML declaration and the document type have no place inside a page.
    drawn = text.getvalue()
    return Markup(drawn[drawn.index("<svg") :])
