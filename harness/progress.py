"""What a person sees while a bench runs: a live bar on a terminal, plain lines when piped.

All of it comes from events and their times, so that who follows a run from elsewhere, or joins late, sees the same.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

from rich.console import Console

from harness.bars import MIDDLE, Bars, Timing, minutes
from harness.events import Event
from harness.forecast import Forecast
from harness.plain import on_one_line
from harness.records import TrainStep

RECENT_SECONDS = 10.0  # that the speed is judged by: not steps, of which a follower is told fewer


class Terminal(Console):
    """A console that falls silent where the reader of its pipe has gone, instead of ending the run."""

    def on_broken_pipe(self) -> None:
        """What Rich calls; its own way is to exit."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


class Watch:
    """Shown what happens, event by event; says it."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.time) -> None:
        self.console, self.live = console, console.is_terminal
        self._bars = Bars(console, clock)
        self._start(clock())

    def __enter__(self) -> Watch:
        self._bars.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.progress.stop()

    @property
    def where(self) -> str:
        """The trial, its phase and how far that is, in words; empty before the first trial begins."""
        phase = f"{self._phase}, {self._spent:.0%} of the stage spent" if self._spent else self._phase
        return ": ".join(part for part in (self._trial, phase) if part)

    def show(self, event: Event) -> None:
        """Say what happened, as of when it happened."""
        match event.kind:
            case "start":
                self._start(event.at)
            case "plan":
                self._total = len(event.ahead)
                self._forecast.plan(event.at, event.ahead)
                self._advance(event.at, done=0)
            case "say":
                self._say(event.text)
            case "begin":
                self._forecast.begin(event.at)
                self._begun += 1
                self._trial = f"{self._begun}/{self._total} {event.text}"
                self._phase, self._spent = "", 0.0
            case "phase":
                self.phase(event.text, event.at)
            case "step" if event.step is not None:
                self.step(event.step, event.at)
            case "done" | "failed":
                self._done(event)

    def phase(self, what: str, at: float) -> None:
        """A part of a trial begins: training, writing completions, judging."""
        self._forecast.phase(at, what)
        self._phase, self._spent = what, 0.0
        self._steps.clear()
        if not self.live:
            self._line(at, what)
        part = self._forecast.part
        counted = part is not None and part.unit in ("prompts", "pairs", "verdicts")
        note = f"{part.work:,.0f} {part.unit}" if part is not None and counted else ""
        self._bars.begin_part(f"{self._trial}: {what}", Timing(at, self._phase_left), note)
        self._advance(at, done=self._begun - 1)

    def step(self, line: TrainStep, at: float) -> None:
        """A training step: the bar shows the share of the stage's budget that is spent."""
        self._forecast.step(at, line.spent)
        self._remember(at, line.num_tokens)
        margin = "" if line.rewards_margins is None else f" margin {line.rewards_margins:+.3f}"
        note = f"loss {line.loss:.3f}{margin}"
        if quarters(line.spent) > quarters(self._spent) and not self.live:
            self._line(at, f"{line.spent:.0%} of the stage spent, {note}{self._speed()}{self._and_left(at)}")
        self._spent = line.spent
        self._bars.move_part(line.spent, note)
        self._advance(at, done=self._begun - 1)

    def _start(self, at: float) -> None:
        """A session begins; what an earlier one did says nothing of it."""
        self._forecast, self._started = Forecast(), at
        self._total, self._begun = 0, 0
        self._trial, self._phase, self._spent = "", "", 0.0
        self._steps: deque[tuple[float, int]] = deque()  # when, and the stage's tokens so far
        self._bars.begin(Timing(at, self._bench_left))

    def _done(self, event: Event) -> None:
        """The trial has all its scores, or failed."""
        self._forecast.done(event.at, failed=event.kind == "failed")
        self._steps.clear()
        self._line(event.at, f"{event.text}{'' if self.live else self._and_left(event.at)}")
        if self._begun == self._total:
            self._trial, self._phase, self._spent = "comparing trials and writing the report", "", 0.0
            self._bars.begin_part(self._trial, Timing(event.at, self._phase_left))
        self._advance(event.at, done=self._begun)

    def _say(self, line: str) -> None:
        """One line that stays."""
        self.console.print(on_one_line(line), highlight=False, markup=False, soft_wrap=True)

    def _line(self, at: float, text: str) -> None:
        self._say(f"[{minutes(at - self._started)}] {self._trial}: {text}")

    def _remember(self, at: float, tokens: int) -> None:
        """Of the last steps, as many as the speed is judged by."""
        self._steps.append((at, tokens))
        while len(self._steps) > 2 and self._steps[1][0] <= at - RECENT_SECONDS:
            self._steps.popleft()

    def _speed(self) -> str:
        """Tokens that the policy is trained on a second, of late; nothing where it is not being trained."""
        if not self._steps or self._steps[-1][0] <= self._steps[0][0]:
            return ""
        (first, before), (last, tokens) = self._steps[0], self._steps[-1]
        return f", {(tokens - before) / (last - first):,.0f} tok/s"

    def _advance(self, at: float, *, done: int) -> None:
        """Move the bench's bar: by the time that it will take where that is known, else by the trials that are done."""
        left, passed = self._forecast.left, at - self._started
        if not self._total or left is None:
            return
        known = left.whole and passed > 0
        share = passed / (passed + left.of_bench(at)) if known else done / self._total
        speed = self._speed() if self.console.width >= MIDDLE else ""
        self._bars.move(share, f"{done} of {self._total} done{speed}")

    def _phase_left(self, now: float) -> str:
        left = self._forecast.left.of_phase(now) if self._forecast.left else None
        return f"{minutes(left)} left" if left else ""

    def _bench_left(self, now: float) -> str:
        """What is left of everything; where not all of it was timed yet, that it is more than that."""
        left = self._forecast.left
        if left is None or not (seconds := left.of_bench(now)):
            return ""
        return f"{'' if left.whole else 'over '}{minutes(seconds)} left"

    def _and_left(self, at: float) -> str:
        """The same, to end a line with."""
        left = self._bench_left(at)
        return f"; {left}" if left else ""


def quarters(spent: float) -> int:
    """How many quarters of a stage are spent; each is worth a line."""
    return int(spent * 4 + 1e-9)
