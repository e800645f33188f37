"""Two bars that never go back, and times as people write them."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from harness.bars import Bars, Timing, minutes


def test_the_bar_of_the_bench_never_goes_back() -> None:
    """Though it may take longer than was thought."""
    bars = Bars(Console(file=io.StringIO()), clock=lambda: 0.0)
    bars.begin(Timing(0.0, lambda now: ""))
    for share in (0.5, 0.3):
        bars.move(share, "1 of 2 done")
    assert [task.completed for task in bars.progress.tasks] == [0.5]


def test_another_session_begins_at_nothing() -> None:
    """With a bar of its own, and no phase yet."""
    bars = Bars(Console(file=io.StringIO()), clock=lambda: 0.0)
    for _ in range(2):
        bars.begin(Timing(0.0, lambda now: ""))
        bars.move(0.25, "")
        bars.begin_part("judging", Timing(0.0, lambda now: ""))
        assert [task.completed for task in bars.progress.tasks] == [0.25, 0]
        bars.move(0.5, "")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (61.9, "1:01"), (3599, "59:59"), (3661, "1:01:01"), (-5, "0:00")]
)
def test_durations_are_minutes_and_from_an_hour_on_hours(seconds: float, text: str) -> None:
    """Never below nothing."""
    assert minutes(seconds) == text
