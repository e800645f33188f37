"""The report's tables: one function a table, each from the run's records to cells."""

from __future__ import annotations

import dataclasses

from harness.records import RunRecord, Score, TrialScores, win_rate_by
from reports.deciding import best_first, deciding, ranked
from reports.glossary import term
from reports.numbers import (
    MISSING,
    Cell,
    change_cell,
    flops_cell,
    score_cell,
)
from reports.page import Table, table
from reports.text import one_line
from reports.trials import display_name

# Judged metrics stand in the main table beside the ones that need no judge.
_AFTER_WINS = (
    "reward_accuracy",
    "reward_margin_nats",
    "kl_nats",
    "correct",
    "length_ratio",
    "chosen_shift_nats",
)
_QUALITY = (
    "correct",
    "correct_change",
    "courtesy",
    "length_tokens",
    "length_ratio",
    "truncated",
    "distinct_2",
    "repetition",
    "opening_concentration",
    "chosen_perplexity",
)
_PREFERENCE = (
    "reward_accuracy",
    "reward_margin_nats",
    "ranking_accuracy",
    "ranking_accuracy_per_token",
    "chosen_shift_nats",
    "rejected_shift_nats",
    "kl_nats",
    "kl_per_token_nats",
    "k1_nats",
    "samples_truncated",
)


def main_table(run: RunRecord) -> Table:
    """One row a trial: the numbers that the answer is made of."""
    decider = deciding(run).metric
    wins = ("gold_win_rate", *(win_rate_by(card.name) for card in run.judges))
    metrics = tuple(dict.fromkeys((decider, *wins, *_AFTER_WINS)))
    top = {trial.name for trial, _ in ranked(run, decider)[:1]}
    rows = tuple(
        (
            Cell(display_name(run, trial), strong=trial.name in top),
            *_cells(trial.scores, metrics),
            flops_cell(trial.ledger.flops),
        )
        for trial in best_first(run, decider)
    )
    titles = ("Recipe", *(term(metric).title for metric in metrics), "Spent")
    return dataclasses.replace(table("Scores of every trial, best first", titles, rows), filter=True)


def _cells(scores: TrialScores, metrics: tuple[str, ...]) -> tuple[Cell, ...]:
    return tuple(_cell(metric, scores.scores.get(metric)) for metric in metrics)


def _cell(metric: str, value: Score | None) -> Cell:
    if metric == "correct_change":
        return change_cell(value)
    return score_cell(value)


def preference_table(run: RunRecord) -> Table:
    """All that is measured on held-out pairs and samples, without a judge."""
    found = _score_table(run, "More: held-out pairs and drift from the anchor", _PREFERENCE)
    return dataclasses.replace(found, folded=True)


def quality_table(run: RunRecord) -> Table:
    """What a win rate hides: length, repetition, openings, correctness."""
    return _score_table(run, "What the responses are like", _QUALITY, opening=True)


def _score_table(run: RunRecord, caption: str, metrics: tuple[str, ...], opening: bool = False) -> Table:
    named = [(display_name(run, trial), trial.scores) for trial in run.trials]
    if opening and run.anchor_scores is not None:
        named = [("anchor", run.anchor_scores), *named]
    rows = tuple(
        (Cell(name), *_cells(scores, metrics), *((_opening(scores),) if opening else ())) for name, scores in named
    )
    titles = ("Recipe", *(term(metric).title for metric in metrics), *(("Its words",) if opening else ()))
    return table(caption, titles, rows)


def _opening(scores: TrialScores) -> Cell:
    words = one_line(scores.commonest_opening.strip(), 40)
    return Cell(f"“{words}”" if words else MISSING)


def agreement_table(run: RunRecord) -> Table:
    """How often the data's check and the judges, two by two, name the same winner."""
    rows = tuple((Cell(one_line(x.a, 60)), Cell(one_line(x.b, 60)), score_cell(x.share)) for x in run.agreements)
    note = "Over all trials, of the responses on which both name a winner; two that toss coins agree on 50%."
    return table("How often they name the same winner", ("First", "Second", "Agree"), rows, note=note)
