"""What a command is doing, for those who wait: with a running clock on a terminal, a line a phase when piped."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from harness.plain import on_one_line


class Phases:
    """One phase after another, each until the next begins. A context manager: leaving it takes the last one away."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Phases:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, what: str) -> None:
        """A phase begins, and the one before it is over."""
        if not self._console.is_terminal:
            self.say(what)
            return
        for phase in self._progress.task_ids:
            self._progress.remove_task(phase)
        self._progress.add_task(on_one_line(what), total=None)

    def say(self, line: str) -> None:
        """One line that stays."""
        self._console.print(on_one_line(line), highlight=False, markup=False, soft_wrap=True)
