"""Several seeds of a recipe: they answer the same prompts, so seeds are crossed with prompts, and both vary.

How far the means of two seeds of a recipe lie apart is known from few seeds only, so it is pooled over the recipes of a
bench (as an analysis of variance pools it): recipes are taken to be equally fickle. Seven recipes with two seeds each
give it 7 degrees of freedom, where one recipe alone gives it 1 and no honest interval. What pooled intervals cover in
simulation is in docs/log.md: two seeds are few all the same.

Shapes: S seeds by P prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from evals.statistics import LEVEL, Difference, share_limits
from harness.records import Score

Values = npt.NDArray[np.float64]
LEAST_P = 1e-300
LEAST_PART = 0.5  # of the prompts' variance: kept where seeds lie closer together than chance would have them


class SeedNoise(NamedTuple):
    """How far means of single seeds lie apart, pooled over recipes."""

    means: float  # variance of a seed's mean about its recipe's
    residual: float  # the part of it that a seed's prompts explain: its variance were all seeds alike
    freedom: int  # degrees of freedom of `means`
    of_residual: int  # and of `residual`


class _Error(NamedTuple):
    variance: float
    critical: float  # quantile of t that the interval's half width is counted in
    freedom: float


def pooled_noise(recipes: Sequence[Values]) -> SeedNoise:
    """From the (S, P) values of every recipe that has two seeds or more; ValueError where none has."""
    several = [values_SP for values_SP in recipes if len(values_SP) > 1 and values_SP.shape[1] > 1]
    if not several:
        raise ValueError("how far seeds lie apart is not known from one seed")
    freedom = [len(values_SP) - 1 for values_SP in several]
    means = [float(values_SP.mean(axis=1).var(ddof=1)) for values_SP in several]
    residual = [residual_variance(values_SP) / values_SP.shape[1] for values_SP in several]
    prompts = min(values_SP.shape[1] for values_SP in several)
    return SeedNoise(
        float(np.average(means, weights=freedom)),
        float(np.average(residual, weights=freedom)),
        sum(freedom),
        sum(freedom) * (prompts - 1),
    )


def crossed_interval(values_SP: Values, noise: SeedNoise, *, unit: str) -> Score:
    """Mean over seeds and prompts, with an interval for other seeds and other prompts; `n` counts prompts."""
    mean, prompts = float(values_SP.mean()), values_SP.shape[1]
    error = _error(values_SP.mean(axis=0), noise, 1 / len(values_SP))
    if unit == "share":
        low, high = share_limits(mean, error.variance, prompts, error.critical)
    else:
        half = error.critical * math.sqrt(error.variance)
        low, high = mean - half, mean + half
    return Score(value=mean, low=low, high=high, n=prompts, unit=unit)


def crossed_difference(a_SP: Values, b_SP: Values | float, noise: SeedNoise) -> Difference:
    """Mean of a − b over prompts, each side's seeds averaged: t interval and p for other seeds and other prompts.

    `b_SP` may be one fixed value, such as the half that the anchor wins against itself.
    """
    differences_P = a_SP.mean(axis=0) - (b_SP if isinstance(b_SP, float) else b_SP.mean(axis=0))
    mean, prompts = float(differences_P.mean()), len(differences_P)
    sides = [a_SP] if isinstance(b_SP, float) else [a_SP, b_SP]
    error = _error(differences_P, noise, sum(1 / len(side_SP) for side_SP in sides))
    spread = math.sqrt(error.variance)
    if spread == 0:
        return Difference(mean, mean, mean, 1.0 if mean == 0 else LEAST_P, prompts, 0.0, error.freedom)
    half = error.critical * spread
    p = max(LEAST_P, 2 * float(stats.t.sf(abs(mean) / spread, error.freedom)))
    return Difference(mean, mean - half, mean + half, p, prompts, spread * math.sqrt(prompts), error.freedom)


def _error(means_P: Values, noise: SeedNoise, share: float) -> _Error:
    """Variance of a mean over prompts of means over seeds; `share` is Σ 1/S over the sides that have several seeds.

    The prompts' part has P − 1 degrees of freedom, the seeds' those of the pooled noise (Satterthwaite 1946). They
    count the noise as seen, before the prompts' part of it is taken off: counting what is left covers too little.
    The noise may come out below zero, and is not cut there: cut, it is too large on average, and equal seeds cover 98%.
    """
    prompts = len(means_P)
    within = float(means_P.var(ddof=1)) / prompts
    between = share * (noise.means - noise.residual)
    variance = max(LEAST_PART * within, within + between)
    spread = within**2 / (prompts - 1)
    if share:
        spread += (share * noise.means) ** 2 / noise.freedom + (share * noise.residual) ** 2 / noise.of_residual
    least = min(noise.freedom, prompts - 1) if share else prompts - 1  # of any sum of the two
    freedom = max(least, variance**2 / spread) if spread > 0 else float(prompts - 1)
    return _Error(variance, float(stats.t.ppf((1 + LEVEL) / 2, freedom)), freedom)


def residual_variance(values_SP: Values) -> float:
    """Of what neither the seed nor the prompt explains."""
    freedom: int = (len(values_SP) - 1) * (values_SP.shape[1] - 1)
    rest = values_SP - values_SP.mean(axis=0) - values_SP.mean(axis=1, keepdims=True) + values_SP.mean()
    return float(np.square(rest).sum()) / freedom
