"""Two processes take turns, and only what both computed alike is timed."""

from __future__ import annotations

import pytest

from benchmarks.dpo_step import refuse_unlike
from benchmarks.sides import KEPT, Paired, Side, median, take_turns, turns_of

COUNTING = "tests.benchmarks.counting"


def told(seconds: float, loss: float = 0.7) -> dict[str, float]:
    return {"seconds": seconds, "loss": loss, "chosen": -10.0, "rejected": -12.0}


def paired(ours: list[float], theirs: list[float], *, loss: float = 0.7) -> Paired:
    return Paired(
        first=(told(1.0), told(1.0, loss)),
        ours=[told(s) for s in ours],
        theirs=[told(s) for s in theirs],
        ours_bytes=1,
        theirs_bytes=2,
    )


def test_sides_take_turns_and_the_first_step_of_each_does_not_count() -> None:
    found = take_turns(Side(COUNTING, {"start": 0}), Side(COUNTING, {"start": 10}), steps=5)
    assert turns_of(5) == [4, 3]
    assert [one["loss"] for one in found.ours] == [2, 3, 4, 6, 7]
    assert [one["loss"] for one in found.theirs] == [12, 13, 14, 16, 17]
    assert found.first[0]["loss"] == 1
    assert min(found.ours_bytes, found.theirs_bytes) > 1_000_000  # a Python process


def test_a_side_is_told_to_keep_its_memory() -> None:
    side = Side(COUNTING, {"start": 0}, KEPT)
    assert side.step()["environment"] == KEPT
    side.end()


def test_a_side_that_fails_says_how_to_see_why() -> None:
    with pytest.raises(SystemExit, match=r"tests\.benchmarks\.counting .* ended early: run it alone to see why"):
        Side(COUNTING, {})


def test_the_speedup_is_the_median_of_the_steps_own_ratios() -> None:
    """So a step during which the machine was busy counts once, for both."""
    assert paired([1.0, 10.0, 1.0], [3.0, 20.0, 4.0]).speedup == 3.0
    assert median([told(1.0), told(5.0), told(2.0)]) == 2.0


def test_sides_that_compute_something_else_are_not_compared() -> None:
    refuse_unlike(paired([1.0], [1.0], loss=0.705))
    with pytest.raises(SystemExit, match=r"loss of the first step is 0\.7000 here and 0\.8000 in TRL"):
        refuse_unlike(paired([1.0], [1.0], loss=0.8))
