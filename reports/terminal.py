"""The last thing a run prints: the answer, a table that fits the window, and where the report is."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.plain import on_one_line, visible
from harness.records import RunRecord, TrialRecord, win_rate_by
from reports.cautions import warnings
from reports.deciding import best_first, deciding, ranked
from reports.glossary import term
from reports.numbers import Cell, flops, score_cell
from reports.summary import answer
from reports.text import counted
from reports.trials import display_name, score

# The metrics by importance: a narrow window shows the first of them, the widest all with intervals.
_METRICS = ("kl_nats", "reward_accuracy", "correct", "length_ratio")
_SHORT = {
    "gold_win_rate": "Gold wins",
    "kl_nats": "KL",
    "reward_accuracy": "Reward acc.",
    "correct": "Right",
    "length_ratio": "Length",
}
_COLUMN = 13  # characters with an interval, padding included
_NARROW = 9  # without
_SPENT = 14  # what trials have in common is the first to go


def print_report(run: RunRecord, console: Console, path: Path) -> None:
    """Print the answer, the table, what to beware of in a line each, and the report's path."""
    for sentence in answer(run):
        console.print(Text(visible(sentence)))
    if run.trials:
        console.print()
        console.print(_table(run, console.width))
        console.print()
    for warning in warnings(run):
        console.print(Text(clipped_line(f"! {warning}", console.width), style="yellow"), no_wrap=True)
    console.print(Text(f"{counted(len(run.trials), 'trial')} in {path}"), soft_wrap=True)


def clipped_line(text: str, width: int) -> str:
    """Visible text on one line of this width."""
    line = on_one_line(text)
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _table(run: RunRecord, width: int) -> Table:
    """Best first, the best marked; a narrow window keeps the first metrics."""
    metrics = _metrics(run)
    names = max(len(display_name(run, trial)) for trial in run.trials) + 2
    room = width - min(names, 28)
    intervals = room >= _COLUMN * len(metrics)
    kept = metrics if intervals else metrics[: max(1, room // _NARROW)]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("Recipe", overflow="ellipsis", no_wrap=True, max_width=28)
    for metric in kept:
        table.add_column(_title(metric), justify="right")
    spent = width - min(names, 28) - len(kept) * (_COLUMN if intervals else _NARROW) >= _SPENT
    if spent:
        table.add_column("Spent", justify="right", no_wrap=True)
    best = {trial.name for trial, _ in ranked(run, deciding(run).metric)[:1]}
    for trial in best_first(run, deciding(run).metric):
        top = trial.name in best
        row = _row(run, trial, kept, intervals, top=top)
        table.add_row(*(row if spent else row[:-1]), style="bold" if top else "")
    return table


def _metrics(run: RunRecord) -> tuple[str, ...]:
    """The deciding metric first, then the other win rates and the rest, as far as anybody has them."""
    wins = ("gold_win_rate", *(win_rate_by(card.name) for card in run.judges))
    wanted = dict.fromkeys((deciding(run).metric, *wins, *_METRICS))
    return tuple(m for m in wanted if any(score(trial, m) is not None for trial in run.trials))


def _title(metric: str) -> Text:
    return Text(_SHORT.get(metric, term(metric).title.replace("Win rate by", "Wins by")))


def _row(run: RunRecord, trial: TrialRecord, metrics: tuple[str, ...], intervals: bool, *, top: bool) -> list[Text]:
    cells = [score_cell(score(trial, metric)) for metric in metrics]
    shown = [_shown(cell, intervals) for cell in cells]
    name = f"{'*' if top else ' '} {visible(display_name(run, trial))}"
    return [Text(name), *shown, Text(flops(trial.ledger.flops))]


def _shown(cell: Cell, interval: bool) -> Text:
    text = Text(cell.value)
    if interval and cell.interval:
        text.append(f"\n{cell.interval}", style="dim")
    return text
