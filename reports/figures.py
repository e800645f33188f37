"""One style for every figure, and figures as bytes: the same records draw the same bytes.

No pyplot, so no global state. The colours are Okabe and Ito's, safe for the colour-blind; each trial has its
own marker and dash too.
"""

from __future__ import annotations

import io
import re
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from harness.records import RunRecord
from reports.trials import display_name

INK = "#24292f"  # text and axes; the page's own text colour when a figure stands in it
FAINT = "#d0d7de"  # grid
PALE = "#b8bfc6"  # lines that stand behind others
PAPER = "#ffffff"
_VARIABLES = {INK: "currentColor", FAINT: "var(--rule)", PALE: "var(--pale)", PAPER: "var(--paper)"}  # of the page

# Okabe and Ito (2008), without black, which is the anchor's, and yellow, which is too pale on white.
_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#7A7A7A")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
_DASHES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)), "-")

_SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # Matplotlib brings it along: the same letters on every machine
    "font.size": 13,
    "axes.titlesize": 14,
    "axes.labelsize": 13,
    "svg.fonttype": "path",
    "svg.hashsalt": "prefbench",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


class Mark(NamedTuple):
    """How one trial is drawn in every figure."""

    colour: str
    marker: str
    dash: Any  # a line style, as Matplotlib takes it


def marks(run: RunRecord) -> dict[str, Mark]:
    """Each trial's mark by its display name, in the order of the recipes."""
    return {
        display_name(run, trial): Mark(
            _COLOURS[i % len(_COLOURS)], _MARKERS[i % len(_MARKERS)], _DASHES[i % len(_DASHES)]
        )
        for i, trial in enumerate(run.trials)
    }


def blank(width: float, height: float, pad: float = 0.05) -> Figure:
    """An empty figure of this size and space round its panels, in inches; its canvas can measure text."""
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height), facecolor=PAPER, layout=ConstrainedLayoutEngine(w_pad=pad, h_pad=pad))
        FigureCanvasAgg(figure)
    return figure


def styled() -> AbstractContextManager[None]:
    """The settings that artists read when they are made; hold them while drawing."""
    return mpl.rc_context(_SETTINGS)


def tidy(axes: Axes) -> None:
    """A pale grid behind, and only the axes that carry numbers."""
    axes.set_facecolor(PAPER)
    axes.grid(color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def svg(figure: Figure) -> bytes:
    """The figure as SVG, without date or version."""
    buffer = io.BytesIO()
    with mpl.rc_context(_SETTINGS):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def png(figure: Figure) -> bytes:
    """The figure as PNG at twice the usual resolution, without version."""
    buffer = io.BytesIO()
    with mpl.rc_context(_SETTINGS):
        figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    return buffer.getvalue()


def inline(drawing: bytes, name: str, description: str) -> str:
    """An SVG to stand in a page: its ids its own, its ink and paper those of the page, light or dark.

    `description` must be escaped already.
    """
    text = drawing.decode()
    body = text[text.index("<svg") :]
    body = re.sub(r'(\sid="|(?:xlink:)?href="#|url\(#)', rf"\g<1>{name}-", body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, variable)
    size = r'(<svg\s[^>]*?)\swidth="[^"]*"'
    body = re.sub(r'(<svg\s[^>]*?)\sheight="[^"]*"', r"\1", re.sub(size, r"\1", body, count=1), count=1)
    return body.replace("<svg", f'<svg role="img" aria-label="{description}"', 1)
