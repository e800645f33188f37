"""Two live bars on a terminal: the whole bench, and below it what is being done. Nothing where there is no terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TaskProgressColumn, TextColumn
from rich.table import Column
from rich.text import Text

MIDDLE = 80  # characters from which on there is room for bars beside the names and numbers
WIDE = 100  # and for the time that has passed
WIDEST = 120  # and for longer bars


class Timing(NamedTuple):
    """What a bar says of time: since when, and what is left at a moment, in words."""

    since: float  # seconds since 1970
    left: Callable[[float], str]


class Bars:
    """Shows how far the bench and its present phase are."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        gives_way = Column(no_wrap=True, overflow="ellipsis", ratio=1)  # alone: so nothing wraps and nothing jumps
        bars = [BarColumn(bar_width=20 if console.width >= WIDEST else 8)] if console.width >= MIDDLE else []
        self.progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=gives_way),
            *bars,
            TaskProgressColumn(text_format="{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=True)),
            Clock(clock, both=console.width >= WIDE),
            console=console,
            transient=True,
            expand=True,
            disable=not console.is_terminal,
        )
        self._whole: TaskID | None = None
        self._part: TaskID | None = None
        self._share = 0.0

    def begin(self, timing: Timing) -> None:
        """The bench's bar, from nothing."""
        for bar in self.progress.task_ids:
            self.progress.remove_task(bar)
        self._part, self._share = None, 0.0
        self._whole = self.progress.add_task("bench", total=None, note="", timing=timing)

    def move(self, share: float, note: str) -> None:
        """The bench has come so far; its bar never goes back."""
        self._share = max(self._share, share)
        if self._whole is not None:
            self.progress.update(self._whole, total=1.0, completed=self._share, note=note)

    def begin_part(self, what: str, timing: Timing, note: str = "") -> None:
        """Another phase: its bar moves to and fro until it says how far it is."""
        if self._part is not None:
            self.progress.remove_task(self._part)
        self._part = self.progress.add_task(what, total=None, note=note, timing=timing)

    def move_part(self, share: float, note: str) -> None:
        """The phase has come so far."""
        if self._part is not None:
            self.progress.update(self._part, total=1.0, completed=share, note=note)


class Clock(ProgressColumn):
    """The time left, as far as it can be told; with `both`, after the time that has passed."""

    def __init__(self, clock: Callable[[], float], *, both: bool) -> None:
        super().__init__(table_column=Column(no_wrap=True, justify="right"))
        self.clock, self.both = clock, both

    def render(self, task: Task) -> Text:
        """The column's text for one bar."""
        timing: Timing = task.fields["timing"]
        now = self.clock()
        left = timing.left(now)
        passed = minutes(now - timing.since) if self.both or not left else ""
        return Text(", ".join(part for part in (passed, left) if part))


def minutes(seconds: float) -> str:
    """Seconds as m:ss, from an hour on as h:mm:ss."""
    whole, rest = divmod(max(0, int(seconds)), 60)
    hours, whole = divmod(whole, 60)
    return f"{hours}:{whole:02d}:{rest:02d}" if hours else f"{whole}:{rest:02d}"
