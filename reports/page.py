"""What a report shows, in order, before any markup: `markdown` and `html` both render these."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from reports.numbers import MISSING, Cell

NUMERIC = frozenset("0123456789+−×<·—")  # how a number, or its absence, begins


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column's title, and the n behind its cells where the table does not say it for all."""

    title: str
    hint: str = ""
    numeric: bool = False  # stands to the right


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells under columns; the first cell of a row names it."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    folded: bool = False  # opens on demand
    pairs: bool = False  # a row and a column name the two trials of a cell
    filter: bool = False  # the box that filters trials stands above it


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture among `figures/`, its description for those who cannot see it, and its caption."""

    name: str
    description: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Response:
    """What one side wrote for a prompt: untrusted and whole, for the renderer to cut and escape."""

    who: str
    text: str
    remark: str = ""  # "P(beats anchor) 0.93"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One prompt with the responses of the data, the anchor and the trials."""

    why: str  # this prompt is shown
    question: str  # untrusted, like the responses
    responses: tuple[Response, ...]


@dataclass(frozen=True, kw_only=True)
class Code:
    """A line to be copied."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Browser:
    """Every prompt with the responses of any two trials: the page's script fills it; Markdown has none."""


Block = str | Table | Figure | Sample | Code | Browser


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, kw_only=True)
class Page:
    """The whole report. All text is plain: markup is the renderer's to add, and to escape."""

    title: str
    subtitle: str
    answer: tuple[str, ...]
    warnings: tuple[str, ...]
    sections: tuple[Section, ...]


def table(
    caption: str,
    titles: tuple[str, ...],
    rows: tuple[tuple[Cell, ...], ...],
    *,
    note: str = "",
    folded: bool = False,
    pairs: bool = False,
) -> Table:
    """A table whose caption or columns say the n that cells share, else each cell; unmeasured columns are left out."""
    kept = [i for i in range(len(titles)) if i == 0 or any(row[i].value != MISSING for row in rows)]
    columns = tuple(_column(titles[i], [row[i] for row in rows]) for i in kept)
    cells = tuple(tuple(_with_n(row[i], column) for i, column in zip(kept, columns, strict=True)) for row in rows)
    hints = {column.hint for column in columns if column.hint}
    measured = [i for i, column in zip(kept, columns, strict=True) if any(row[i].n is not None for row in rows)]
    if len(hints) == 1 and len(measured) == sum(bool(column.hint) for column in columns):
        caption = f"{caption} ({hints.pop()})"
        columns = tuple(dataclasses.replace(column, hint="") for column in columns)
    return Table(caption=caption, columns=columns, rows=cells, note=note, folded=folded, pairs=pairs)


def _column(title: str, cells: list[Cell]) -> Column:
    numeric = bool(cells) and all(cell.value[:1] in NUMERIC for cell in cells)
    return Column(title=title, hint=_shared_n(cells), numeric=numeric)


def _shared_n(cells: list[Cell]) -> str:
    counts = {cell.n for cell in cells if cell.n is not None}
    return f"n = {counts.pop():,}" if len(counts) == 1 else ""


def _with_n(cell: Cell, column: Column) -> Cell:
    """The cell, saying its own n where its column has none that all cells share."""
    if column.hint or cell.n is None:
        return cell
    return cell._replace(interval=f"{cell.interval}, n = {cell.n:,}" if cell.interval else f"n = {cell.n:,}")
