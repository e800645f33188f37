"""Tables of win rates: the truth and each judge side by side, what is left at equal length, and one order of all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from harness.records import WIDEST_CORRECTED, JudgeCard, Ranking, RunRecord, Score, TrialRecord, win_rate_by
from reports.glossary import term
from reports.numbers import MISSING, Cell, score_cell
from reports.page import Table, table
from reports.text import one_line
from reports.trials import display_name, score

CHECK = "the data's check"


def judged_table(run: RunRecord) -> Table:
    """The data's check, then every judge: how often each trial beats the anchor, raw and at equal length."""
    metrics = ["gold_win_rate", "gold_win_rate_controlled"]
    for card in run.judges:
        metrics += [win_rate_by(card.name), win_rate_by(card.name, "strict"), win_rate_by(card.name, "controlled")]
    note = (
        "Strict: a win only if both orders agree, else a tie. At equal length: fitted to all trials at once, as it "
        "would be if its responses were as long as the anchor's."
    )
    return _of_metrics(run, "Wins against the anchor", metrics, note)


def corrected_table(run: RunRecord) -> Table:
    """Each judge's win rates as they would be without its errors, and its wins against the data's chosen responses."""
    metrics = [win_rate_by(card.name, kind) for card in run.judges for kind in ("corrected", "chosen")]
    note = (
        "Corrected for the sensitivity and specificity on the judge's card, on the assumption that it errs on these "
        "responses as it does on labelled pairs. An interval wider than 40 points says that the judge is too weak to "
        "be corrected for. Against chosen: how often the response beats the data set's own chosen one."
    )
    found = _of_metrics(run, "Without the judge's errors, and against the data's own responses", metrics, note)
    return found if len(found.columns) > 1 else dataclasses.replace(found, rows=())


def _of_metrics(run: RunRecord, caption: str, metrics: Sequence[str], note: str) -> Table:
    """A row a trial, a column for each of the metrics that any trial has."""
    shown = [metric for metric in metrics if any(score(trial, metric) is not None for trial in run.trials)]
    rows = tuple(
        (Cell(display_name(run, trial)), *(score_cell(score(trial, metric)) for metric in shown))
        for trial in run.trials
    )
    return table(caption, ("Recipe", *(term(metric).title for metric in shown)), rows, note=note)


def too_weak(run: RunRecord, card: JudgeCard) -> TrialRecord | None:
    """The trial whose corrected win rate is the least certain, if that says that the judge is too weak."""
    metric = win_rate_by(card.name, "corrected")
    wide = {trial.name: (_width(found), trial) for trial in run.trials if (found := score(trial, metric)) is not None}
    width, trial = max(wide.values(), key=lambda pair: pair[0], default=(0.0, None))
    return trial if width > WIDEST_CORRECTED else None


def _width(found: Score) -> float:
    return found.high - found.low


def ranking_table(run: RunRecord) -> Table:
    """Every trial's strength by each ranking, the strongest first by the first of them."""
    orders = run.rankings
    names = _strongest_first(orders[0]) if orders else []
    rows = tuple((Cell(name), *(_strength(order, name) for order in orders)) for name in names)
    titles = ("", *(f"By {one_line(order.judge, 40)}" for order in orders))
    note = (
        "Bradley–Terry strengths in logits from every two trials on the same prompts, the anchor at 0: of two with "
        f"strengths 1.1 apart the stronger wins three times in four. {_agreements(run)}"
    )
    return table("Every two against each other", titles, rows, note=note.strip())


def _strongest_first(order: Ranking) -> list[str]:
    return sorted(order.strengths, key=lambda name: -order.strengths[name].value)


def _strength(order: Ranking, name: str) -> Cell:
    found = order.strengths.get(name)
    if found is None:
        return Cell(MISSING)
    return Cell("0") if name == "anchor" else score_cell(found)


def _agreements(run: RunRecord) -> str:
    """How alike each judge's order is to the data's, where the data has one."""
    found = [
        f"the order by {one_line(order.judge, 40)} has a Kendall's τ of {order.agreement:.2f} with that by {CHECK}"
        for order in run.rankings
        if order.agreement is not None
    ]
    sentence = "; ".join(found)
    return f"{sentence[:1].upper()}{sentence[1:]}." if sentence else ""
