"""Two trials in the terminal: which is better and how sure, every paired difference, the most telling samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.plain import visible
from harness.records import PairedMetric, RunRecord
from reports.contrasts import BETTER, WORSE
from reports.deciding import deciding
from reports.finding import finding
from reports.glossary import term
from reports.numbers import MISSING, comparison_cell, figure, p_value
from reports.sides import Side
from reports.telling import print_samples
from reports.trials import told_apart, unit

NAME = 26  # characters of a metric's title, at most
LEAST = 27  # characters that the difference and its corrected p take: they stand in every window


def print_two(
    run: RunRecord, sides: tuple[Side, Side], found: Sequence[PairedMetric], console: Console, samples: int
) -> None:
    """Print a against b: `found` is their paired metrics, `samples` the number of prompts shown below them."""
    for sentence in finding(run, sides, found):
        console.print(Text(visible(sentence)))
    if found:
        _print_table(run, sides, found, console)
    if samples:
        print_samples(run, sides, console, samples)


class _Column(NamedTuple):
    """A column, its width in characters, and its place when a window has no room for all."""

    title: str
    width: int
    rank: int


_COLUMNS = (
    _Column("A", 7, 2),
    _Column("B", 7, 2),
    _Column("A − B", 16, 0),
    _Column("p", 6, 3),
    _Column("p, Holm", 7, 1),
    _Column("n", 5, 4),
    _Column("A>B : A<B", 9, 5),
    _Column("McNemar", 7, 5),
)


def _print_table(run: RunRecord, sides: tuple[Side, Side], found: Sequence[PairedMetric], console: Console) -> None:
    """The deciding metric first, then what the run corrects for, then the rest."""
    first = deciding(run).metric
    rows = sorted(found, key=lambda one: (one.comparison.metric != first, not one.adjusted))
    name = min(NAME, max(len(term(one.comparison.metric).title) for one in rows), max(12, console.width - LEAST))
    kept = _that_fit(console.width - name - 1)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("Metric", max_width=name)
    for column in kept:
        table.add_column(column.title, justify="right")
    for one in rows:
        cells = dict(zip(_COLUMNS, _cells(run, one), strict=True))
        table.add_row(Text(visible(term(one.comparison.metric).title)), *(cells[column] for column in kept))
    console.print()
    console.print(Text(visible(f"A: {sides[0].name}   B: {sides[1].name}")))
    console.print(table)
    for note in _notes(kept):
        console.print(Text(note, style="dim"))


def _that_fit(room: int) -> list[_Column]:
    """The columns that this many characters hold, the most important first; together where their rank is one."""
    rank = max(column.rank for column in _COLUMNS)
    while rank and sum(column.width + 1 for column in _COLUMNS if column.rank <= rank) > room:
        rank -= 1
    return [column for column in _COLUMNS if column.rank <= rank]


def _cells(run: RunRecord, one: PairedMetric) -> tuple[Text, ...]:
    """In the order of `_COLUMNS`."""
    c, kind = one.comparison, unit(run, one.comparison.metric)
    values = (one.a_mean, one.b_mean)
    counts = (MISSING, MISSING)
    if one.outcomes is not None:
        counts = (f"{one.outcomes.ahead} : {one.outcomes.behind}", p_value(one.outcomes.p))
    holm = p_value(c.p_holm) if one.adjusted else MISSING
    return (
        *(Text(figure(value, kind)) for value in values),
        _difference(one, kind),
        *map(Text, (p_value(c.p), holm, f"{c.n:,}", *counts)),
    )


def _difference(one: PairedMetric, kind: str) -> Text:
    """The difference, marked where it is told apart by the corrected p, its interval under it."""
    cell = comparison_cell(one.comparison, kind)
    apart = one.adjusted and told_apart(one.comparison)
    mark = f" {BETTER if one.comparison.difference > 0 else WORSE}" if apart else ""
    text = Text(f"{cell.value}{mark}", style="bold" if apart else "")
    return text.append(f"\n{cell.interval}", style="not bold dim")


def _notes(kept: Sequence[_Column]) -> tuple[str, ...]:
    left_out = [column.title for column in _COLUMNS if column not in kept]
    marks = f"{BETTER} A is higher, {WORSE} lower, with p < 0.05 after Holm's correction over all pairs of trials."
    rest = "Metrics without a corrected p were not tested by the run: of twenty, one falls below 0.05 by chance."
    return (f"{marks} {rest}", *([f"A wider window shows more: {'; '.join(left_out)}."] if left_out else []))
