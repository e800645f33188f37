"""The report's tables of what the judges were measured to be, before anything they say is believed."""

from __future__ import annotations

from harness.records import JudgeCard, ReliabilityBin, RunRecord
from reports.numbers import Cell, count_cell, score_cell, share_cell
from reports.page import Table, table
from reports.text import one_line


def card_table(run: RunRecord) -> Table:
    """Each judge as it was measured on labelled pairs that it was not fitted on."""
    rows = tuple(_card(card) for card in run.judges)
    titles = ("Judge", "Accuracy", "Same winner in both orders", "First shown wins", "Prefers the longer")
    return table("The judge's card", (*titles, "Unscored", "Able", "Robust", "Qualified"), rows)


def _card(card: JudgeCard) -> tuple[Cell, ...]:
    measured = (card.accuracy, card.position_consistency, card.first_slot_rate, card.longer_rate)
    passed = (card.able, card.robust, card.qualified)
    return (
        Cell(one_line(card.name, 60)),
        *(score_cell(value) for value in measured),
        count_cell(card.unscored),
        *(Cell("yes" if good else "no", strong=not good) for good in passed),
    )


def error_table(run: RunRecord) -> Table:
    """How far each judge's probabilities can be trusted; without rows where no card says."""
    cards = [card for card in run.judges if card.brier is not None]
    titles = ("Judge", "Sensitivity", "Specificity", "Brier score", "Calibration error", "Asked again it agrees")
    note = (
        "Sensitivity is the mean P(A wins), both orders asked, of labelled pairs whose A is the better response, and "
        "specificity the mean P(B wins) of those whose B is: by them a win rate is corrected for the judge's errors. "
        "Brier's score is 0 at best, and 0.25 for a judge that knows nothing and says so."
    )
    rows = tuple(_errors(card) for card in cards)
    return table("What its probabilities are worth", (*titles, "Cross-validated accuracy"), rows, note=note)


def _errors(card: JudgeCard) -> tuple[Cell, ...]:
    return (
        Cell(one_line(card.name, 60)),
        *map(score_cell, (card.sensitivity, card.specificity, card.brier)),
        share_cell(card.calibration_error),
        *map(score_cell, (card.self_agreement, card.cross_validated)),
    )


def reliability_table(run: RunRecord) -> Table:
    """As often right as it is sure? Verdicts of like sureness in a row."""
    rows = tuple(_reliability(card.name, one) for card in run.judges for one in card.reliability)
    titles = ("Judge", "Mean P of its choice", "Its choice is right", "Labelled pairs")
    return table("As often right as it is sure", titles, rows, folded=True)


def _reliability(judge: str, one: ReliabilityBin) -> tuple[Cell, ...]:
    return (Cell(one_line(judge, 60)), share_cell(one.predicted), share_cell(one.observed), count_cell(one.n))


def contrast_table(run: RunRecord) -> Table:
    """How often each kind of bad response beats the prompt's own chosen one: under 20% is robust."""
    names = list(dict.fromkeys(contrast.name for card in run.judges for contrast in card.contrasts))
    rows = tuple((Cell(one_line(name, 80)), *_contrasts(run, name)) for name in names)
    titles = ("A response that should lose", *(one_line(card.name, 60) for card in run.judges))
    return table("How often a bad response beats the prompt's own chosen one", titles, rows)


def _contrasts(run: RunRecord, name: str) -> tuple[Cell, ...]:
    found = ({c.name: c.win_rate for c in card.contrasts}.get(name) for card in run.judges)
    return tuple(score_cell(rate) for rate in found)
