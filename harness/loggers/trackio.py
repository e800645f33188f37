"""`--log trackio[:PROJECT]`: Trackio, a run a trial, kept on this machine; `trackio show` opens them."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

from harness.loggers.library import library
from harness.loggers.logger import Logger, facts, figures, readings
from harness.records import BenchRecord, TrainStep, TrialScores


def make(detail: str | None, folder: Path) -> Logger:
    """The logger."""
    return Trackio(library("trackio"), detail or "prefbench")


class Trackio:
    """One run after another, as the trials come. A trial that is gone on with goes on in its run."""

    def __init__(self, trackio: Any, project: str) -> None:
        self.trackio, self.project = trackio, project
        self._trial, self._run = "", None

    def start(self, bench: BenchRecord) -> None:
        """Remember what is compared."""
        self._bench = bench

    def step(self, trial: str, line: TrainStep) -> None:
        """A row at its step."""
        self._run_of(trial).log(readings(line), step=line.step)

    def scores(self, trial: str, scores: TrialScores) -> None:
        """A row at 0."""
        self._run_of(trial).log(figures(scores), step=0)

    def finish(self) -> None:
        """End the run that is open."""
        if self._run is not None:
            with contextlib.redirect_stdout(io.StringIO()):  # it chats, where the run's progress is
                self._run.finish()
        self._trial, self._run = "", None

    def _run_of(self, trial: str) -> Any:
        if trial != self._trial:
            self.finish()
            with contextlib.redirect_stdout(io.StringIO()):
                self._run = self._open(trial)
            self._trial = trial
        return self._run

    def _open(self, trial: str) -> Any:
        bench = self._bench.digest[:12]
        return self.trackio.init(
            project=self.project,
            name=f"{bench}-{trial}",
            group=bench,
            config=facts(self._bench, trial),
            resume="allow",
            embed=False,
        )
