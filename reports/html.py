"""report.html: one file that opens anywhere, offline, light or dark; no script but ours can run in it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from html import escape
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.plain import visible
from reports.figures import inline
from reports.page import Block, Browser, Code, Figure, Page, Sample, Table
from reports.text import clipped

SHOWN_CHARACTERS = 4000  # of a response or prompt among the samples
_SCRIPTS = ("evidence.js", "tables.js", "words.js", "browser.js", "frontier.js", "page.js")  # in the order they need


def html(page: Page, drawings: Mapping[str, bytes], evidence: str) -> str:
    """The page with its figures and evidence inside; `drawings` are SVGs by figure name."""
    environment = Environment(
        loader=PackageLoader("reports", "web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(kind=kind, text=_text, visible=visible, anchor=_anchor)
    script = "".join(_asset(name) for name in _SCRIPTS)
    return (
        environment.get_template("report.html.j2").render(
            page=page,
            figure=lambda figure: _figure(figure, drawings),
            style=Markup(_asset("report.css")),  # ours, like the script: nothing of a run is in them
            script=Markup(script),
            script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            evidence=evidence,
        )
        + "\n"
    )


def kind(block: Block) -> str:
    """Which of the template's macros renders a block."""
    kinds = {Table: "table", Figure: "figure", Sample: "sample", Code: "code", Browser: "browser"}
    return kinds.get(type(block), "words")


def _asset(name: str) -> str:
    return files("reports").joinpath("web", name).read_text(encoding="utf-8")


def _anchor(title: str) -> str:
    """A section's title as a link's target."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _text(text: str) -> str:
    """Untrusted text, cut and with its tricks made visible; the template escapes it."""
    return clipped(text, SHOWN_CHARACTERS) or "(empty)"


def _figure(figure: Figure, drawings: Mapping[str, bytes]) -> Markup:
    # Our own Matplotlib drew it: text is outlines in it, and the description is escaped here.
    return Markup(inline(drawings[figure.name], figure.name, escape(visible(figure.description))))
