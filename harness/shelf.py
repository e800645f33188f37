"""Probabilities kept by key in one JSON line each, for every run on this machine: what judges said before.

A line that is damaged is as if it were not there, and a shelf that cannot be written costs no more than asking again.
Lines are added under a lock, so that two runs may use one shelf at once.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from harness import store

MOST_LINES = 200_000  # of one shelf, about 12 MB; then the older half goes
MOST_SHELVES = 64  # one a judge; then the longest unused goes
LOCK_SECONDS = 10.0


class Shelf:
    """What is kept under one name in the cache; read when it is first looked at."""

    def __init__(self, root: Path, name: str) -> None:
        """`name` may be any text: the file goes by its digest."""
        self._folder = root / "verdicts"
        self._path = self._folder / f"{store.digest(name)[:32]}.jsonl"

    def get(self, key: str) -> float | None:
        """The probability under this key, if there is one."""
        return self._kept.get(key)

    def add(self, found: Mapping[str, float]) -> None:
        """Keep these, for this run and later ones."""
        self._kept.update(found)
        lines = "".join(f"{json.dumps({'key': key, 'p': p})}\n" for key, p in found.items())
        with contextlib.suppress(OSError, Timeout):
            self._folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self._folder / ".lock", timeout=LOCK_SECONDS):
                self._append(lines)
                if len(self._kept) > MOST_LINES:
                    self._halve()
                self._clear()

    @functools.cached_property
    def _kept(self) -> dict[str, float]:
        with contextlib.suppress(OSError):
            os.utime(self._path)  # what is in use is never the longest unused
        return self._read()

    def _read(self) -> dict[str, float]:
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return {}
        return dict(entry for line in text.split("\n") if (entry := _parse(line)) is not None)

    def _append(self, lines: str) -> None:
        """Behind a line break of their own, should a killed run have left half a line."""
        with self._path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(lines if file.tell() == 0 or self._ends_a_line() else f"\n{lines}")
            file.flush()
            os.fsync(file.fileno())

    def _ends_a_line(self) -> bool:
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _halve(self) -> None:
        """The newer half of what all runs kept, in a new file."""
        newer = list(self._read().items())[-MOST_LINES // 2 :]
        store.write_jsonl(self._path, ({"key": key, "p": p} for key, p in newer))
        self._kept.clear()
        self._kept.update(newer)

    def _clear(self) -> None:
        """Away with the shelves that were longest unused, down to the most that are kept."""
        shelves = sorted(self._folder.glob("[!.]*.jsonl"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in shelves[MOST_SHELVES:]:
            path.unlink(missing_ok=True)


def _parse(line: str) -> tuple[str, float] | None:
    """Key and probability; None where the line holds none."""
    try:
        entry = json.loads(line)
        key, p = entry["key"], entry["p"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    sound = isinstance(key, str) and isinstance(p, int | float) and not isinstance(p, bool) and 0 <= p <= 1
    return (key, float(p)) if sound else None
