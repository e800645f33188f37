"""`--log tensorboard[:DIR]`: event files, a folder a trial, by default in the run's own folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.loggers.library import library
from harness.loggers.logger import Logger, facts, figures, readings
from harness.records import BenchRecord, TrainStep, TrialScores

FLUSH_SECONDS = 10


def make(detail: str | None, folder: Path) -> Logger:
    """The logger; DIR is seen from where the command is typed."""
    writers = library("tensorboard", "torch.utils.tensorboard")
    target = Path(detail).expanduser() if detail else folder / "tensorboard"
    if target.exists() and not target.is_dir():
        raise HarnessError(f"--log tensorboard:{detail}: {target} is a file: name a folder")
    return TensorBoard(writers, target)


class TensorBoard:
    """Writes each trial's steps and scores as scalars, and what it was made with as text."""

    def __init__(self, writers: Any, folder: Path) -> None:
        self.writers, self.folder = writers, folder
        self._open: dict[str, Any] = {}

    def start(self, bench: BenchRecord) -> None:
        """Remember what is compared."""
        self._bench = bench

    def step(self, trial: str, line: TrainStep) -> None:
        """A point of every curve."""
        writer = self._writer(trial)
        for name, value in readings(line).items():
            writer.add_scalar(name, value, line.step)

    def scores(self, trial: str, scores: TrialScores) -> None:
        """A point each, at 0."""
        writer = self._writer(trial)
        for name, value in figures(scores).items():
            writer.add_scalar(name, value, 0)
        writer.flush()

    def finish(self) -> None:
        """Close the files."""
        for writer in self._open.values():
            writer.close()
        self._open.clear()

    def _writer(self, trial: str) -> Any:
        """The trial's own; what an earlier session wrote of it is purged, so that no curve is drawn twice."""
        if trial not in self._open:
            writer = self.writers.SummaryWriter(self.folder / trial, purge_step=0, flush_secs=FLUSH_SECONDS)
            lines = (f"| {name} | {value} |" for name, value in facts(self._bench, trial).items())
            writer.add_text("what", "\n".join(("| | |", "|---|---|", *lines)), 0)
            self._open[trial] = writer
        return self._open[trial]
