"""Whether a run's recipes are worse than a baseline's, rule by rule: pass, regression, or cannot tell."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np

from evals.drop import CANNOT_TELL, Values, measure_drop
from harness.records import GateReport, GateRow, GateRule, Standing, StandingTrial, judge_of

# Measured against what the anchor answered, or against its log-probs: another anchor, another ruler.
_AGAINST_ANSWERS = ("gold_win_rate", "win_rate")
_AGAINST_LOGPS = ("reward_", "chosen_shift", "rejected_shift", "kl_", "k1_")
_ON_PAIRS = ("reward_", "ranking_", "chosen_shift", "rejected_shift")
# Of the prompts: another machine's rounding turns a few answers, another dtype a third, another anchor most of them.
ALIKE = 0.5
# Of the prompts that the baseline has a value for: fewer say that something broke, not how good the rest is.
COVERED = 0.9


def gate(
    baseline: Standing, run: Standing, rules: Sequence[GateRule], pairs: Mapping[str, str], confidence: float
) -> GateReport:
    """Every rule on every recipe; `pairs` is the run's recipe → the baseline's.

    The intervals hold for all rows at once (Bonferroni): with this confidence no row of equal models is called a
    regression, and none that fell by its margin passes.
    """
    wanted = [
        (rule, recipe, against)
        for recipe, against in pairs.items()
        for rule in rules
        if any(fnmatchcase(against, glob) for glob in rule.recipes)
    ]
    level = 1 - (1 - confidence) / max(1, len(wanted))
    rows = [_row(baseline, run, rule, recipe, against, level) for rule, recipe, against in wanted]
    return GateReport(confidence=confidence, rows=tuple(rows))


def _row(baseline: Standing, run: Standing, rule: GateRule, recipe: str, against: str, level: float) -> GateRow:
    reason = _incomparable(baseline, run, rule.metric)
    before, now = _trials(baseline, against, rule.metric), _trials(run, recipe, rule.metric)
    blank = GateRow(
        recipe=recipe,
        against=against,
        metric=rule.metric,
        unit=baseline.units.get(rule.metric) or run.units.get(rule.metric, ""),
        better=rule.better,
        margin=rule.margin,
        verdict=CANNOT_TELL,
        seeds=(len(before), len(now)),
    )
    if not reason and not before:
        reason = f"the baseline's {against} has no {rule.metric}"
    if not reason and not now:
        reason = f"{recipe} has no {rule.metric} in this run: it failed, or was not measured"
    shared = () if reason else _shared(baseline, run, before, now, rule.metric)
    if not reason:
        reason = _uncovered(baseline, run, before, now, rule.metric, len(shared))
    if reason:
        return dataclasses.replace(blank, reason=reason)
    before_SP, now_SP = _values(baseline, before, rule.metric, shared), _values(run, now, rule.metric, shared)
    return _measured(blank, before_SP, now_SP, level)


def _uncovered(
    baseline: Standing,
    run: Standing,
    before: Sequence[StandingTrial],
    now: Sequence[StandingTrial],
    metric: str,
    shared: int,
) -> str:
    """Why too few prompts are left, or nothing."""
    was = set.intersection(*[_known(baseline, trial, metric) for trial in before])
    found = was.intersection(*[_known(run, trial, metric) for trial in now])
    if len(found) < COVERED * len(was):
        return f"only {len(found)} of the baseline's {len(was)} prompts have {metric} in this run: something broke"
    return f"only {shared} prompts can be compared" if shared < 2 else ""


def _measured(blank: GateRow, before_SP: Values, now_SP: Values, level: float) -> GateRow:
    worse = 1.0 if blank.better == "higher" else -1.0
    drop = measure_drop(worse * before_SP, worse * now_SP, level=level, bounded=blank.unit == "share")
    verdict = drop.verdict(blank.margin)
    return dataclasses.replace(
        blank,
        verdict=verdict,
        before=float(before_SP.mean()),
        now=float(now_SP.mean()),
        drop=drop.value,
        low=drop.low,
        high=drop.high,
        n=before_SP.shape[1],
        power=drop.power(blank.margin) if blank.margin > 0 else None,
        needed=drop.prompts_needed(blank.margin) if verdict == CANNOT_TELL else None,
    )


def _incomparable(baseline: Standing, run: Standing, metric: str) -> str:
    """Why this metric of the two cannot be compared, or nothing."""
    both, same = set(_answers(baseline)) & set(_answers(run)), _answered_alike(baseline, run)
    if metric.startswith(_ON_PAIRS) and not _same_pairs(baseline, run):
        return "the labelled pairs differ, and this metric is read from them: save a new baseline"
    if metric.startswith((*_AGAINST_ANSWERS, *_AGAINST_LOGPS)) and (not both or len(same) < ALIKE * len(both)):
        return (
            f"the anchors differ (they answer {len(same)} of {len(both)} prompts alike), and this metric is measured "
            "against them: gate on one that is not, such as correct"
        )
    judge = judge_of(metric)
    if judge is not None and baseline.judges.get(judge) != run.judges.get(judge):
        was, now = (standing.judges.get(judge, "not asked") for standing in (baseline, run))
        return f"judge {judge} is not the same: {was} in the baseline, {now} in this run"
    return ""


def _same_pairs(baseline: Standing, run: Standing) -> bool:
    """By their lengths, and by their texts where both have them."""
    texts = {standing.labelled_digest for standing in (baseline, run) if standing.labelled_digest}
    return baseline.pairs_digest == run.pairs_digest and len(texts) < 2


def _trials(standing: Standing, recipe: str, metric: str) -> list[StandingTrial]:
    return [trial for trial in standing.trials if trial.recipe == recipe and metric in trial.values]


def _shared(
    baseline: Standing, run: Standing, before: Sequence[StandingTrial], now: Sequence[StandingTrial], metric: str
) -> tuple[str, ...]:
    """The prompts for which every seed of both sides has a value against the same, in the baseline's order."""
    known = [_known(standing, trial, metric) for standing, found in ((baseline, before), (run, now)) for trial in found]
    if metric.startswith(_AGAINST_ANSWERS):
        known.append(_answered_alike(baseline, run))
    return tuple(prompt for prompt in baseline.prompts if all(prompt in prompts for prompts in known))


def _answered_alike(baseline: Standing, run: Standing) -> set[str]:
    """Prompts to which the two anchors gave the same answer: there a win is a win over the same."""
    mine, theirs = _answers(run), _answers(baseline)
    return {prompt for prompt, answer in mine.items() if theirs.get(prompt) == answer}


def _answers(standing: Standing) -> dict[str, str]:
    """Prompt → the digest of the anchor's answer."""
    found = zip(standing.prompts, standing.anchor, strict=True)
    return {prompt: answer for prompt, answer in found if answer is not None}


def _known(standing: Standing, trial: StandingTrial, metric: str) -> set[str]:
    values = zip(standing.prompts, trial.values[metric], strict=True)
    return {prompt for prompt, value in values if value is not None}


def _values(standing: Standing, trials: Sequence[StandingTrial], metric: str, prompts: Sequence[str]) -> Values:
    """S seeds by P prompts."""
    place = {prompt: i for i, prompt in enumerate(standing.prompts)}
    return np.array([[trial.values[metric][place[p]] for p in prompts] for trial in trials], dtype=np.float64)
