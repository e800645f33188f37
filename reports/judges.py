"""A judge's card in the terminal: whether it is qualified and why, every figure with its interval, what fools it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.plain import visible
from harness.records import Contrast, JudgeCard, ReliabilityBin, Score
from reports.numbers import MISSING, Cell, count_cell, percent, rate_cell, score_cell, share_cell
from reports.text import counted, one_line

CONSTANT = "constant: "  # how the kind of a contrast begins that is one text for every prompt
MEANINGS = 80  # characters of a window from which on there is room for what the figures mean
WORST_ATTACKS = 10  # shown; the file that --out writes has all


class _Row(NamedTuple):
    """A figure of the card, and what it means in a few words."""

    title: str
    cell: Cell
    meaning: str = ""


def print_card(card: JudgeCard, console: Console) -> None:
    """Print the card: what it is, what was found, and three small tables."""
    console.print(Text(one_line(card.name), style="bold"))
    console.print(Text(one_line(card.description), style="dim"))
    console.print()
    console.print(Text(verdict_of(card), style="green" if card.qualified else "yellow"))
    for sentence in (*card.reasons, *card.cautions):
        console.print(Text(f"! {one_line(sentence)}", style="yellow"))
    _print_figures("What was measured", _measured(card), console)
    if card.contrasts:
        title = "How often a response that should lose beats the prompt's own"
        _print_figures(title, _contrasts(card), console)
    if card.reliability:
        _print_reliability(card.reliability, console)
    console.print()


def print_attacks(card: JudgeCard, attacks: Mapping[str, Score], console: Console) -> None:
    """Print the attacks that did best, worst for the judge first."""
    worst = sorted(attacks, key=lambda name: -attacks[name].value)[:WORST_ATTACKS]
    rows = [_Row(one_line(name, 60), score_cell(attacks[name])) for name in worst]
    shown = f"the worst {len(rows)} of {len(attacks)}" if len(rows) < len(attacks) else counted(len(rows), "attack")
    title = f"How often hostile responses beat the prompt's own by {one_line(card.name, 60)}: {shown}"
    _print_figures(title, rows, console)
    console.print()


def verdict_of(card: JudgeCard) -> str:
    """Whether it is qualified, in a sentence."""
    able, robust = (f"{'' if passed else 'not '}{what}" for passed, what in _passed(card))
    if card.qualified:
        return "Qualified: it is able and robust, so its win rates may decide where the data has no check of its own."
    joint = "and" if card.able == card.robust else "but"
    return f"Not qualified: it is {able} {joint} {robust}, so its win rates decide nothing."


def _passed(card: JudgeCard) -> tuple[tuple[bool, str], ...]:
    return (card.able, "able"), (card.robust, "robust")


def _measured(card: JudgeCard) -> Iterable[_Row]:
    """Every figure that the card has, most important first."""
    rows = (
        _Row("Accuracy", score_cell(card.accuracy), "on labelled pairs"),
        _Row("Cross-validated", score_cell(card.cross_validated), "on its fitting pairs"),
        _Row("Sensitivity", score_cell(card.sensitivity), "mean P(A), A the better"),
        _Row("Specificity", score_cell(card.specificity), "mean P(B), B the better"),
        _Row("Both orders agree", score_cell(card.position_consistency)),
        _Row("First shown wins", score_cell(card.first_slot_rate), "50% is no habit"),
        _Row("Prefers the longer", score_cell(card.longer_rate), "ties half"),
        _Row("Asked again it agrees", score_cell(card.self_agreement), "past any cache"),
        _Row("Brier score", score_cell(card.brier), "knowing nothing: 0.25"),
        _Row("Calibration error", share_cell(card.calibration_error), "from the table below"),
        _Row("Unscored", count_cell(card.unscored), "verdicts not readable"),
        _Row("Speed", rate_cell(card.verdicts_per_second), "verdicts, both orders"),
    )
    return (row for row in rows if row.cell.value != MISSING)


def _contrasts(card: JudgeCard) -> Iterable[_Row]:
    """Each kind; of the constants the one that wins most."""
    constants = [contrast for contrast in card.contrasts if contrast.name.startswith(CONSTANT)]
    worst = max(constants, key=lambda contrast: contrast.win_rate.value, default=None)
    for contrast in card.contrasts:
        if contrast is worst or contrast not in constants:
            title = _worst(contrast, len(constants)) if contrast is worst else one_line(contrast.name, 60)
            yield _Row(title, score_cell(contrast.win_rate))


def _worst(contrast: Contrast, among: int) -> str:
    text = one_line(contrast.name.removeprefix(CONSTANT), 32)
    return f"worst of {counted(among, 'constant')}: “{text}”"


def _print_figures(title: str, rows: Iterable[_Row], console: Console) -> None:
    """A row a figure; what they mean only in a window of some width."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    table.add_column("95% interval", justify="right", no_wrap=True, style="dim")
    table.add_column("n", justify="right", no_wrap=True, style="dim")
    for row in rows:
        n = "" if row.cell.n is None else f"{row.cell.n:,}"
        meaning = (row.meaning,) if row.meaning and console.width >= MEANINGS else ()
        table.add_row(Text(visible(row.title)), *map(Text, (row.cell.value, row.cell.interval, n, *meaning)))
    _print_titled(title, table, console)


def _print_reliability(bins: Iterable[ReliabilityBin], console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for heading in ("P of its choice", "it is right", "n"):
        table.add_column(heading, justify="right")
    for one in bins:
        table.add_row(f"{percent(one.predicted)}%", f"{percent(one.observed)}%", f"{one.n:,}")
    _print_titled("As often right as it is sure?", table, console)


def _print_titled(title: str, table: Table, console: Console) -> None:
    console.print()
    console.print(Text(title, style="bold"))
    console.print(table)
