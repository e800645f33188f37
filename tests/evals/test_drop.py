"""A drop's interval, verdict and power, on numbers that can be checked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from evals.drop import CANNOT_TELL, PASS, REGRESSION, Drop, measure_drop

GENERATOR = np.random.default_rng(0)


def dropped(before: list[float] | np.ndarray, now: list[float] | np.ndarray, *, bounded: bool = False) -> Drop:
    return measure_drop(np.atleast_2d(before), np.atleast_2d(now), level=0.95, bounded=bounded)


def test_without_bounds_and_with_one_seed_it_is_the_paired_t_interval() -> None:
    before, now = GENERATOR.normal(1, 1, 40), GENERATOR.normal(0, 1, 40)
    expected = stats.ttest_rel(before, now).confidence_interval(0.95)
    found = dropped(before, now)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-3)
    assert found.value == pytest.approx(float(before.mean() - now.mean()))


def test_equal_values_have_fallen_by_exactly_zero_and_pass() -> None:
    """A second run of the same code is never a question."""
    found = dropped([0.0, 1.0, 1.0, 0.5], [0.0, 1.0, 1.0, 0.5], bounded=True)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)
    assert found.verdict(0.01) == PASS


def test_four_prompts_of_three_hundred_are_no_regression() -> None:
    """All four the same way: a coin does that once in sixteen times, and a plain t would be sure of it."""
    before, now = np.ones(300), np.ones(300)
    now[:4] = 0
    assert dropped(before, now, bounded=False).low > 0
    assert dropped(before, now, bounded=True).low < 0


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        ([1.0] * 40 + [0.0] * 60, [1.0] * 39 + [0.0] * 61, PASS),
        ([1.0] * 80 + [0.0] * 20, [1.0] * 40 + [0.0] * 60, REGRESSION),
        ([1.0, 0.0] * 10, [0.0, 1.0] * 10, CANNOT_TELL),
    ],
)
def test_a_verdict_follows_from_interval_and_margin(before: list[float], now: list[float], verdict: str) -> None:
    assert dropped(before, now, bounded=True).verdict(0.1) == verdict


def test_a_small_real_drop_within_the_margin_passes() -> None:
    """Its interval lies above zero and below the margin."""
    before = GENERATOR.normal(0, 1, 4_000)
    found = dropped(before, before - GENERATOR.normal(0.02, 0.1, 4_000))
    assert found.low > 0
    assert found.verdict(0.05) == PASS


def test_an_improvement_passes() -> None:
    assert dropped([0.0] * 50, [1.0] * 50, bounded=True).verdict(0.05) == PASS


def test_seeds_that_disagree_widen_the_interval() -> None:
    """Two checkpoints of a recipe a point apart on every prompt: more prompts cannot settle which is usual."""
    prompts = GENERATOR.normal(0, 1, 200)
    apart = np.stack([prompts, prompts + 1.0])
    noise = GENERATOR.normal(0, 0.1, (2, 200))
    together = measure_drop(apart + noise, apart + noise[::-1], level=0.95, bounded=False)
    one = measure_drop(apart[:1] + noise[:1], apart[:1] + noise[1:], level=0.95, bounded=False)
    assert together.high - together.low > 10 * (one.high - one.low)
    assert together.prompts_needed(0.05) is None


def test_the_prompts_that_are_asked_for_are_enough() -> None:
    """With so many, no drop passes about four times in five."""
    before, now = (GENERATOR.normal(0, 1, (400, 100)) for _ in range(2))
    few = [dropped(b, n) for b, n in zip(before, now, strict=True)]
    needed = [drop.prompts_needed(0.3) for drop in few]
    assert all(needed)
    typical = int(np.median([n for n in needed if n is not None]))
    assert typical == pytest.approx((2 * (1.984 + 0.842) ** 2) / 0.3**2, rel=0.1)
    wide = GENERATOR.normal(0, 1, (400, 2, typical))
    assert np.mean([dropped(b, n).verdict(0.3) == PASS for b, n in wide]) == pytest.approx(0.8, abs=0.07)


def test_the_power_of_a_wide_interval_is_that_of_the_t_test() -> None:
    before, now = GENERATOR.normal(0, 1, 60), GENERATOR.normal(0, 1, 60)
    found = dropped(before, now)
    error = float((before - now).std(ddof=1)) / math.sqrt(60)
    assert found.power(0.5) == pytest.approx(float(stats.nct.sf(stats.t.ppf(0.975, 59), 59, 0.5 / error)), abs=0.03)


def test_more_prompts_are_asked_for_than_there_are() -> None:
    """A drop that was seen has to be decided too."""
    before, now = np.ones(300), np.ones(300)
    now[:16], before[16:25] = 0, 0
    found = dropped(before, now, bounded=True)
    assert found.verdict(0.04) == CANNOT_TELL
    assert (found.prompts_needed(0.04) or 0) > 300


@pytest.mark.parametrize("margin", [0.01, 0.5, 0.97, 2.0])
def test_every_margin_has_a_power(margin: float) -> None:
    power = dropped(np.full(50, 0.95), np.full(50, 0.05), bounded=True).power(margin)
    assert 0 <= power <= 1


def test_power_is_the_same_for_the_same_values() -> None:
    found = dropped([0.0, 1.0] * 20, [1.0, 1.0] * 20, bounded=True)
    assert found.power(0.1) == found.power(0.1)


def test_one_prompt_says_nothing() -> None:
    with pytest.raises(ValueError, match="at least two"):
        dropped([1.0], [0.0])
