"""A run writes down where it is, and never fails because of it."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from harness import journal
from harness.errors import HarnessError
from harness.events import Ahead, Event, Part
from harness.following import Tail
from harness.journal import LIMIT_BYTES, Journal
from harness.progress import Watch
from harness.records import TrainStep


def step(spent: float, *, loss: float = 0.5) -> TrainStep:
    return TrainStep(
        stage=1, step=1, spent=spent, loss=loss, grad_norm=1.0, learning_rate=1e-4, num_tokens=10, rewards_margins=0.25
    )


class Notes(Watch):
    """A watch that keeps what it is shown."""

    def __init__(self) -> None:
        self.written = io.StringIO()
        super().__init__(Console(file=self.written, width=160))
        self.seen: list[Event] = []

    def show(self, event: Event) -> None:
        """Keep it, and show it."""
        self.seen.append(event)
        super().show(event)


class Clock:
    """Time that passes as it is told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "progress.jsonl"


def events(path: Path) -> list[Event]:
    return Tail(path).read()


def written_steps(path: Path, shares: Iterator[float], seconds: float) -> list[float]:
    """The shares of a stage's steps that are written down, each step taking so long."""
    clock = Clock()
    with Journal(path, Notes(), clock) as writing:
        writing.phase("training, sft")
        for spent in shares:
            clock.now += seconds
            writing.step(step(spent))
    return [event.step.spent for event in events(path) if event.step]


def test_what_is_shown_is_what_is_written(path: Path) -> None:
    """Every event with its time, so that both look the same; None, tuples and records come back as they were."""
    watch = Notes()
    with Journal(path, watch) as writing:
        writing.plan((Ahead(parts=(Part(what="judging", work=24, unit="verdicts"),)), Ahead(parts=())))
        writing.say("a budget in pairs")
        writing.begin("sft@0")
        writing.phase("training, sft")
        writing.step(step(0.3))
        writing.failed("failed: no such kernel")
        writing.done("done")
    kinds = ["start", "plan", "say", "begin", "phase", "step", "failed", "done", "finished"]
    assert [event.kind for event in watch.seen] == kinds
    assert events(path) == watch.seen


def test_every_line_is_json(path: Path) -> None:
    """Any program can follow it."""
    with Journal(path, Notes()) as writing:
        writing.begin("sft@0")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["start", "begin", "finished"]
    assert all(line["at"] > 1_700_000_000 for line in lines)


def test_every_line_is_there_at_once(path: Path) -> None:
    """Not when a buffer is full or the run is over."""
    with Journal(path, Notes()) as writing:
        writing.begin("sft@0")
        assert [event.kind for event in events(path)] == ["start", "begin"]


def test_the_watch_is_shown_every_step(path: Path) -> None:
    """What is left out of the file is on the terminal all the same."""
    watch = Notes()
    with Journal(path, watch, Clock()) as writing:
        for n in range(1, 101):
            writing.step(step(n / 1000))
    assert sum(event.kind == "step" for event in watch.seen) == 100


def test_quick_steps_are_written_twice_a_second(path: Path) -> None:
    """A thousand steps in ten seconds are twenty lines, and those that end a quarter."""
    shares = written_steps(path, (n / 1000 for n in range(1, 1001)), seconds=0.01)
    assert 15 <= len(shares) <= 24


def test_a_long_stage_does_not_fill_the_disk(path: Path) -> None:
    """A hundred thousand steps are two hundred lines and a few."""
    shares = written_steps(path, (n / 100_000 for n in range(1, 100_001)), seconds=0.02)
    assert 150 <= len(shares) <= 210


def test_slow_steps_are_all_written(path: Path) -> None:
    """One in ten seconds is no burden, however little of the stage it is."""
    assert len(written_steps(path, (n / 10_000 for n in range(1, 51)), seconds=11)) == 50


def test_the_steps_that_a_pipe_is_told_are_written(path: Path) -> None:
    """So a follower in a pipe writes the same lines as the run in a pipe."""
    shares = written_steps(path, (n / 1000 for n in range(1, 1001)), seconds=0.0)
    assert {0.25, 0.5, 0.75, 1.0} <= set(shares)


def test_the_next_stage_begins_at_its_own_first_quarter(path: Path) -> None:
    """Not where the one before ended."""
    with Journal(path, Notes(), Clock()) as writing:
        for _ in range(2):
            writing.phase("training, sft")
            for n in range(1, 101):
                writing.step(step(n / 100))
    shares = [event.step.spent for event in events(path) if event.step]
    assert shares.count(0.25) == shares.count(0.5) == shares.count(1.0) == 2


ENDS = {
    "finished": (None, ""),
    "interrupted": (KeyboardInterrupt(), "interrupted"),
    "an error to mend": (HarnessError("judge 'x' is away: mend it"), "judge 'x' is away: mend it"),
    "our own fault": (RuntimeError("no such\nkernel"), "RuntimeError: no such kernel"),
}


@pytest.mark.parametrize("how", ENDS)
def test_how_a_session_ended_is_its_last_line(path: Path, how: str) -> None:
    """With the reason where it did not finish."""
    error, reason = ENDS[how]
    with contextlib.suppress(BaseException), Journal(path, Notes()) as writing:
        writing.begin("sft@0")
        if error:
            raise error
    last = events(path)[-1]
    assert (last.kind, last.text) == ("stopped" if error else "finished", reason)


def test_a_session_that_goes_on_begins_after_the_last(path: Path) -> None:
    """What was written before is kept."""
    for _ in range(2):
        with Journal(path, Notes()):
            pass
    assert [event.kind for event in events(path)] == ["start", "finished", "start", "finished"]


def test_a_line_that_was_cut_off_costs_no_other(path: Path) -> None:
    """The machine lost power in the midst of it."""
    path.write_text('{"at": 1800000000.0, "kind": "start"}\n{"at": 1800000001.0, "kind": "beg')
    with Journal(path, Notes()):
        pass
    assert [event.kind for event in events(path)] == ["start", "start", "finished"]


def test_a_full_disk_does_not_stop_the_run(path: Path) -> None:
    """Progress is no record: it is shown, and not written."""
    path.symlink_to("/dev/full")
    watch = Notes()
    with Journal(path, watch) as writing:
        writing.begin("sft@0")
        writing.step(step(0.5))
    assert [event.kind for event in watch.seen] == ["start", "begin", "step", "finished"]


def test_a_disk_with_room_again_is_written_to_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a line was written when it was full: it does not spoil the next one."""
    real = journal.os.write
    with Journal(path, Notes()) as writing:
        with monkeypatch.context() as patch:
            patch.setattr(journal.os, "write", lambda file, line: real(file, line[:9]))
            writing.begin("sft@0")
        writing.begin("dpo@0")
    assert [event.text for event in events(path) if event.kind == "begin"] == ["dpo@0"]


def test_a_journal_that_cannot_be_written_is_said_once(path: Path) -> None:
    """The run goes on, and nobody waits for what never comes."""
    path.mkdir()
    watch = Notes()
    with Journal(path, watch) as writing:
        writing.begin("sft@0")
        writing.done("reward accuracy 75%")
    assert watch.written.getvalue().count("progress.jsonl cannot be written") == 1
    assert "reward accuracy 75%" in watch.written.getvalue()


def test_what_many_sessions_wrote_is_forgotten(path: Path) -> None:
    """A journal is bounded; who reads the old one goes on with the new one."""
    path.write_text(f'{{"at": 1800000000.0, "kind": "say", "text": "{"x" * LIMIT_BYTES}"}}\n')
    tail = Tail(path)
    assert len(tail.read()) == 1
    with Journal(path, Notes()):
        pass
    assert path.stat().st_size < 1000
    assert [event.kind for event in tail.read()] == ["start", "finished"]


def test_what_a_stranger_wrote_is_safe_in_it(path: Path) -> None:
    """Bidi tricks, lone surrogates and line ends of a recipe's error stay one readable line."""
    with Journal(path, Notes()) as writing:
        writing.failed("failed: a\u202eb \ud800 c\nd\u2028e")
    (found,) = [event.text for event in events(path) if event.kind == "failed"]
    assert found == "failed: a\\u{202e}b \\u{d800} c d e"


def test_a_loss_that_is_no_number_is_no_reason_to_stop(path: Path) -> None:
    """A stranger's metric may be infinite."""
    with Journal(path, Notes()) as writing:
        writing.step(step(0.5, loss=float("inf")))
        writing.begin("sft@0")
    assert "begin" in [event.kind for event in events(path)]
