"""A run's records to its report: report.json, report.md, report.html and figures/, each whole or absent."""

from __future__ import annotations

from pathlib import Path

from harness.records import RunRecord
from harness.store import write_atomically, write_json, write_text
from reports.curves import curves
from reports.document import document
from reports.evidence import packed_evidence
from reports.figures import png, svg
from reports.frontier import frontier
from reports.html import html
from reports.load import load_run
from reports.markdown import markdown
from reports.story import page

_FIGURES = {"frontier": frontier, "training": curves}


def build_report(folder: Path) -> Path:
    """Write the report of the run in this folder; the path of report.md. Same records, same bytes."""
    return write_report(load_run(folder), folder)


def write_report(run: RunRecord, folder: Path) -> Path:
    """Write the report of these records into this folder; the path of report.md.

    report.json comes first: by it a joined report's folder is known as one, should the rest be cut short.
    """
    write_json(folder / "report.json", document(run))
    drawings = _draw(run, folder / "figures")
    story = page(run)
    write_text(folder / "report.html", html(story, drawings, packed_evidence(run)))
    write_text(folder / "report.md", markdown(story))
    return folder / "report.md"


def _draw(run: RunRecord, folder: Path) -> dict[str, bytes]:
    """Every figure as SVG and PNG; the SVGs, for the page."""
    drawings = {}
    for name, draw in _FIGURES.items() if run.trials else ():
        figure = draw(run)
        drawings[name] = svg(figure)
        _write(folder / f"{name}.svg", drawings[name])
        _write(folder / f"{name}.png", png(figure))
    return drawings


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda temporary: _fill(temporary, content))


def _fill(path: Path, content: bytes) -> None:
    path.write_bytes(content)
