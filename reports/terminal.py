"""The last thing a run prints: the answer, a table that fits the window, and where the report is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.plain import on_one_line, visible
from harness.records import RunRecord, TrialRecord, win_rate_by
from reports.cautions import warnings
from reports.deciding import best_first, deciding, ranked
from reports.glossary import term
from reports.numbers import Cell, flops, score_cell
from reports.shortening import narrowest, shortened
from reports.summary import answer
from reports.text import counted
from reports.trials import by_recipe, display_name, score

# The metrics by importance: a narrow window shows the first of them, the widest all with intervals.
_METRICS = ("kl_nats", "reward_accuracy", "correct", "length_ratio")
_SHORT = {
    "gold_win_rate": "Gold wins",
    "kl_nats": "KL",
    "reward_accuracy": "Reward acc.",
    "correct": "Right",
    "length_ratio": "Length",
}
_NAME = 26  # cells that a recipe's name may take before metrics need them; more where it takes more to tell them apart
_JUDGE = 16  # the same of a judge's name
_GAP = 2  # cells between two columns


@dataclass(frozen=True, kw_only=True)
class _Column:
    """One column of numbers, a cell a trial."""

    title: str
    cells: tuple[Cell, ...]

    def heading(self, *, stacked: bool) -> str:
        """The title; stacked, its last word below the others."""
        return "\n".join(self.title.rsplit(" ", 1)) if stacked else self.title

    def width(self, *, intervals: bool, stacked: bool) -> int:
        """Terminal cells that it takes, the gap included."""
        texts = [*self.heading(stacked=stacked).split("\n"), *(cell.value for cell in self.cells)]
        if intervals:
            texts += [cell.interval for cell in self.cells]
        return max(map(cell_len, texts)) + _GAP


class _Layout(NamedTuple):
    """What of the columns is shown, and how."""

    columns: tuple[_Column, ...]
    intervals: bool
    stacked: bool

    @property
    def width(self) -> int:
        return sum(column.width(intervals=self.intervals, stacked=self.stacked) for column in self.columns)


def print_report(run: RunRecord, console: Console, path: Path) -> None:
    """Print the answer, the table, what to beware of in a line each, and the report's path."""
    for sentence in answer(run):
        console.print(Text(visible(sentence)))
    if run.trials:
        console.print()
        console.print(_table(by_recipe(run), console.width))
        console.print()
    for warning in warnings(run):
        console.print(Text(clipped_line(f"! {warning}", console.width), style="yellow"), no_wrap=True)
    console.print(Text(f"{counted(len(run.trials), 'trial')} in {path}"), soft_wrap=True)


def clipped_line(text: str, width: int) -> str:
    """Visible text on one line of this width."""
    line = on_one_line(text)
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _table(run: RunRecord, width: int) -> Table:
    """Best first, the best marked. Nothing wraps: a narrow window goes without intervals, then without some metrics."""
    trials = best_first(run, deciding(run).metric)
    names = [visible(display_name(run, trial)) for trial in trials]
    columns = _columns(run, trials)
    least = _Layout(columns[:1], intervals=False, stacked=True).width
    cells = narrowest(names, _NAME, max(1, width - 2 - _GAP - least))
    layout = _layout(columns, width - 2 - cells - _GAP)
    spare = width - 2 - cells - _GAP - layout.width
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("Recipe", no_wrap=True, vertical="top")
    for column in layout.columns:
        table.add_column(Text(column.heading(stacked=layout.stacked)), justify="right", no_wrap=True)
    best = {trial.name for trial, _ in ranked(run, deciding(run).metric)[:1]}
    for place, (trial, name) in enumerate(zip(trials, shortened(names, cells + spare), strict=True)):
        top = trial.name in best
        shown = [_shown(column.cells[place], layout.intervals) for column in layout.columns]
        table.add_row(Text(f"{'*' if top else ' '} {name}"), *shown, style="bold" if top else "")
    return table


def _layout(columns: tuple[_Column, ...], room: int) -> _Layout:
    """All columns with intervals where they fit, or all but the last; else without, as many as fit, one at least."""
    fewer = [columns[:kept] for kept in range(len(columns), 0, -1)]
    tries = [
        *(_Layout(kept, True, stacked) for kept in fewer[:2] for stacked in (False, True)),
        *(_Layout(kept, False, stacked) for kept in fewer for stacked in (False, True)),
    ]
    return next((layout for layout in tries if layout.width <= room), tries[-1])


def _columns(run: RunRecord, trials: Sequence[TrialRecord]) -> tuple[_Column, ...]:
    """The metrics by importance, and last what was spent, which trials have in common."""
    judges = [card.name for card in run.judges]
    short = dict(zip(judges, shortened([visible(name) for name in judges], _JUDGE), strict=True))
    titles = _SHORT | {win_rate_by(name): f"Wins by {cut}" for name, cut in short.items()}
    metrics = _metrics(run)
    found = [
        _Column(
            title=titles.get(metric, term(metric).title),
            cells=tuple(score_cell(score(trial, metric)) for trial in trials),
        )
        for metric in metrics
    ]
    spent = _Column(title="Spent", cells=tuple(Cell(flops(trial.ledger.flops)) for trial in trials))
    return (*found, spent)


def _metrics(run: RunRecord) -> tuple[str, ...]:
    """The deciding metric first, then the other win rates and the rest, as far as anybody has them."""
    wins = ("gold_win_rate", *(win_rate_by(card.name) for card in run.judges))
    wanted = dict.fromkeys((deciding(run).metric, *wins, *_METRICS))
    return tuple(m for m in wanted if any(score(trial, m) is not None for trial in run.trials))


def _shown(cell: Cell, interval: bool) -> Text:
    text = Text(cell.value)
    if interval and cell.interval:
        text.append(f"\n{cell.interval}", style="dim")
    return text
