"""Sensitivity and specificity are soft means by orientation, on prompts of their own, with clustered errors."""

from __future__ import annotations

import numpy as np
import pytest

from evals.judges.rates import ErrorRates, Rate, error_rates
from harness.records import Verdict


def verdict(prompt: int, p_win: float | None) -> Verdict:
    return Verdict(judge="double", prompt_id=f"p{prompt:04}", p_first=p_win, p_second=p_win)


def both(rates: ErrorRates) -> tuple[Rate, Rate]:
    """The two rates, which have to be there."""
    assert rates.sensitivity is not None
    assert rates.specificity is not None
    return rates.sensitivity, rates.specificity


def test_the_rates_are_mean_probabilities_not_shares_of_winners() -> None:
    """A judge that is right each time, at 0.7, has rates of 0.7: thresholded they would be biased."""
    found = both(error_rates([verdict(n, 0.7) for n in range(40)], seed=0))
    assert [rate.score.value for rate in found] == pytest.approx([0.7, 0.7])


def test_every_prompt_counts_for_one_rate_alone() -> None:
    """Half of the prompts each way, so that the two errors are independent."""
    found = both(error_rates([verdict(n // 3, 0.6 + n / 1000) for n in range(123)], seed=0))
    assert [rate.score.n for rate in found] == [21, 20]


def test_unscored_verdicts_are_left_out() -> None:
    """They are neither right nor wrong."""
    verdicts = [verdict(n, None if n % 2 else 0.8) for n in range(40)]
    assert sum(rate.score.n for rate in both(error_rates(verdicts, seed=0))) == 20


def test_another_seed_is_another_orientation() -> None:
    """And the same seed the same one."""
    verdicts = [verdict(n, n / 40) for n in range(40)]
    assert error_rates(verdicts, seed=0) == error_rates(verdicts, seed=0)
    assert error_rates(verdicts, seed=0) != error_rates(verdicts, seed=1)


def test_the_error_is_that_of_the_clusters() -> None:
    """Three pairs of a prompt that agree are one observation: checked against the formula written out."""
    values = np.random.default_rng(0).uniform(size=60)
    tripled = both(error_rates([verdict(n, float(p)) for n, p in enumerate(values) for _ in range(3)], seed=0))
    single = both(error_rates([verdict(n, float(p)) for n, p in enumerate(values)], seed=0))
    assert [rate.error for rate in tripled] == pytest.approx([rate.error for rate in single])
    chosen_is_a = np.random.default_rng(0).permutation([f"p{n:04}" for n in range(60)])[:30]
    mine = values[[int(prompt[1:]) for prompt in chosen_is_a]]
    assert single[0].error == pytest.approx(mine.std(ddof=1) / np.sqrt(30))


def test_a_judge_without_an_error_still_has_a_standard_error() -> None:
    """All right on 20 prompts is not all right on all: as wide as Wilson's interval."""
    found = both(error_rates([verdict(n, 1.0) for n in range(40)], seed=0))
    assert [rate.error for rate in found] == pytest.approx([(1 - 0.838875) / 2 / 1.959964] * 2, abs=1e-5)


def test_too_few_prompts_have_no_rates() -> None:
    """One prompt says nothing of how far another would differ."""
    assert error_rates([verdict(n, 0.7) for n in range(3)], seed=0) == ErrorRates()
    assert error_rates([verdict(n, 0.7) for n in range(4)], seed=0) != ErrorRates()
