"""report.html: one file that opens anywhere, offline, light or dark; no script in it, and none can get in."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.plain import visible
from reports.figures import inline
from reports.page import Block, Code, Figure, Page, Sample, Table
from reports.text import clipped

SHOWN_CHARACTERS = 4000  # of a response or prompt


def html(page: Page, drawings: Mapping[str, bytes]) -> str:
    """The page with its figures inside; `drawings` are SVGs by figure name."""
    environment = Environment(
        loader=PackageLoader("reports", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(kind=kind, text=_text, visible=visible)
    template = environment.get_template("report.html.j2")
    return template.render(page=page, figure=lambda figure: _figure(figure, drawings)) + "\n"


def kind(block: Block) -> str:
    """Which of the template's macros renders a block."""
    kinds = {Table: "table", Figure: "figure", Sample: "sample", Code: "code"}
    return kinds.get(type(block), "words")


def _text(text: str) -> str:
    """Untrusted text, cut and with its tricks made visible; the template escapes it."""
    return clipped(text, SHOWN_CHARACTERS) or "(empty)"


def _figure(figure: Figure, drawings: Mapping[str, bytes]) -> Markup:
    # Our own Matplotlib drew it: text is outlines in it, and the description is escaped here.
    return Markup(inline(drawings[figure.name], figure.name, escape(visible(figure.description))))
