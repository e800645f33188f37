"""What a person sees while a bench runs: a live bar on a terminal, plain lines when piped."""

from __future__ import annotations

import os
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TaskProgressColumn, TextColumn
from rich.table import Column
from rich.text import Text

from harness.plain import on_one_line
from harness.records import TrainStep

PHASES = 5  # of a trial: training, completions, samples, held-out pairs, verdicts; taken to be equally long
WIDE = 100  # characters from which on there is room for the time that has passed


class Terminal(Console):
    """A console that falls silent where the reader of its pipe has gone, instead of ending the run."""

    def on_broken_pipe(self) -> None:
        """What Rich calls; its own way is to exit."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


class Watch:
    """Told by the conductor what happens; says it. `total` is the number of trials, plus one for the anchor."""

    def __init__(self, console: Console, total: int) -> None:
        self.console, self.total = console, total
        self.live = console.is_terminal
        gives_way = Column(no_wrap=True, overflow="ellipsis", ratio=1)  # alone: so nothing wraps and nothing jumps
        self._bars = Progress(
            TextColumn("{task.description}", markup=False, table_column=gives_way),
            BarColumn(bar_width=20 if console.width >= WIDE else 8),
            TaskProgressColumn(text_format="{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=True)),
            Clock(both=console.width >= WIDE),
            console=console,
            transient=True,
            expand=True,
            disable=not self.live,
            speed_estimate_period=24 * 3600,  # trials take minutes, and the time left is judged from all of them
        )
        self._whole: TaskID | None = None
        self._part: TaskID | None = None
        self._begun = 0
        self._phase = 0
        self._started = time.monotonic()
        self._quarter = 0
        self._where = ""

    def __enter__(self) -> Watch:
        self._bars.start()
        self._whole = self._bars.add_task("bench", total=self.total, note=f"0 of {self.total} done")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def say(self, line: str) -> None:
        """One line that stays."""
        self.console.print(on_one_line(line), highlight=False, markup=False, soft_wrap=True)

    def begin(self, name: str) -> None:
        """A trial (or the anchor) begins."""
        self._begun += 1
        self._phase = 0
        self._where = f"{self._begun}/{self.total} {name}"

    def phase(self, what: str) -> None:
        """A part of a trial whose length is not known ahead: writing completions, judging."""
        self._quarter = 0
        self._phase += 1
        if not self.live:
            self.say(f"[{self._clock()}] {self._where}: {what}")
            return
        self._advance(0.0)
        if self._part is not None:
            self._bars.remove_task(self._part)
        self._part = self._bars.add_task(f"{self._where}: {what}", total=None, note="")

    def step(self, line: TrainStep) -> None:
        """A training step: the bar shows the share of the stage's budget that is spent."""
        margin = "" if line.rewards_margins is None else f" margin {line.rewards_margins:+.3f}"
        note = f"loss {line.loss:.3f}{margin}"
        if not self.live:
            if int(line.spent * 4 + 1e-9) > self._quarter:
                self._quarter = int(line.spent * 4 + 1e-9)
                self.say(f"[{self._clock()}] {self._where}: {line.spent:.0%} of the stage spent, {note}")
            return
        self._advance(line.spent)
        if self._part is not None:
            self._bars.update(self._part, total=1.0, completed=line.spent, note=note)

    def done(self, line: str) -> None:
        """The trial has all its scores."""
        self.say(f"[{self._clock()}] {self._where}: {line}")
        if self._whole is not None:
            self._bars.update(self._whole, completed=self._begun, note=f"{self._begun} of {self.total} done")

    def _advance(self, share: float) -> None:
        """Move the bench's bar to where this phase is, so that its time left is known from the first step on."""
        if self._whole is not None:
            within = min(self._phase - 1 + share, PHASES - 0.5) / PHASES
            self._bars.update(self._whole, completed=self._begun - 1 + within)

    def _clock(self) -> str:
        return minutes(time.monotonic() - self._started)


class Clock(ProgressColumn):
    """The time left, as far as it can be told; with `both`, after the time that has passed."""

    def __init__(self, *, both: bool) -> None:
        super().__init__(table_column=Column(no_wrap=True, justify="right"))
        self.both = both

    def render(self, task: Task) -> Text:
        """The column's text for one bar."""
        passed = minutes(task.elapsed or 0) if self.both or task.total is None else ""
        left = "" if task.time_remaining is None or not task.completed else f"{minutes(task.time_remaining)} left"
        return Text(", ".join(part for part in (passed, left) if part))


def minutes(seconds: float) -> str:
    """Seconds as m:ss."""
    whole, rest = divmod(int(seconds), 60)
    return f"{whole}:{rest:02d}"
