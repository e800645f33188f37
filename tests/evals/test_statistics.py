"""Intervals cover, p-values are honest, and every formula agrees with its source."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from evals.statistics import (
    compare_all,
    holm,
    mcnemar,
    mean_interval,
    paired_difference,
    proportion_interval,
    sample_size,
    share_interval,
    smallest_difference,
)


def by_prompt(values: list[float]) -> dict[str, float]:
    return {f"p{number}": value for number, value in enumerate(values)}


def test_mean_of_independent_values_has_the_t_interval() -> None:
    """With one value a prompt it is the textbook's interval, from SciPy."""
    values = [1.0, 4.0, 2.0, 8.0, 5.0]
    score = mean_interval(values, unit="nats")
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (score.value, score.low, score.high) == pytest.approx((4.0, expected.low, expected.high))


def test_clustered_error_by_hand() -> None:
    """Two prompts of two values: sums of deviations −2 and 2, SE = √(2·8)/4 = 1, one degree of freedom."""
    score = mean_interval([1.0, 1.0, 2.0, 4.0], clusters=["a", "a", "b", "b"], unit="nats")
    assert (score.high - score.value, score.n) == (pytest.approx(stats.t.ppf(0.975, 1)), 2)


def test_repeated_values_add_nothing_to_a_cluster() -> None:
    """Asking every prompt three times with the same outcome leaves the interval as it was."""
    values, prompts = [0.2, 0.4, 0.9, 0.5], ["a", "b", "c", "d"]
    once = mean_interval(values, clusters=prompts, unit="nats")
    thrice = mean_interval(values * 3, clusters=prompts * 3, unit="nats")
    assert (thrice.value, thrice.low, thrice.high) == pytest.approx((once.value, once.low, once.high))


@pytest.mark.parametrize("values", [[], [math.nan, 1.0], [math.inf, 1.0]])
def test_the_mean_of_nothing_or_of_no_number_raises(values: list[float]) -> None:
    """Missing is not zero."""
    with pytest.raises(ValueError, match=r"has no value|not a finite number"):
        mean_interval(values, unit="nats")


def test_one_prompt_has_no_interval() -> None:
    """One cluster says nothing of how far another would differ."""
    with pytest.raises(ValueError, match="at least two prompts"):
        mean_interval([1.0, 2.0], clusters=["a", "a"], unit="nats")


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (98, 100), (50, 100), (1, 1)])
def test_proportion_is_wilsons(successes: int, n: int) -> None:
    """Equal to SciPy's, at the borders too."""
    expected = stats.binomtest(successes, n).proportion_ci(0.95, "wilson")
    score = proportion_interval(successes, n)
    assert (score.low, score.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_proportions_raise(successes: int, n: int) -> None:
    """A share of nothing, or of more than all, is an error."""
    with pytest.raises(ValueError, match=r"cannot be|no value"):
        proportion_interval(successes, n)


def test_plain_outcomes_are_a_proportion() -> None:
    """0 and 1, one a prompt, get Wilson's interval."""
    assert share_interval([1.0, 0.0, 1.0, 1.0]) == proportion_interval(3, 4)


def test_ties_get_the_clustered_interval_within_bounds() -> None:
    """Values of ½ have Wilson's limits of as many plain outcomes as have their variance: never beyond 1, nor at it."""
    score = share_interval([1.0, 1.0, 0.5, 1.0, 1.0, 1.0])
    symmetric = mean_interval([1, 1, 0.5, 1, 1, 1], unit="x")
    assert score.low < symmetric.low < score.value < score.high < 1 < symmetric.high


@pytest.mark.parametrize(("p", "n"), [(0.8, 50), (0.95, 100), (0.98, 200)])
def test_shares_with_ties_cover_the_truth(p: float, n: int) -> None:
    """A t interval covers 80 to 94% of them."""
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(2_000):
        values = np.where(generator.random(n) < 0.1, 0.5, generator.random(n) < p)
        score = share_interval(values.tolist())
        covered += score.low <= 0.05 + 0.9 * p <= score.high
    assert 0.93 <= covered / 2_000 <= 0.975


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_agreement_of_all_prompts_still_has_a_width(value: float) -> None:
    """Forty equal values do not show that the next one is the same."""
    score = share_interval([value] * 40, clusters=[f"p{n // 2}" for n in range(40)])
    assert score == proportion_interval(20 * value, 20)
    assert score.high - score.low > 0.1


def test_shares_outside_their_range_raise() -> None:
    """A share of 1.2 is a bug upstream."""
    with pytest.raises(ValueError, match="a share lies in"):
        share_interval([0.5, 1.2])


@pytest.mark.parametrize(("p", "n"), [(0.5, 50), (0.9, 100), (0.98, 100), (0.98, 1_000)])
def test_share_intervals_cover_the_truth(p: float, n: int) -> None:
    """Of 2,000 simulated benches, 95% intervals hold the truth in 93 to 97.5%."""
    generator = np.random.default_rng(0)
    scores = [share_interval(generator.binomial(1, p, n).tolist()) for _ in range(2_000)]
    assert 0.93 <= np.mean([score.low <= p <= score.high for score in scores]) <= 0.975


def test_clustered_intervals_cover_the_truth() -> None:
    """Five correlated values a prompt: treating them as 5n would cover about 60%."""
    generator = np.random.default_rng(0)
    prompts = [f"p{number}" for number in range(50) for _ in range(5)]
    covered = 0
    for _ in range(1_000):
        values = np.repeat(generator.normal(size=50), 5) + 0.3 * generator.normal(size=250)
        score = mean_interval(values.tolist(), clusters=prompts, unit="nats")
        covered += score.low <= 0 <= score.high
    assert 0.93 <= covered / 1_000 <= 0.975


def test_paired_difference_of_known_values() -> None:
    """The mean of a − b over the prompts of both; BCa and permutation agree that it is not zero."""
    a, b = by_prompt([1.0, 2.0, 3.0, 4.0] * 10), by_prompt([0.5, 1.0, 2.5, 3.0] * 10)
    found = paired_difference(a, b)
    assert (found.difference, found.n) == (0.75, 40)
    assert 0.65 < found.low < 0.75 < found.high < 0.85
    assert found.p == 1e-4


def test_paired_interval_is_scipys_bca() -> None:
    """Limits agree with a direct call of `scipy.stats.bootstrap` on the differences."""
    generator = np.random.default_rng(3)
    differences = generator.exponential(size=60)
    found = paired_difference(by_prompt(differences.tolist()), by_prompt([0.0] * 60))
    ordered = np.array([differences[int(p[1:])] for p in sorted(by_prompt([0.0] * 60))])
    direct = stats.bootstrap((ordered,), np.mean, n_resamples=9_999, method="BCa", rng=np.random.default_rng(7))
    expected = direct.confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.03)


@pytest.mark.parametrize(("shift", "p"), [(0.0, 1.0), (0.1, 1e-4)])
def test_equal_differences_have_an_interval_without_width(shift: float, p: float) -> None:
    """All prompts differ by the same amount but for rounding: no width, and p = 1 where it is zero."""
    b = by_prompt([0.1 * number for number in range(40)])
    found = paired_difference({prompt: value + shift for prompt, value in b.items()}, b)
    assert found.low == found.high == found.difference == pytest.approx(shift)
    assert found.p == p


def test_one_prompt_that_differs_still_has_limits() -> None:
    """A nearly degenerate bootstrap gives numbers, not NaN."""
    found = paired_difference(by_prompt([1.0] + [0.0] * 99), by_prompt([0.0] * 100))
    assert 0 <= found.low <= found.difference <= found.high < 0.1
    assert found.p == 1.0


def test_swapping_the_trials_swaps_the_signs() -> None:
    """b against a is minus a against b, with about the same p."""
    generator = np.random.default_rng(1)
    a, b = (by_prompt(generator.normal(size=50).tolist()) for _ in range(2))
    one, other = paired_difference(a, b), paired_difference(b, a)
    assert (one.difference, one.low, one.p) == pytest.approx((-other.difference, -other.high, other.p), abs=0.01)


def test_the_order_of_prompts_does_not_matter() -> None:
    """Same records, same numbers, however the mapping was filled."""
    generator = np.random.default_rng(1)
    a, b = (by_prompt(generator.normal(size=50).tolist()) for _ in range(2))
    assert paired_difference(dict(reversed(a.items())), b) == paired_difference(a, b)


def test_only_shared_prompts_are_compared() -> None:
    """A prompt that one trial has no value for is no zero."""
    found = paired_difference({"x": 1.0, "y": 2.0, "z": 9.0}, {"x": 0.0, "y": 1.0})
    assert (found.difference, found.n) == (1.0, 2)


def test_too_few_shared_prompts_raise() -> None:
    """Nothing can be paired on one prompt."""
    with pytest.raises(ValueError, match="two shared prompts, got 1"):
        paired_difference({"x": 1.0, "y": 2.0}, {"x": 0.0})


def test_paired_intervals_and_tests_hold_on_equal_trials() -> None:
    """Of 300 A/A comparisons of win and loss, about 5% are called different, 95% of intervals hold zero."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(300):
        a, b = (by_prompt(generator.binomial(1, 0.7, 60).tolist()) for _ in range(2))
        found.append(paired_difference(a, b))
    assert np.mean([f.p <= 0.05 for f in found]) <= 0.075
    assert 0.92 <= np.mean([f.low <= 0 <= f.high for f in found]) <= 0.985


def test_holm_by_hand() -> None:
    """Of 0.01, 0.04, 0.03 and 0.005: 4·0.005, 3·0.01, 2·0.03, and 0.04 lifted to 0.06, in the order given."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_never_exceeds_one() -> None:
    """A probability stays one."""
    assert holm([0.6, 0.7]) == [1.0, 1.0]


def test_all_pairs_are_compared_with_holm_over_all() -> None:
    """Three trials give three comparisons, and the adjustment counts all three."""
    generator = np.random.default_rng(0)
    trials = {
        name: by_prompt((generator.normal(size=40) + shift).tolist())
        for name, shift in zip("abc", (0, 0, 2), strict=True)
    }
    found = compare_all(trials, metric="margin")
    assert [(c.a, c.b) for c in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [c.p_holm for c in found] == holm([c.p for c in found])


def test_a_pair_without_shared_prompts_is_left_out() -> None:
    """A trial that shares no prompt with the others is compared with none, and counts in no adjustment."""
    trials = {"a": by_prompt([1.0, 2.0, 3.0]), "b": by_prompt([0.0, 3.0, 1.0]), "c": {"other": 1.0}}
    assert [(c.a, c.b, c.p_holm == c.p) for c in compare_all(trials, metric="margin")] == [("a", "b", True)]


@pytest.mark.parametrize(("b", "c", "p"), [(0, 0, 1.0), (5, 0, 2 / 32), (3, 3, 1.0), (1, 4, 12 / 32)])
def test_mcnemar_by_hand(b: int, c: int, p: float) -> None:
    """Twice the binomial tail at one half; 1 without any discordant prompt."""
    assert mcnemar(b, c) == pytest.approx(p)


def test_five_points_at_a_half_need_785_prompts() -> None:
    """((1.96 + 0.84)·0.5/0.05)² is 784.9."""
    assert sample_size(0.5, 0.05) == 785


def test_smallest_difference_turns_sample_size_round() -> None:
    """With as many prompts as a difference needs, that difference is the smallest."""
    assert smallest_difference(0.5, sample_size(0.5, 0.05)) == pytest.approx(0.05, rel=1e-3)


def test_no_number_of_prompts_shows_no_difference() -> None:
    """Asking for it is an error, not infinity."""
    with pytest.raises(ValueError, match="difference of zero"):
        sample_size(0.5, 0.0)


def test_many_trials_can_still_be_told_apart() -> None:
    """Five seeds of seven recipes are 630 pairs; a p that stops at 1/10,000 would never pass Holm's correction."""
    draw = np.random.default_rng(0)
    values = {
        f"t{trial}": {f"p{n}": 10.0 * trial + float(draw.normal(0, 0.01)) for n in range(30)} for trial in range(36)
    }
    assert max(c.p_holm for c in compare_all(values, metric="x")) < 0.05
