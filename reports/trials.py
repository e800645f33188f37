"""Looking things up in a run: a trial's name and scores, and the paired comparison of two trials."""

from __future__ import annotations

import dataclasses

from harness.records import Comparison, JudgeCard, RunRecord, Score, TrialRecord
from reports.text import one_line

# Holm-adjusted over all pairs of trials, so this bounds the chance of even one false "is better".
SIGNIFICANT = 0.05


def display_name(run: RunRecord, trial: TrialRecord) -> str:
    """The recipe's name; with several seeds, RECIPE@SEED. Comparisons use the same names."""
    return trial.recipe if run.bench.seeds == 1 else trial.name


def by_recipe(run: RunRecord) -> RunRecord:
    """The run with several seeds of a recipe as one trial, its scores covering all of them; else the run as it is.

    Such a trial has the first seed's records, and goes by its recipe's name, as comparisons do.
    """
    if not run.recipes:
        return run
    first: dict[str, TrialRecord] = {}
    for trial in run.trials:
        first.setdefault(trial.recipe, trial)
    pooled = {scores.recipe: scores for scores in run.recipes}
    return dataclasses.replace(
        run,
        bench=dataclasses.replace(run.bench, seeds=1),
        trials=tuple(
            dataclasses.replace(trial, scores=pooled.get(recipe, trial.scores)) for recipe, trial in first.items()
        ),
    )


def score(trial: TrialRecord, metric: str) -> Score | None:
    """A trial's score, or None where it was not measured."""
    return trial.scores.scores.get(metric)


def unit(run: RunRecord, metric: str) -> str:
    """The unit that the trials' scores of this metric have."""
    found = (score(trial, metric) for trial in run.trials)
    return next((s.unit for s in found if s is not None), "")


def comparison(run: RunRecord, a: str, b: str, metric: str) -> Comparison | None:
    """The comparison of a with b, turned round where it was recorded as b with a."""
    for c in run.comparisons:
        if c.metric == metric and (c.a, c.b) == (a, b):
            return c
        if c.metric == metric and (c.a, c.b) == (b, a):
            return swapped(c)
    return None


def swapped(c: Comparison) -> Comparison:
    """The same comparison seen from the other side."""
    return dataclasses.replace(c, a=c.b, b=c.a, difference=-c.difference, low=-c.high, high=-c.low)


def told_apart(c: Comparison | None) -> bool:
    """Whether the two differ by more than chance explains."""
    return c is not None and c.p_holm < SIGNIFICANT


def failings(card: JudgeCard) -> str:
    """Why a judge is not qualified, to follow a colon."""
    reasons = [one_line(reason).rstrip(".") for reason in card.reasons]
    return "; ".join(f"{reason[:1].lower()}{reason[1:]}" for reason in reasons) or "it failed its qualification"
