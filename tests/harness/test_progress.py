"""What a person sees of a run: plain lines in a pipe, a live bar on a terminal."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from harness.progress import Watch
from harness.records import TrainStep

ESCAPE = "\x1b"


def step(spent: float, margin: float | None = 0.25) -> TrainStep:
    return TrainStep(
        stage=1,
        step=1,
        spent=spent,
        loss=0.6931,
        grad_norm=1.0,
        learning_rate=1e-4,
        num_tokens=10,
        rewards_margins=margin,
    )


def watched(*spent: float, terminal: bool, margin: float | None = 0.25) -> str:
    """All that is written while one trial of two trains by these steps and is done."""
    written = io.StringIO()
    console = Console(file=written, force_terminal=terminal, width=160)
    with Watch(console, 2) as watch:
        watch.begin("dpo-beta0.1@0")
        watch.phase("training, dpo")
        for share in spent:
            watch.step(step(share, margin))
            watch._bars.refresh()
        watch.done("reward accuracy 75%")
    return written.getvalue()


def test_a_pipe_gets_no_control_characters() -> None:
    """A log file is readable."""
    assert ESCAPE not in watched(0.5, 1.0, terminal=False)
    assert "\r" not in watched(0.5, 1.0, terminal=False)


def test_every_line_in_a_pipe_says_the_time_and_the_trial() -> None:
    """A line taken out of a log still says what it is about."""
    lines = watched(0.3, 1.0, terminal=False).splitlines()
    assert lines
    assert all(re.match(r"\[\d+:\d\d\] 1/2 dpo-beta0\.1@0: \S", line) for line in lines)


def test_a_pipe_gets_at_most_four_lines_of_steps_a_stage() -> None:
    """A hundred steps do not fill a log."""
    lines = watched(*(n / 100 for n in range(1, 101)), terminal=False).splitlines()
    assert sum("of the stage spent" in line for line in lines) == 4


def test_a_pipe_gets_loss_and_margin() -> None:
    """Whether it learns can be seen before it ends."""
    assert "loss 0.693 margin +0.250" in watched(0.5, terminal=False)


def test_a_missing_margin_is_not_shown_as_zero() -> None:
    """SFT has none."""
    assert "margin" not in watched(0.5, terminal=False, margin=None)


def test_a_pipe_gets_how_a_trial_ended() -> None:
    """Its headline."""
    assert watched(1.0, terminal=False).splitlines()[-1].endswith("1/2 dpo-beta0.1@0: reward accuracy 75%")


def test_a_terminal_gets_a_bar_with_the_share_that_is_spent() -> None:
    """Trial, stage, share, loss and margin, live."""
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", watched(0.25, 0.75, terminal=True))
    bar = next(line for line in shown.splitlines() if "75%" in line and "training, dpo" in line)
    assert "1/2 dpo-beta0.1@0: training, dpo" in bar
    assert "loss 0.693 margin +0.250" in bar


def test_a_terminal_gets_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the stage and of the bench, from its first steps on: half of the stage took a minute, so one is left."""
    clock = iter(range(0, 60_000, 30))
    written = io.StringIO()
    with Watch(Console(file=written, force_terminal=True, width=160), 2) as watch:
        watch._bars.get_time = lambda: float(next(clock))
        watch.begin("dpo-beta0.1@0")
        watch.phase("training, dpo")
        for spent in (0.25, 0.5, 0.75):
            watch.step(step(spent))
            watch._bars.refresh()
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.getvalue())
    bars = [line for line in shown.splitlines() if "75%" in line]
    assert any(re.search(r", \d+:\d\d left", line) for line in bars)
    assert any(re.search(r"bench .*\d+:\d\d left", line) for line in shown.splitlines())


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_narrow_terminal_loses_nothing_but_the_name(width: int) -> None:
    """Share, loss, margin and time stay on one line."""
    written = io.StringIO()
    with Watch(Console(file=written, force_terminal=True, width=width), 2) as watch:
        watch.begin("dpo_beta=0.2_reference=soft@0")
        watch.phase("training, dpo")
        watch.step(step(0.5))
        watch.step(step(0.75))
        watch._bars.refresh()
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.getvalue())
    line = next(line for line in shown.splitlines() if "75%" in line)
    assert "loss 0.693 margin +0.250" in line
    assert len(line) <= width


def test_what_a_trial_ended_with_stays_on_the_terminal() -> None:
    """The bar goes, its headline does not."""
    after = watched(1.0, terminal=True).rpartition("reward accuracy 75%")[2]
    assert "reward accuracy 75%" in watched(1.0, terminal=True)
    assert "training, dpo" not in after.rpartition("\x1b[2K")[2]


def test_a_name_in_brackets_is_not_read_as_markup() -> None:
    """What a judge or a recipe is called is shown as it is."""
    written = io.StringIO()
    with Watch(Console(file=written, force_terminal=True, width=160), 1) as watch:
        watch.begin("sft@0")
        watch.phase("qualifying judge probe:[bold]x")
        watch._bars.refresh()
    assert "probe:[bold]x" in written.getvalue()
