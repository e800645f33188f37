"""`--log wandb[:PROJECT]`: Weights & Biases, a run a trial, those of one bench in a group.

WANDB_MODE=offline keeps them in the run's folder, for `wandb sync`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.loggers.library import library
from harness.loggers.logger import Logger, facts, figures, readings
from harness.records import BenchRecord, TrainStep, TrialScores


def make(detail: str | None, folder: Path) -> Logger:
    """The logger; where nobody is logged in, W&B asks for a key now, or this is a HarnessError where it cannot ask."""
    wandb = library("wandb")
    if os.environ.get("WANDB_MODE", "online") not in ("offline", "disabled", "dryrun"):
        try:
            wandb.login()
        except wandb.errors.UsageError as error:
            raise HarnessError("--log wandb has no key: wandb login, or set WANDB_MODE=offline") from error
    return WeightsAndBiases(wandb, detail or "prefbench", folder)


class WeightsAndBiases:
    """One run after another, as the trials come. A trial that is gone on with goes on in its run."""

    def __init__(self, wandb: Any, project: str, folder: Path) -> None:
        self.wandb, self.project, self.folder = wandb, project, folder
        self._trial, self._run = "", None
        self._stages: set[int] = set()  # that have an axis in this run

    def start(self, bench: BenchRecord) -> None:
        """Remember what is compared."""
        self._bench = bench

    def step(self, trial: str, line: TrainStep) -> None:
        """A row, on its stage's own axis."""
        run, axis = self._run_of(trial), f"stage{line.stage}/step"
        if line.stage not in self._stages:
            self._stages.add(line.stage)
            run.define_metric(axis)
            run.define_metric(f"stage{line.stage}/*", step_metric=axis)
        run.log({**readings(line), axis: line.step})

    def scores(self, trial: str, scores: TrialScores) -> None:
        """The run's summary."""
        self._run_of(trial).summary.update(figures(scores))

    def finish(self) -> None:
        """End the run that is open."""
        if self._run is not None:
            self._run.finish()
        self._trial, self._run = "", None

    def _run_of(self, trial: str) -> Any:
        if trial != self._trial:
            self.finish()
            self._stages.clear()
            self._run = self.wandb.init(
                project=self.project,
                group=self._bench.digest[:12],
                name=trial,
                id=f"{self._bench.digest[:12]}-{trial}",
                resume="allow",
                config=facts(self._bench, trial),
                dir=self.folder,
                settings=self.wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True),
            )
            self._trial = trial
        return self._run
