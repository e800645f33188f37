"""How far a metric fell between two runs on the same prompts: interval, verdict, power, and the prompts it would take.

S seeds by P prompts on either side; seeds are crossed with prompts, since every seed answers the same ones. R draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from evals.seeds import residual_variance

Values = npt.NDArray[np.float64]
PASS, REGRESSION, CANNOT_TELL = "pass", "regression", "cannot tell"
SETTLED = 0.8  # the chance to settle it that a number of prompts is asked for
DRAWS = 4_000  # of a power: its standard error is under one point
TILTED = 0.9  # a drop of a share from which on hardly any weights on its values have that mean
DISTINCT = 400  # values that a draw counts one by one; more are rounded to so many steps


class _Between(NamedTuple):
    """What other seeds would add: a variance and its degrees of freedom."""

    variance: float
    freedom: float


class _Interval(NamedTuple):
    """Of one drop, or of many that were drawn."""

    low: Values
    high: Values
    error: Values
    critical: Values


@dataclass(frozen=True, kw_only=True)
class Drop:
    """A fall of the mean, before − now, its two-sided t interval, and what it was computed from."""

    value: float
    low: float
    high: float
    error: float  # standard error, prompts and seeds together
    critical: float  # the quantile of t that the interval's half width is counted in
    level: float
    bounded: bool
    differences_P: Values  # before − now of every prompt, means over the seeds
    between: _Between

    def verdict(self, margin: float) -> str:
        """Regression where the interval lies above zero and reaches the margin; pass where it lies below the margin."""
        if self.high < margin or (self.low == self.high == 0):
            return PASS
        return REGRESSION if self.low > 0 else CANNOT_TELL

    def power(self, margin: float, *, seed: int = 0) -> float:
        """The chance that a run like this one calls a true drop of just the margin a regression.

        By drawing such runs: prompts from the observed differences, tilted (of shares) or shifted to the drop, since
        where few prompts differ no formula of the normal's kin is near; and, with several seeds, seeds of their own.
        """
        generator = np.random.default_rng(seed)
        sums_R, squares_R = _draw(self.differences_P, margin, self.bounded, generator)
        seen_R, shift_R = _draw_seeds(self.between, generator)
        n = len(self.differences_P)
        drawn = _interval(
            sums_R + n * shift_R,
            squares_R + 2 * shift_R * sums_R + n * shift_R**2,
            n,
            seen_R,
            self.between.freedom,
            self.level,
            self.bounded,
        )
        return float(((drawn.low > 0) & (drawn.high >= margin)).mean())

    def prompts_needed(self, margin: float) -> int | None:
        """Prompts that would settle it: no drop would pass with 80% chance, and the drop that was seen be decided.

        None where the seeds alone are too far apart for any number of prompts.
        """
        reach = margin / (self.critical + float(stats.norm.ppf(SETTLED)))
        seen = max(self.value, margin - self.value) / self.critical  # the error at which it passes or is a regression
        room = min(reach, seen) ** 2 - self.between.variance
        if margin <= 0 or room <= 0:
            return None
        return math.ceil(len(self.differences_P) * (self.error**2 - self.between.variance) / room)


def measure_drop(before_SP: Values, now_SP: Values, *, level: float, bounded: bool) -> Drop:
    """The fall of the mean over prompts; `level` is the interval's, two-sided. Needs two prompts.

    The prompts' error is that of the paired difference of seed means. Values of shares lie in [0, 1] (`bounded`), and
    where few prompts differ their plain variance is too small: half a pair is added each way, as Agresti and Min
    (2005) do for matched pairs. Values that are equal on every prompt have fallen by exactly zero. Of unbounded values
    with rare and huge outliers no such interval can know what its prompts did not show.
    """
    differences_P = before_SP.mean(axis=0) - now_SP.mean(axis=0)
    n = len(differences_P)
    if n < 2:
        raise ValueError(f"a drop needs at least two shared prompts, got {n}")
    between = _between_seeds(before_SP, now_SP)
    sums, squares = np.asarray(differences_P.sum()), np.asarray(differences_P @ differences_P)
    found = _interval(sums, squares, n, np.asarray(between.variance), between.freedom, level, bounded)
    same = not differences_P.any()
    return Drop(
        value=float(sums) / n,
        low=0.0 if same else float(found.low),
        high=0.0 if same else float(found.high),
        error=0.0 if same else float(found.error),
        critical=float(found.critical),
        level=level,
        bounded=bounded,
        differences_P=differences_P,
        between=between,
    )


def _interval(
    sums: Values, squares: Values, n: int, between: Values, freedom: float, level: float, bounded: bool
) -> _Interval:
    """From sums over the prompts and the variance between seeds; elementwise over draws.

    Degrees of freedom by Satterthwaite (1946), of the prompts' n − 1 and the seeds'.
    """
    pairs = n + 1 if bounded else n
    mean = sums / pairs
    within = np.maximum(0.0, (squares + (1.0 if bounded else 0.0)) / pairs - mean**2) / (pairs - 1)
    variance = within + between
    spread = within**2 / (n - 1) + between**2 / freedom
    both = np.divide(variance**2, spread, out=np.full_like(spread, n - 1.0), where=spread > 0)
    critical, error = np.asarray(stats.t.ppf((1 + level) / 2, both)), np.sqrt(variance)
    return _Interval(mean - critical * error, mean + critical * error, error, critical)


def _draw(differences_P: Values, margin: float, bounded: bool, generator: np.random.Generator) -> tuple[Values, Values]:
    """Sums and sums of squares of the differences of drawn runs whose true drop is the margin."""
    n = len(differences_P)
    if bounded and margin < TILTED:
        values, weights = np.append(differences_P, (1.0, -1.0)), np.append(np.ones(n), (0.5, 0.5))
        weights = weights * np.exp(_tilt(values, weights, margin) * values)
    else:
        values, weights = differences_P - differences_P.mean() + margin, np.ones(n)
    if len(values) > DISTINCT:
        step = max(float(np.ptp(values)) / DISTINCT, 1e-12)
        values = np.round(values / step) * step
    distinct, place = np.unique(values, return_inverse=True)
    shares = np.bincount(place, weights=weights)
    counts_RK = generator.multinomial(n, shares / shares.sum(), size=DRAWS)
    return counts_RK @ distinct, counts_RK @ distinct**2


def _tilt(values: Values, weights: Values, mean: float) -> float:
    """λ with which values weighted by weights · e^{λ·value} have this mean; −1 and 1 are among the values."""

    def excess(tilt: float) -> float:
        tilted = weights * np.exp(tilt * values)
        return float(tilted @ values / tilted.sum()) - mean

    root: float = optimize.brentq(excess, -50, 50)
    return root


def _draw_seeds(between: _Between, generator: np.random.Generator) -> tuple[Values, Values]:
    """The variance between seeds as drawn runs would see it, and how far their seeds lie from the mean.

    The true variance is not known either: it is drawn from what the few seeds leave possible (scaled inverse χ²).
    """
    if not between.variance:
        return np.zeros(DRAWS), np.zeros(DRAWS)
    true_R = between.variance * between.freedom / generator.chisquare(between.freedom, DRAWS)
    seen_R = true_R * generator.chisquare(between.freedom, DRAWS) / between.freedom
    return seen_R, generator.normal(0.0, np.sqrt(true_R))


def _between_seeds(before_SP: Values, now_SP: Values) -> _Between:
    """Of the difference of seed means, with Welch's (1947) degrees of freedom; nothing where a side has one seed.

    The variance of seed means counts the noise of seed and prompt together, which the prompts' error counts too: that
    part, from the residuals of the two-way layout, is taken off.
    """
    sides = (before_SP, now_SP)
    if min(len(side) for side in sides) < 2:
        return _Between(0.0, 1.0)
    parts = [float(side.mean(axis=1).var(ddof=1)) / len(side) for side in sides]
    if not sum(parts):
        return _Between(0.0, 1.0)
    doubled = sum(residual_variance(side) / side.size for side in sides)
    freedom = sum(parts) ** 2 / sum(part**2 / (len(side) - 1) for part, side in zip(parts, sides, strict=True))
    return _Between(max(0.0, sum(parts) - doubled), freedom)
