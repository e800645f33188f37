"""Trials paired by prompt: every two of a bench on what can decide and what it costs, or two on all that is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evals.pooling import ANCHOR, by_recipe, compare_pooled
from evals.statistics import compare_all, mcnemar
from evals.winrate import winner
from harness.records import Comparison, Outcomes, PairedMetric, TrialScores, judge_of, win_rate_by

EVEN = 0.5  # what the anchor wins against itself

PerPrompt = Mapping[str, Mapping[str, float]]  # metric → prompt_id → value

# What is true or false of a response or a pair; with several pairs to a prompt their mean is neither.
_OUTCOMES = (
    "gold_win_rate",
    "correct",
    "truncated",
    "reward_accuracy",
    "ranking_accuracy",
    "ranking_accuracy_per_token",
)


def compare_trials(judges: Sequence[str], scores: Mapping[str, TrialScores]) -> list[Comparison]:
    """Trial → its scores in; every two trials on each metric out, and each against the anchor where winning is asked.

    Where a recipe has several seeds, every two recipes, with prompts and seeds in the interval.
    """
    wins = ["gold_win_rate", *map(win_rate_by, judges)]
    seeds = by_recipe(list(scores.values()))
    several = any(len(trials) > 1 for trials in seeds.values())
    found: list[Comparison] = []
    for metric in [*wins, "kl_nats", "reward_accuracy"]:
        anchor, bounded = (EVEN if metric in wins else None), metric != "kl_nats"
        if several:
            found += compare_pooled(seeds, metric, against_anchor=anchor, bounded=bounded)
            continue
        values = {name: s.per_prompt[metric] for name, s in scores.items() if metric in s.per_prompt}
        if values and anchor is not None:
            # The anchor wins half against itself: "beats the anchor" is one of the tests that Holm corrects.
            values[ANCHOR] = dict.fromkeys((prompt for won in values.values() for prompt in won), anchor)
        found += compare_all(values, metric=metric, bounded=bounded)
    return found


def compare_two(
    a: str, b: str, mine: PerPrompt, theirs: PerPrompt, tested: Mapping[str, Comparison]
) -> tuple[PairedMetric, ...]:
    """Trial a against b on every metric that both have values of on two prompts or more.

    `tested` are the bench's own comparisons of a with b, by metric: they are kept, so that no number has two values.
    """
    shared = (metric for metric in mine if len(mine[metric].keys() & theirs.get(metric, {}).keys()) >= 2)
    return tuple(_paired(a, b, metric, mine[metric], theirs[metric], tested.get(metric)) for metric in shared)


def _paired(
    a: str, b: str, metric: str, mine: Mapping[str, float], theirs: Mapping[str, float], tested: Comparison | None
) -> PairedMetric:
    shared = sorted(mine.keys() & theirs.keys())
    values = [mine[prompt] for prompt in shared], [theirs[prompt] for prompt in shared]
    a_mean, b_mean = (sum(side) / len(shared) for side in values)
    bounded = all(0 <= value <= 1 for side in values for value in side) and not metric.endswith("nats")
    (comparison,) = (tested,) if tested else compare_all({a: mine, b: theirs}, metric=metric, bounded=bounded)
    return PairedMetric(
        comparison=comparison,
        adjusted=tested is not None,
        a_mean=a_mean,
        b_mean=b_mean,
        outcomes=_outcomes(metric, *values),
    )


def _outcomes(metric: str, mine: Sequence[float], theirs: Sequence[float]) -> Outcomes | None:
    """Prompts won and lost where a value is a win, a loss or a tie; a judge's probability is one by who it favours."""
    if judge_of(metric) is not None:
        mine, theirs = [winner(p) for p in mine], [winner(p) for p in theirs]
    elif metric not in _OUTCOMES or not {*mine, *theirs} <= {0.0, 0.5, 1.0}:
        return None
    ahead = sum(x > y for x, y in zip(mine, theirs, strict=True))
    behind = sum(x < y for x, y in zip(mine, theirs, strict=True))
    return Outcomes(ahead=ahead, behind=behind, p=mcnemar(ahead, behind))
