"""Follows a run that another process is at: shows what its journal says, and how its session ended."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from harness.errors import HarnessError
from harness.events import Event
from harness.journal import JOURNAL
from harness.progress import Watch

SECONDS_BETWEEN_LOOKS = 0.25
_EVENT = TypeAdapter(Event)


@dataclass(frozen=True, kw_only=True)
class Stop:
    """A session that ended before its run was done."""

    where: str  # "3/8 sft@0: judging"; empty where no trial had begun
    why: str  # "interrupted", "killed", or the error

    def line(self, folder: Path) -> str:
        """What happened, and the command that goes on."""
        place = shlex.quote(str(folder))
        command = f"python -m harness run --config {shlex.quote(str(folder / 'bench.toml'))} --out {place}"
        return f"stopped{f' at {self.where}' if self.where else ''} ({self.why}); to go on: {command}"


def follow(folder: Path, watch: Watch, wait: Callable[[float], None] = time.sleep) -> Stop | None:
    """Show the run in this folder until its session ends; None where the run came to its end.

    HarnessError where the folder holds nothing to follow.
    """
    if not (folder / JOURNAL).is_file():
        raise HarnessError(f"{folder} holds no run to watch (no {JOURNAL}): give the folder that `run --out` made")
    with watch:
        for event in _happenings(folder, wait):
            if event.kind == "finished":
                return None
            if event.kind == "stopped":
                return Stop(where=watch.where, why=event.text)
            watch.show(event)
    return Stop(where=watch.where, why="killed")


def _happenings(folder: Path, wait: Callable[[float], None]) -> Iterator[Event]:
    """The events of the last session and of those that follow, as they come, until nobody is at work there."""
    tail = Tail(folder / JOURNAL)
    at_work = is_at_work(folder)  # asked before the journal is read: what is written last is never missed
    events = _last_session(tail.read())
    while at_work and events and events[-1].kind in ("finished", "stopped"):  # another session is about to begin
        wait(SECONDS_BETWEEN_LOOKS)
        at_work = is_at_work(folder)
        events = _last_session(events + tail.read())
    while True:
        yield from events
        if not at_work:
            return
        if not events:
            wait(SECONDS_BETWEEN_LOOKS)
        at_work = is_at_work(folder)
        events = tail.read()


def _last_session(events: list[Event]) -> list[Event]:
    """From the last start on."""
    starts = [place for place, event in enumerate(events) if event.kind == "start"]
    return events[starts[-1] :] if starts else []


def is_at_work(folder: Path) -> bool:
    """Whether a process holds the folder's lock."""
    lock = folder / ".lock"
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except (Timeout, OSError):  # held, or another's, who alone may ask: then its journal has to say
        return True


class Tail:
    """Reads a journal as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inode, self._offset = 0, 0

    def read(self) -> list[Event]:
        """The events written since the last call. A line that is not whole yet is left for the next one."""
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self._inode, self._offset = status.st_ino, 0
                file.seek(self._offset)
                whole, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return []
        self._offset += len(whole) + len(newline)
        return [event for line in whole.split(b"\n") if (event := _event(line)) is not None]


def _event(line: bytes) -> Event | None:
    """The event in a line; None where it is cut off, or from another version."""
    try:
        return _EVENT.validate_json(line)
    except ValidationError:
        return None
