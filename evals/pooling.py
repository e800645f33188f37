"""A recipe's seeds as one: scores that cover prompts and seeds, and comparisons of recipes instead of checkpoints."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from evals.seeds import SeedNoise, Values, crossed_difference, crossed_interval, pooled_noise
from evals.statistics import Difference, tabulate
from harness.records import Comparison, Score, TrialScores

ANCHOR = "anchor"
HALF_WIDTH = 1.96  # of a 95% interval, in standard errors

Seeds = Mapping[str, Sequence[TrialScores]]  # recipe → its seeds that finished


def by_recipe(trials: Sequence[TrialScores]) -> dict[str, list[TrialScores]]:
    """Recipe → its trials, in the order given."""
    found: dict[str, list[TrialScores]] = {}
    for trial in trials:
        found.setdefault(trial.recipe, []).append(trial)
    return found


def pool_recipes(seeds: Seeds) -> tuple[TrialScores, ...]:
    """One record a recipe, in the name of its first seed: means over seeds, intervals for other seeds and prompts.

    What is known by prompt has its seeds crossed with prompts. Of the rest (a ratio, a share of openings) the variance
    is the prompts', taken to be common to all seeds, and that between the seeds.
    """
    metrics = dict.fromkeys(metric for trials in seeds.values() for trial in trials for metric in trial.per_prompt)
    noise = {metric: found for metric in metrics if (found := _noise(seeds, metric)) is not None}
    return tuple(_pool(trials, noise) for trials in seeds.values())


def compare_pooled(
    seeds: Seeds, metric: str, *, against_anchor: float | None = None, bounded: bool = True
) -> tuple[Comparison, ...]:
    """Every two recipes on one metric, with Holm over all; `against_anchor` is what the anchor has on every prompt."""
    grids = {recipe: grid(trials, metric) for recipe, trials in seeds.items()}
    noise = _noise(seeds, metric)
    found: dict[tuple[str, str], Difference] = {}
    for a, b in itertools.combinations((recipe for recipe in grids if grids[recipe]), 2):
        shared = sorted(grids[a].keys() & grids[b].keys())
        if len(shared) >= 2 and noise is not None:
            found[a, b] = crossed_difference(_matrix(grids[a], shared), _matrix(grids[b], shared), noise)
    if against_anchor is not None and noise is not None:
        for recipe, values in grids.items():
            if len(values) >= 2:
                matrix_SP = _matrix(values, sorted(values))
                found[recipe, ANCHOR] = crossed_difference(matrix_SP, against_anchor, noise)
    if bounded:
        found = {pair: d._replace(low=max(-1.0, d.low), high=min(1.0, d.high)) for pair, d in found.items()}
    least = min((len(trials) for trials in seeds.values()), default=1)
    return tabulate(list(found), list(found.values()), metric=metric, seeds=least)


def grid(trials: Sequence[TrialScores], metric: str) -> dict[str, tuple[float, ...]]:
    """prompt_id → one value a seed, for the prompts that every seed has a value for."""
    columns = [trial.per_prompt.get(metric, {}) for trial in trials]
    shared = set.intersection(*(set(column) for column in columns)) if columns else set()
    return {prompt: tuple(column[prompt] for column in columns) for prompt in sorted(shared)}


def _matrix(values: Mapping[str, tuple[float, ...]], prompts: Sequence[str]) -> Values:
    return np.array([values[prompt] for prompt in prompts], dtype=np.float64).T


def _noise(seeds: Seeds, metric: str) -> SeedNoise | None:
    """None where no recipe has two seeds with the metric on two prompts."""
    grids = [found for trials in seeds.values() if len(trials) > 1 and len(found := grid(trials, metric)) > 1]
    return pooled_noise([_matrix(found, sorted(found)) for found in grids]) if grids else None


def _pool(trials: Sequence[TrialScores], noise: Mapping[str, SeedNoise]) -> TrialScores:
    first = trials[0]
    grids = {metric: grid(trials, metric) for metric in first.per_prompt}
    scores = {}
    for metric in first.scores:
        found = [trial.scores[metric] for trial in trials if metric in trial.scores]
        values = grids.get(metric, {})
        if metric in noise and len(values) > 1 and _is_mean(first, metric):
            scores[metric] = crossed_interval(_matrix(values, sorted(values)), noise[metric], unit=found[0].unit)
        elif len(found) == len(trials):
            scores[metric] = _pooled_score(found)
    return TrialScores(
        recipe=first.recipe,
        seed=first.seed,
        scores=scores,
        per_prompt={
            metric: {prompt: sum(values) / len(values) for prompt, values in found.items()}
            for metric, found in grids.items()
        },
        commonest_opening=first.commonest_opening,
        anchor_opening_share=first.anchor_opening_share,
    )


def _is_mean(trial: TrialScores, metric: str) -> bool:
    """Whether the score is the mean of what is kept by prompt: with several pairs to a prompt it need not be."""
    values = trial.per_prompt[metric].values()
    return math.isclose(trial.scores[metric].value, sum(values) / len(values), rel_tol=1e-6, abs_tol=1e-9)


def _pooled_score(found: Sequence[Score]) -> Score:
    value = sum(score.value for score in found) / len(found)
    within = sum(((score.high - score.low) / 2 / HALF_WIDTH) ** 2 for score in found) / len(found)
    between = sum((score.value - value) ** 2 for score in found) / max(1, len(found) - 1) / len(found)
    half = HALF_WIDTH * math.sqrt(within + between)
    low, high = value - half, value + half
    if found[0].unit == "share" and all(0 <= score.low <= score.high <= 1 for score in found):
        low, high = max(0.0, low), min(1.0, high)
    return Score(value=value, low=low, high=high, n=min(score.n for score in found), unit=found[0].unit)
