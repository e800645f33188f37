"""progress.jsonl: what happens in a run, a line an event, so that another process can follow it.

It is no record: nothing is computed from it, and where it cannot be written the run goes on. Each session of a run
begins with a "start"; a line may be cut off where a session was killed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.errors import HarnessError
from harness.events import Ahead, Event, Kind
from harness.plain import on_one_line
from harness.progress import Watch, quarters
from harness.records import TrainStep
from models.failure import ModelError

JOURNAL = "progress.jsonl"
LIMIT_BYTES = 4 * 2**20  # what earlier sessions may have written before they are forgotten
SECONDS_BETWEEN = 0.5  # steps that are written down, at the least
SHARE_BETWEEN = 1 / 200  # of the stage, likewise: so its length does not fill the disk
SECONDS_OF_SILENCE = 10.0  # after which a step is written down all the same


class Journal:
    """Tells the watch what happens, and writes it down. A context manager: leaving it says how the session ended."""

    def __init__(self, path: Path, watch: Watch, clock: Callable[[], float] = time.time) -> None:
        self.watch, self.clock = watch, clock
        self._file = _Lines(path)
        self._pacer = _Pacer()

    def __enter__(self) -> Journal:
        self.watch.__enter__()
        self._tell("start")
        if self._file.problem:
            self.say(f"{JOURNAL} cannot be written ({self._file.problem}): run --watch-only cannot follow this run")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tell("stopped" if error else "finished", text=_reason(error) if error else "")
        self._file.close()
        self.watch.__exit__(kind, error, trace)

    def plan(self, ahead: tuple[Ahead, ...]) -> None:
        """What lies ahead in this session."""
        self._tell("plan", ahead=ahead)

    def say(self, line: str) -> None:
        """One line that stays."""
        self._tell("say", text=line)

    def begin(self, name: str) -> None:
        """A trial (or the anchor) begins."""
        self._tell("begin", text=name)

    def phase(self, what: str) -> None:
        """A phase of it begins."""
        self._pacer = _Pacer()
        self._tell("phase", text=what)

    def step(self, line: TrainStep) -> None:
        """A training step was made."""
        event = Event(at=self.clock(), kind="step", step=line)
        if self._pacer.lets_through(event.at, line.spent):
            self._file.append(event)
        self.watch.show(event)

    def done(self, line: str) -> None:
        """The trial has all its scores."""
        self._tell("done", text=line)

    def failed(self, line: str) -> None:
        """The trial failed; the others go on."""
        self._tell("failed", text=line)

    def _tell(self, kind: Kind, text: str = "", ahead: tuple[Ahead, ...] = ()) -> None:
        event = Event(at=self.clock(), kind=kind, text=on_one_line(text), ahead=ahead)
        self._file.append(event)
        self.watch.show(event)


def _reason(error: BaseException) -> str:
    """Why a session stopped, in a line."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return on_one_line(
        str(error) if isinstance(error, HarnessError | ModelError) else f"{type(error).__name__}: {error}"
    )


class _Pacer:
    """Chooses the steps of a stage that are written down: the first, those that cross a quarter, some between."""

    def __init__(self) -> None:
        self._at, self._spent = float("-inf"), 0.0  # of the last one

    def lets_through(self, at: float, spent: float) -> bool:
        """Whether this step is one of them."""
        waited, advanced = at - self._at, spent - self._spent
        quarter = quarters(spent) > quarters(self._spent)
        enough = waited >= SECONDS_BETWEEN and advanced >= SHARE_BETWEEN
        if chosen := quarter or enough or waited >= SECONDS_OF_SILENCE:
            self._at, self._spent = at, spent
        return chosen


class _Lines:
    """A file that only grows, a line at a time. What goes wrong with it is remembered, and never raised."""

    def __init__(self, path: Path) -> None:
        self.problem = ""
        self._file: int | None = None
        self._torn = False  # the last line may be cut off
        try:
            if path.exists() and path.stat().st_size > LIMIT_BYTES:
                path.unlink()  # a new file: who reads the old one sees that it is another
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            self._torn = os.fstat(self._file).st_size > 0
        except OSError as error:
            self.problem = error.strerror or type(error).__name__

    def append(self, event: Event) -> None:
        """Write the event at once; where there is no room, not."""
        if self._file is None:
            return
        line = f"{'' if not self._torn else chr(10)}{_line(event)}\n".encode()
        try:
            self._torn = os.write(self._file, line) != len(line)
        except OSError:
            self._torn = True

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _line(event: Event) -> str:
    """An event as JSON, without what it does not have."""
    fields: dict[str, Any] = {k: v for k, v in dataclasses.asdict(event).items() if v not in (None, "", ())}
    return json.dumps(fields)
