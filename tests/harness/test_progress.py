"""What a person sees of a run: plain lines in a pipe, a live bar on a terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable

import pytest
from rich.console import Console

from harness.events import Ahead, Event, Kind, Part
from harness.progress import Watch
from harness.records import TrainStep

ESCAPE = "\x1b"
BEGAN = 1_800_000_000.0  # seconds since 1970: some time ago, as it is for who joins late
TRAINING = Part(what="training, dpo", work=6e12, unit="FLOP")
JUDGING = Part(what="judging", work=24, unit="verdicts")


def step(spent: float, margin: float | None = 0.25) -> TrainStep:
    """Of a stage of 1,000 tokens."""
    return TrainStep(
        stage=1,
        step=1,
        spent=spent,
        loss=0.6931,
        grad_norm=1.0,
        learning_rate=1e-4,
        num_tokens=round(1000 * spent),
        rewards_margins=margin,
    )


def event(
    second: float, kind: Kind, text: str = "", spent: float | None = None, margin: float | None = 0.25, trials: int = 0
) -> Event:
    """What happened so many seconds after the run began; `trials` are all alike."""
    return Event(
        at=BEGAN + second,
        kind=kind,
        text=text,
        step=None if spent is None else step(spent, margin),
        ahead=trials * (Ahead(parts=(TRAINING, JUDGING)),),
    )


def training(*spent: float, margin: float | None = 0.25) -> list[Event]:
    """One trial of two trains by these steps, two seconds each, and is done."""
    return [
        *(event(0, "start"), event(0, "plan", trials=2)),
        *(event(0, "begin", "dpo-beta0.1@0"), event(0, "phase", "training, dpo")),
        *(event(2 * (n + 1), "step", spent=share, margin=margin) for n, share in enumerate(spent)),
        event(2 * len(spent), "done", "reward accuracy 75%"),
    ]


def shown(events: Iterable[Event], *, terminal: bool, width: int = 160, now: float = 0.0) -> str:
    """All that is written while these happen, the live bars as they look so many seconds after the run began."""
    written = io.StringIO()
    console = Console(file=written, force_terminal=terminal, width=width)
    with Watch(console, clock=lambda: BEGAN + now) as watch:
        for happened in events:
            watch.show(happened)
            watch._bars.progress.refresh()
    return written.getvalue()


def piped(*spent: float, margin: float | None = 0.25) -> str:
    return shown(training(*spent, margin=margin), terminal=False)


def bars(events: Iterable[Event], *, width: int = 160, now: float = 0.0) -> list[str]:
    """The lines of a terminal, without what colours and moves them."""
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown(events, terminal=True, width=width, now=now))
    return [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]


def test_a_pipe_gets_no_control_characters() -> None:
    """A log file is readable."""
    assert ESCAPE not in piped(0.5, 1.0)
    assert "\r" not in piped(0.5, 1.0)


def test_every_line_in_a_pipe_says_the_time_and_the_trial() -> None:
    """A line taken out of a log still says what it is about."""
    lines = piped(0.3, 1.0).splitlines()
    assert lines
    assert all(re.match(r"\[\d+:\d\d\] 1/2 dpo-beta0\.1@0: \S", line) for line in lines)


def test_a_pipe_gets_at_most_four_lines_of_steps_a_stage() -> None:
    """A hundred steps do not fill a log."""
    lines = piped(*(n / 100 for n in range(1, 101))).splitlines()
    assert sum("of the stage spent" in line for line in lines) == 4


def test_a_pipe_gets_loss_and_margin() -> None:
    """Whether it learns can be seen before it ends."""
    assert "loss 0.693 margin +0.250" in piped(0.5)


def test_a_missing_margin_is_not_shown_as_zero() -> None:
    """SFT has none."""
    assert "margin" not in piped(0.5, margin=None)


def test_the_speed_is_tokens_a_second() -> None:
    """A tenth of a thousand tokens every two seconds are fifty."""
    assert "50 tok/s" in piped(0.1, 0.2, 0.3)


def test_the_speed_is_of_late() -> None:
    """What was slow at first is forgotten: a hundred seconds a hundredth, then two seconds a twentieth."""
    slow = [event(100 * n, "step", spent=n / 100) for n in range(1, 6)]
    quick = [event(500 + 2 * n, "step", spent=0.05 + n / 20) for n in range(1, 11)]
    lines = shown([*training()[:-1], *slow, *quick], terminal=False).splitlines()
    assert "25 tok/s" in lines[-1]


def test_the_speed_is_that_of_the_stage() -> None:
    """Its tokens are counted from its own beginning."""
    again = [event(10, "phase", "training, dpo"), event(12, "step", spent=0.3)]
    assert "tok/s" not in shown([*training(0.5)[:-1], *again], terminal=False).splitlines()[-1]


def test_a_trial_that_is_done_has_no_speed() -> None:
    """Nor is it that of the next phase."""
    assert "tok/s" in bars(training(0.5, 1.0)[:-1])[-2]
    assert "tok/s" not in bars(training(0.5, 1.0))[-2]


def test_one_step_has_no_speed() -> None:
    """When it began is not known, as the model was read first."""
    assert "tok/s" not in piped(0.5)


def test_a_pipe_gets_how_a_trial_ended() -> None:
    """Its headline, and the time left as far as it is known."""
    assert re.search(r"1/2 dpo-beta0.1@0: reward accuracy 75%; over \d:\d\d left$", piped(0.5, 1.0).splitlines()[-1])


def test_times_are_those_of_the_events() -> None:
    """Who joins an hour late reads when things happened, not when they were read."""
    lines = shown(training(0.25, 0.5), terminal=False, now=3600).splitlines()
    assert [line[:6] for line in lines] == ["[0:00]", "[0:02]", "[0:04]", "[0:04]"]


def test_a_terminal_gets_a_bar_with_the_share_that_is_spent() -> None:
    """Trial, stage, share, loss and margin, live."""
    bar = next(line for line in bars(training(0.25, 0.75)) if "75%" in line and "training, dpo" in line)
    assert "1/2 dpo-beta0.1@0: training, dpo" in bar
    assert "loss 0.693 margin +0.250" in bar


def test_a_terminal_gets_the_time_that_passed_and_the_time_left() -> None:
    """Half of the stage took two minutes from its first step on, so two are left; the judging nobody knows yet."""
    half = [*training()[:-1], event(10, "step", spent=0.0), event(130, "step", spent=0.5)]
    last = bars(half, now=130)[-2:]
    assert "2:10, over 6:00 left" in last[0]  # the stage's rest, and the other trial's
    assert "2:10, 2:00 left" in last[1]


def test_the_time_left_counts_down_without_events() -> None:
    """A minute later it is a minute less, in whichever terminal."""
    half = [*training()[:-1], event(10, "step", spent=0.0), event(130, "step", spent=0.5)]
    last = bars(half, now=190)[-2:]
    assert "3:10, over 5:00 left" in last[0]
    assert "3:10, 1:00 left" in last[1]


def one_trial() -> list[Event]:
    """The first of two is done: 60 seconds of training, 30 of judging."""
    return [
        *(event(0, "start"), event(0, "plan", trials=2), event(0, "begin", "sft@0")),
        *(event(0, "phase", "training, dpo"), event(60, "step", spent=1.0), event(60, "phase", "judging")),
        event(90, "done", "reward accuracy 75%"),
    ]


def test_after_the_first_trial_the_time_left_is_that_of_the_others() -> None:
    """Half of the bench is done, and it is known."""
    assert "bench" in (bar := bars(one_trial(), now=90)[-2])
    assert re.search(r" 50% +1 of 2 done +1:30, 1:30 left", bar)


def test_trials_that_were_done_before_are_not_taken_for_quick_ones() -> None:
    """They end at once, and nothing is said of the time that the others take."""
    done = [event(0, "start"), event(0, "plan", trials=2), event(0, "begin", "a@0"), event(0, "done", "already done")]
    assert "left" not in shown(done, terminal=False)


def test_a_phase_says_how_much_there_is_to_do() -> None:
    """Twenty-four verdicts."""
    assert any("1/2 sft@0: judging" in line and "24 verdicts" in line for line in bars(one_trial()))


def test_the_last_trial_is_followed_by_the_report() -> None:
    """The bar does not say that a trial which is done is still at work."""
    second = [event(90, "begin", "dpo@0"), event(180, "done", "already done")]
    assert "comparing trials and writing the report" in bars([*one_trial(), *second])[-1]


def test_another_session_begins_anew() -> None:
    """Its clock, its trials, its speeds."""
    again = [event(5000, "start"), event(5000, "plan", trials=3), event(5060, "begin", "sft@0")]
    lines = shown([*one_trial(), *again, event(5060, "phase", "judging")], terminal=False).splitlines()
    assert lines[-1] == "[1:00] 1/3 sft@0: judging"


def test_where_it_is_can_be_said_in_words() -> None:
    """For the line that says where a run stopped."""
    watch = Watch(Console(file=io.StringIO()))
    for happened in training(0.25)[:-1]:
        watch.show(happened)
    assert watch.where == "1/2 dpo-beta0.1@0: training, dpo, 25% of the stage spent"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_narrow_terminal_loses_nothing_but_the_name_and_the_speed(width: int) -> None:
    """Share, loss, margin and time stay on one line."""
    events = [*training()[:-1], event(10, "step", spent=0.0), event(130, "step", spent=0.75)]
    whole, line = bars(events, width=width, now=130)[-2:]
    assert "75%" in line
    assert "loss 0.693 margin +0.250" in line
    assert "0:40 left" in line
    assert ("tok/s" in whole) == (width >= 80)
    assert max(len(whole), len(line)) <= width


def test_what_a_trial_ended_with_stays_on_the_terminal() -> None:
    """The bar goes, its headline does not."""
    whole = shown(training(1.0), terminal=True)
    assert "reward accuracy 75%" in whole
    assert "training, dpo" not in whole.rpartition("reward accuracy 75%")[2].rpartition("\x1b[2K")[2]


def test_a_name_in_brackets_is_not_read_as_markup() -> None:
    """What a judge or a recipe is called is shown as it is."""
    events = [*training()[:2], event(0, "begin", "sft@0"), event(0, "phase", "qualifying judge probe:[bold]x")]
    assert "probe:[bold]x" in shown(events, terminal=True)
