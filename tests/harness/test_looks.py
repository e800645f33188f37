"""The planned looks: how many prompts come next, and what is kept of each."""

from __future__ import annotations

import numpy as np
import pytest

from harness.errors import HarnessError
from harness.looks import look_at, next_look, parse_precision
from harness.records import Comparison
from tests.validity.worlds import World, draw_bench, three_errors


def test_points_are_a_share() -> None:
    assert [parse_precision(text) for text in ("3pp", " 2.5 pp ")] == [0.03, 0.025]


@pytest.mark.parametrize("text", ["", "3", "-1pp", "50pp", "three"])
def test_what_is_no_number_of_points_is_refused(text: str) -> None:
    with pytest.raises(HarnessError, match="write 3pp"):
        parse_precision(text)


def test_a_look_doubles_until_all_is_used() -> None:
    assert [next_look(n, 300) for n in (64, 128, 256, 300)] == [128, 256, 300, None]


def test_a_look_keeps_half_the_width() -> None:
    found = Comparison(
        a="a", b="b", metric="m", difference=0.1, low=0.05, high=0.15, p=0.01, p_holm=0.01, n=64, detectable=0.1
    )
    assert look_at(found, 64).half_width == pytest.approx(0.05)


def test_prompts_that_all_agree_leave_three_in_n_unknown() -> None:
    found = Comparison(
        a="a", b="b", metric="m", difference=0.0, low=0.0, high=0.0, p=1.0, p_holm=1.0, n=60, detectable=0.0
    )
    assert look_at(found, 60).half_width == pytest.approx(0.05)


def stopped_at(bench: np.ndarray, precision: float, start: int) -> tuple[int, float, float]:
    """Prompts of the look at which it stops, and the interval of the difference there."""
    from evals.statistics import paired_difference

    n: int | None = start
    while n is not None:
        sides = ({f"{i}": float(v) for i, v in enumerate(side[0, :n])} for side in bench)
        found = paired_difference(*sides, bounded=True, resamples=1)
        now, n = n, next_look(n, bench.shape[2])
        if (found.high - found.low) / 2 <= precision:
            break
    return now, found.low, found.high


def coverage(benches: int, rate: float, precision: float) -> float:
    generator = np.random.default_rng(0)
    found = [stopped_at(draw_bench(World(800, rate, recipes=2), generator), precision, 50) for _ in range(benches)]
    assert len({n for n, _, _ in found}) > 1  # not all stop at the same look: the rule has something to do
    return float(np.mean([low <= 0 <= high for _, low, high in found]))


def test_looking_several_times_costs_no_coverage() -> None:
    assert coverage(300, 0.8, 0.063) >= 0.93 - three_errors(0.05, 300)


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "precision"), [(0.5, 0.08), (0.8, 0.063), (0.9, 0.051), (0.95, 0.038)])
def test_looking_several_times_costs_no_coverage_in_full(rate: float, precision: float) -> None:
    """2,000 benches: intervals at the look that ended them, and so alarms of equal recipes at no more than 7%."""
    found = coverage(2_000, rate, precision)
    print(f"rate {rate}, ±{precision}: {found:.1%}")
    assert 0.93 <= found <= 0.975
