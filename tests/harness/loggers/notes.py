"""A logger double that writes down its calls, installed as a stranger's package would install it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.records import BenchRecord, TrainStep, TrialScores

CODE = '''"""A stranger's logger."""

from tests.harness.loggers.notes import MADE, Notes


def make(detail, folder):
    {fault}
    MADE[detail] = Notes(fails_at={fails_at!r})
    return MADE[detail]
'''


@dataclass(kw_only=True)
class Notes:
    """Remembers what it was told; raises when `fails_at` is called."""

    fails_at: str = ""
    error: type[BaseException] = ConnectionError
    calls: list[str] = field(default_factory=list)  # by name
    bench: BenchRecord | None = None
    steps: dict[str, list[TrainStep]] = field(default_factory=dict)  # by trial
    scored: dict[str, list[TrialScores]] = field(default_factory=dict)

    def start(self, bench: BenchRecord) -> None:
        self._note("start")
        self.bench = bench

    def step(self, trial: str, line: TrainStep) -> None:
        self._note("step")
        self.steps.setdefault(trial, []).append(line)

    def scores(self, trial: str, scores: TrialScores) -> None:
        self._note("scores")
        self.scored.setdefault(trial, []).append(scores)

    def finish(self) -> None:
        self._note("finish")

    def _note(self, what: str) -> None:
        self.calls.append(what)
        if what == self.fails_at:
            raise self.error("the network\nis gone")


MADE: dict[str | None, Notes] = {}  # by what stood behind the colon


def install_logger(folder: Path, patch: pytest.MonkeyPatch, *, fault: str = "pass", fails_at: str = "") -> None:
    """Install a package with the logger `notes`, for as long as the patch lasts."""
    described = folder / "notes-1.0.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: notes\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text("[harness.loggers]\nnotes = notes_logger:make\n")
    (folder / "notes_logger.py").write_text(CODE.format(fault=fault, fails_at=fails_at))
    patch.syspath_prepend(folder)
    patch.delitem(sys.modules, "notes_logger", raising=False)
    MADE.clear()
