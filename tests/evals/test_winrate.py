"""Win rates from verdicts, by hand: ties, position bias, and what could not be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from evals.winrate import (
    first_slot_rate,
    position_consistency,
    strict_win_rate,
    unscored_share,
    win_rate,
)
from harness.records import Score, Verdict

Metric = Callable[[Sequence[Verdict]], Score]


def verdicts(*pairs: tuple[float | None, float | None]) -> list[Verdict]:
    """One verdict a prompt: P(the trial wins) when it is shown first, and when second."""
    return [
        Verdict(judge="double", prompt_id=f"p{number}", p_first=first, p_second=second)
        for number, (first, second) in enumerate(pairs)
    ]


def test_win_rate_is_the_mean_of_both_orders() -> None:
    """Position bias of equal size in both orders cancels out."""
    assert win_rate(verdicts((0.9, 0.5), (0.4, 0.2))).value == pytest.approx(0.5)


def test_a_judge_that_always_says_a_finds_nobody_better() -> None:
    """First slot always wins: ½ by either rate, and position shown as what it is."""
    biased = verdicts(*[(1.0, 0.0)] * 10)
    found = [f(biased).value for f in (win_rate, strict_win_rate, first_slot_rate, position_consistency)]
    assert found == [0.5, 0.5, 1.0, 0.0]


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [(0.9, 0.6, 1.0), (0.1, 0.4, 0.0), (0.9, 0.4, 0.5), (0.5, 0.9, 0.5), (0.5, 0.5, 0.5)],
)
def test_a_strict_win_needs_both_orders(first: float, second: float, outcome: float) -> None:
    """Orders that disagree, or a tie in one of them, are half a win."""
    assert strict_win_rate(verdicts((first, second))).value == outcome


def test_identical_completions_win_one_half() -> None:
    """Policy = anchor: exactly ½, consistent in both orders."""
    tied = verdicts(*[(0.5, 0.5)] * 20)
    found = [f(tied).value for f in (win_rate, strict_win_rate, first_slot_rate, position_consistency)]
    assert found == [0.5, 0.5, 0.5, 1.0]


def test_unscored_verdicts_are_neither_lost_nor_dropped_in_silence() -> None:
    """They lower n, leave the rate alone, and have their own share."""
    mixed = verdicts((1.0, 1.0), (None, 1.0), (1.0, None), (0.0, 0.0))
    assert (win_rate(mixed).value, win_rate(mixed).n, unscored_share(mixed).value) == (0.5, 2, 0.5)


def test_verdicts_on_one_prompt_are_one_cluster() -> None:
    """Two trials' seeds on the same prompt do not count as two prompts."""
    twice = verdicts((0.9, 0.7), (0.3, 0.2), (0.6, 0.8)) * 2
    assert win_rate(twice) == win_rate(twice[:3])


@pytest.mark.parametrize("metric", [win_rate, strict_win_rate, position_consistency, first_slot_rate])
@pytest.mark.parametrize("read", [[], [(None, None)]])
def test_a_rate_of_nothing_raises(metric: Metric, read: list[tuple[None, None]]) -> None:
    """Without a scored verdict there is no rate, and it is not zero."""
    with pytest.raises(ValueError, match="mean of nothing"):
        metric(verdicts(*read))
