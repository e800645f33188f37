"""Two trials are compared on all that both have, by the numbers that the bench has already given."""

from __future__ import annotations

import pytest

from evals.comparison import compare_two
from harness.records import Comparison, Outcomes, PairedMetric, win_rate_by

PROMPTS = [f"p{i}" for i in range(10)]


def values(*numbers: float) -> dict[str, float]:
    return dict(zip(PROMPTS, numbers, strict=False))


def one(metric: str, mine: dict[str, float], theirs: dict[str, float]) -> PairedMetric:
    (found,) = compare_two("a", "b", {metric: mine}, {metric: theirs}, {})
    return found


def test_the_difference_is_a_minus_b_over_the_prompts_that_both_have() -> None:
    found = one("kl_nats", values(3.0, 5.0, 7.0), values(1.0, 2.0))
    assert (found.a_mean, found.b_mean, found.comparison.difference, found.comparison.n) == (4.0, 1.5, 2.5, 2)


def test_only_what_both_have_is_compared() -> None:
    two = values(1.0, 2.0)
    found = compare_two("a", "b", {"kl_nats": two, "correct": two}, {"kl_nats": two, "courtesy": two}, {})
    assert [paired.comparison.metric for paired in found] == ["kl_nats"]


def test_one_shared_prompt_is_no_comparison() -> None:
    assert compare_two("a", "b", {"kl_nats": values(1.0, 2.0)}, {"kl_nats": values(1.0)}, {}) == ()


def test_what_the_bench_tested_is_kept() -> None:
    """Else one difference would have two intervals and two p values."""
    known = Comparison(
        a="a", b="b", metric="kl_nats", difference=1.0, low=0.5, high=1.5, p=0.01, p_holm=0.03, n=2, detectable=0.7
    )
    two = {"kl_nats": values(1.0, 2.0)}
    (found,) = compare_two("a", "b", two, two, {"kl_nats": known})
    assert (found.comparison, found.adjusted) == (known, True)


def test_what_the_bench_did_not_test_is_not_called_adjusted() -> None:
    found = one("length_tokens", values(1.0, 2.0, 9.0), values(1.0, 1.0, 1.0))
    assert not found.adjusted
    assert found.comparison.p_holm == found.comparison.p


def test_wins_and_losses_have_an_exact_test() -> None:
    """Five against none by McNemar's exact test: 2 · ½⁵; the ties say nothing."""
    found = one("correct", values(*[1.0] * 5, 0.0, 1.0), values(*[0.0] * 6, 1.0))
    assert found.outcomes == Outcomes(ahead=5, behind=0, p=pytest.approx(0.0625))


def test_a_judges_probability_counts_by_whom_it_favours() -> None:
    found = one(win_rate_by("probe"), values(0.9, 0.6, 0.2, 0.5), values(0.6, 0.3, 0.7, 0.5))
    assert found.outcomes is not None
    assert (found.outcomes.ahead, found.outcomes.behind) == (1, 1)


@pytest.mark.parametrize("metric", ["kl_nats", "distinct_2"])
def test_a_measure_is_no_outcome_though_it_be_0_or_1(metric: str) -> None:
    assert one(metric, values(1.0, 0.0, 1.0), values(0.0, 0.0, 1.0)).outcomes is None


def test_the_mean_over_a_prompts_pairs_is_no_outcome() -> None:
    assert one("reward_accuracy", values(1.0, 1 / 3), values(0.0, 1.0)).outcomes is None
