"""Intervals, paired comparisons, and how much data they need; the cluster of every interval is the prompt.

Nothing here knows what a metric means: values come in by prompt, 95% intervals and p-values go out.
"""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from harness.records import Comparison, Score

LEVEL = 0.95
RESAMPLES = 9_999  # with the observed one, 10,000: no p below 1e-4
RESAMPLES_PER_PAIR = 40  # of a Holm correction: its strictest p can then fall to half of what it has to be below
_CHUNK = 1_024  # resamples held in memory at once

Values = npt.NDArray[np.float64]


class Difference(NamedTuple):
    """Two trials on the prompts that both have a value for: a − b."""

    difference: float
    low: float
    high: float
    p: float  # two-sided; never 0
    n: int  # prompts
    sd: float  # standard error · √n: of the prompts' differences, and of the seeds where there are several
    freedom: float  # degrees of freedom that it is known with
    step: float = 0.0  # half of the gap between two means that the test can tell: p counts all of the observed one


def mean_interval(values: Sequence[float], *, unit: str, clusters: Sequence[str] | None = None) -> Score:
    """Mean with its clustered t interval, C − 1 degrees of freedom; `n` counts clusters (one a value).

    SE = √(C/(C−1) · Σ_c (Σ_{i∈c}(s_i − mean))²) / n (Liang & Zeger 1986, for a mean). One cluster says
    nothing of how far another would differ, so fewer than two raise ValueError.
    """
    values_N = _finite(values)
    sums_C = _cluster_sums(values_N - values_N.mean(), clusters)
    count = len(sums_C)
    if count < 2:
        raise ValueError("an interval of a mean needs at least two prompts, got 1")
    error = math.sqrt(count / (count - 1) * float(sums_C @ sums_C)) / len(values_N)
    half = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * error
    mean = float(values_N.mean())
    return Score(value=mean, low=mean - half, high=mean + half, n=count, unit=unit)


def standard_error(score: Score) -> float:
    """Of a mean, from its t interval by `mean_interval`."""
    return (score.high - score.low) / 2 / float(stats.t.ppf((1 + LEVEL) / 2, score.n - 1))


def proportion_interval(successes: float, n: int) -> Score:
    """Share of successes in n independent prompts, with Wilson's interval (1927); half successes may be.

    The closed form rather than `scipy.stats.binomtest`, which refuses half successes. Equal to it elsewhere.
    """
    if n < 1:
        raise ValueError(f"a share of nothing has no value: n is {n}")
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials cannot be")
    share = successes / n
    low, high = wilson_limits(share, n, float(stats.norm.ppf((1 + LEVEL) / 2)))
    return Score(value=share, low=low, high=high, n=n, unit="share")


def wilson_limits(share: float, n: float, critical: float) -> tuple[float, float]:
    """Wilson's limits of a share of n prompts; `critical` is the quantile that its half width is counted in."""
    square = critical * critical
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = critical / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return min(max(0.0, centre - half), share), max(min(1.0, centre + half), share)


def share_limits(share: float, variance: float, n: int, critical: float) -> tuple[float, float]:
    """Wilson's limits of a mean of values in [0, 1] with this variance of the mean, from n prompts.

    n is replaced by the number of plain outcomes that would have the same variance, share·(1 − share)/variance, as for
    shares in complex surveys (Kott and Carr 1997). Near 0 and 1 the symmetric t interval covers far too little.
    """
    plain = share * (1 - share)
    return wilson_limits(share, plain / variance if plain > 0 and variance > 0 else n, critical)


def share_interval(values: Sequence[float], *, clusters: Sequence[str] | None = None) -> Score:
    """Mean of values in [0, 1]: Wilson for plain outcomes, else `share_limits` of the clustered variance.

    Plain means 0 or 1 and one a prompt. Where all prompts agree the variance is zero, less than n prompts can show, so
    Wilson's over the prompts is given.
    """
    values_N = _finite(values)
    if values_N.min() < 0 or values_N.max() > 1:
        raise ValueError(f"a share lies in [0, 1], got {values_N.min()} to {values_N.max()}")
    sums_C = _cluster_sums(values_N - values_N.mean(), clusters)
    share, count = float(values_N.mean()), len(sums_C)
    plain = count == len(values_N) and bool(np.isin(values_N, (0.0, 1.0)).all())
    if plain or count < 2 or np.abs(sums_C).max() < 1e-12:
        return proportion_interval(share * count, count)
    variance = count / (count - 1) * float(sums_C @ sums_C) / len(values_N) ** 2
    low, high = share_limits(share, variance, count, float(stats.t.ppf((1 + LEVEL) / 2, count - 1)))
    return Score(value=share, low=low, high=high, n=count, unit="share")


def paired_difference(
    a: Mapping[str, float],
    b: Mapping[str, float],
    *,
    bounded: bool = False,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Difference:
    """Mean of a − b over the prompts that both have, its interval, and a sign-flip p.

    The interval is the BCa bootstrap's (Efron 1987); of `bounded` values, which lie in [0, 1], Student's t: where few
    prompts differ BCa covers 89 to 92% (docs/log.md). Differences that are all equal give an interval of no width; all
    zero give p = 1.
    """
    shared = sorted(a.keys() & b.keys())
    if len(shared) < 2:
        raise ValueError(f"a paired difference needs at least two shared prompts, got {len(shared)}")
    differences_N = _finite([a[prompt] for prompt in shared]) - _finite([b[prompt] for prompt in shared])
    mean, sd = float(differences_N.mean()), float(differences_N.std(ddof=1))
    if np.ptp(differences_N) <= 1e-12 * max(1.0, abs(mean)):
        low = high = mean = float(differences_N[0])
    elif bounded:
        half = float(stats.t.ppf((1 + LEVEL) / 2, len(shared) - 1)) * sd / math.sqrt(len(shared))
        low, high = max(-1.0, mean - half), min(1.0, mean + half)
    else:
        low, high = _bca(differences_N, seed)
    return Difference(
        mean,
        low,
        high,
        _sign_flip_p(differences_N, seed, resamples),
        len(shared),
        sd,
        len(shared) - 1,
        _step(differences_N),
    )


def compare_all(
    per_prompt: Mapping[str, Mapping[str, float]], *, metric: str, bounded: bool = False, seed: int = 0
) -> tuple[Comparison, ...]:
    """Every pair of trials, paired by prompt, with Holm over all of them; trial → prompt_id → value.

    A pair that shares fewer than two prompts cannot be compared and is left out, of Holm's count too.
    """
    pairs = [
        (a, b)
        for a, b in itertools.combinations(per_prompt, 2)
        if len(per_prompt[a].keys() & per_prompt[b].keys()) >= 2
    ]
    resamples = max(RESAMPLES, RESAMPLES_PER_PAIR * len(pairs))
    found = [
        paired_difference(per_prompt[a], per_prompt[b], bounded=bounded, seed=seed, resamples=resamples)
        for a, b in pairs
    ]
    return tabulate(pairs, found, metric=metric)


def tabulate(
    pairs: Sequence[tuple[str, str]], found: Sequence[Difference], *, metric: str, seeds: int = 1
) -> tuple[Comparison, ...]:
    """Differences of one metric as comparisons, with Holm's correction over all of them."""
    adjusted = holm([difference.p for difference in found])
    return tuple(
        Comparison(
            a=a,
            b=b,
            metric=metric,
            difference=d.difference,
            low=d.low,
            high=d.high,
            p=d.p,
            p_holm=p_holm,
            n=d.n,
            detectable=d.step + smallest_difference(d.sd, d.n, (1 - LEVEL) / len(pairs), freedom=d.freedom),
            seeds=seeds,
        )
        for (a, b), d, p_holm in zip(pairs, found, adjusted, strict=True)
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm (1979), in the order given: adj_(i) = max_{j≤i} min(1, (m−j+1)·p_(j))."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def mcnemar(b: int, c: int) -> float:
    """Exact two-sided p that wins b and losses c are equally likely (McNemar 1947); 1 without either."""
    return 1.0 if b + c == 0 else float(stats.binomtest(b, b + c).pvalue)


def sample_size(sd: float, delta: float, alpha: float = 0.05, *, power: float = 0.8) -> int:
    """Prompts that show a difference of `delta` at level alpha: ((z_{α/2} + z_{power})·sd/δ)², rounded up."""
    if delta == 0:
        raise ValueError("no number of prompts can show a difference of zero")
    return max(2, math.ceil((_z_sum(alpha, power) * sd / delta) ** 2))


def smallest_difference(
    sd: float, n: int, alpha: float = 0.05, *, power: float = 0.8, freedom: float = math.inf
) -> float:
    """The difference that n prompts show with this power at level alpha, in the unit of sd.

    Where sd is known with few degrees of freedom, as with few seeds, the power is that of noncentral t.
    """
    if n < 1:
        raise ValueError(f"no difference can be shown on {n} prompts")
    return _errors_apart(alpha, power, freedom) * sd / math.sqrt(n)


@functools.cache
def _errors_apart(alpha: float, power: float, freedom: float) -> float:
    """How many standard errors a difference measures that a t test at level alpha shows with this power."""
    if math.isinf(freedom):
        return _z_sum(alpha, power)
    critical = float(stats.t.ppf(1 - alpha / 2, freedom))

    def too_much(apart: float) -> float:
        return float(stats.nct.sf(critical, freedom, apart)) - power

    return float(optimize.brentq(too_much, 0.0, 4 * critical + 10, xtol=1e-6))


def _z_sum(alpha: float, power: float) -> float:
    return float(stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power))


def _step(differences_N: Values) -> float:
    """Of means under sign flips, where all differences are whole multiples of the smallest, as of outcomes; else 0."""
    sizes_N = np.abs(differences_N[np.abs(differences_N) > 1e-9])
    if not len(sizes_N):
        return 0.0
    multiples_N = sizes_N / sizes_N.min()
    return float(sizes_N.min()) / len(differences_N) if np.allclose(multiples_N, multiples_N.round()) else 0.0


def _finite(values: Sequence[float]) -> Values:
    values_N = np.asarray(values, dtype=np.float64)
    if not len(values_N):
        raise ValueError("the mean of nothing has no value")
    if not np.isfinite(values_N).all():
        raise ValueError("a value is not a finite number")
    return values_N


def _cluster_sums(deviations_N: Values, clusters: Sequence[str] | None) -> Values:
    if clusters is None:
        return deviations_N
    if len(clusters) != len(deviations_N):
        raise ValueError(f"{len(deviations_N)} values have {len(clusters)} clusters")
    _, index_N = np.unique(np.asarray(clusters, dtype=object), return_inverse=True)
    return np.bincount(index_N, weights=deviations_N).astype(np.float64)


def _bca(differences_N: Values, seed: int) -> tuple[float, float]:
    """BCa limits of the mean; percentile limits where the jackknife is degenerate and BCa has no value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        result = stats.bootstrap(
            (differences_N,),
            np.mean,
            n_resamples=RESAMPLES,
            batch=_CHUNK,
            confidence_level=LEVEL,
            method="BCa",
            rng=np.random.default_rng(seed),
        )
    low, high = result.confidence_interval
    if not (math.isfinite(low) and math.isfinite(high)):
        low, high = np.quantile(result.bootstrap_distribution, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _sign_flip_p(differences_N: Values, seed: int, resamples: int) -> float:
    """Two-sided p of the mean under random signs: (1 + extreme) / (1 + resamples) (Phipson & Smyth 2010)."""
    generator = np.random.default_rng(seed)
    observed = abs(float(differences_N.sum()))
    threshold = observed - 1e-9 * float(np.abs(differences_N).sum())  # sums equal but for rounding count as equal
    extreme = 0
    for start in range(0, resamples, _CHUNK):
        rows = min(_CHUNK, resamples - start)
        bits_RN = generator.integers(0, 2, (rows, len(differences_N)), dtype=np.int8)
        sums_R = 2 * (bits_RN @ differences_N) - differences_N.sum()
        extreme += int((np.abs(sums_R) >= threshold).sum())
    return (1 + extreme) / (1 + resamples)
