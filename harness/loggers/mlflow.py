"""`--log mlflow[:EXPERIMENT]`: MLflow, a run a trial, in the store that MLFLOW_TRACKING_URI names, or its default."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.loggers.library import library
from harness.loggers.logger import Logger, facts, figures, readings
from harness.records import BenchRecord, TrainStep, TrialScores

AT_ONCE = 500  # metrics that are held back before they are sent: a step has a dozen
LONGEST = 500  # characters of a parameter
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}  # seconds; else many minutes


def make(detail: str | None, folder: Path) -> Logger:
    """The logger; HarnessError where its store does not answer."""
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    mlflow = library("mlflow")
    client = mlflow.MlflowClient()
    try:
        client.search_experiments(max_results=1)
    except Exception as error:  # the library's own, and those of what it stands on
        reason = " ".join(str(error).split())[:200]
        raise HarnessError(f"--log mlflow: {mlflow.get_tracking_uri()} does not answer ({reason}): start it") from error
    return MLflow(mlflow, client, detail or "prefbench")


class MLflow:
    """Sends metrics by the hundred. A trial that is gone on with goes on in its run, found by its tag."""

    def __init__(self, mlflow: Any, client: Any, experiment: str) -> None:
        self.mlflow, self.client, self.experiment = mlflow, client, experiment
        self._runs: dict[str, str] = {}  # trial → run id
        self._held: dict[str, list[Any]] = {}  # trial → metrics

    def start(self, bench: BenchRecord) -> None:
        """Find the experiment, or make it."""
        self._bench = bench
        found = self.client.get_experiment_by_name(self.experiment)
        self._experiment = found.experiment_id if found else self.client.create_experiment(self.experiment)

    def step(self, trial: str, line: TrainStep) -> None:
        """Metrics at their step."""
        self._hold(trial, readings(line), line.step)
        if len(self._held[trial]) > AT_ONCE:
            self._send(trial)

    def scores(self, trial: str, scores: TrialScores) -> None:
        """Metrics at 0; the run is done."""
        self._hold(trial, figures(scores), 0)
        self._send(trial)
        self.client.set_terminated(self._run_of(trial))

    def finish(self) -> None:
        """Send what is held back."""
        for trial in list(self._held):
            self._send(trial)

    def _hold(self, trial: str, values: Mapping[str, float], step: int) -> None:
        now, metric = int(1000 * time.time()), self.mlflow.entities.Metric
        held = self._held.setdefault(trial, [])
        held.extend(metric(re.sub(r"[^\w./ -]", "_", name), value, now, step) for name, value in values.items())

    def _send(self, trial: str) -> None:
        if held := self._held.pop(trial, []):
            for start in range(0, len(held), AT_ONCE):
                self.client.log_batch(self._run_of(trial), metrics=held[start : start + AT_ONCE])
        self._held[trial] = []

    def _run_of(self, trial: str) -> str:
        if trial not in self._runs:
            tag = f"{self._bench.digest[:12]}-{trial}"
            found = self.client.search_runs([self._experiment], f"tags.prefbench = '{tag}'", max_results=1)
            self._runs[trial] = found[0].info.run_id if found else self._begin(trial, tag)
        return self._runs[trial]

    def _begin(self, trial: str, tag: str) -> str:
        run = self.client.create_run(self._experiment, run_name=trial, tags={"prefbench": tag})
        parameter = self.mlflow.entities.Param
        params = [parameter(name, str(value)[:LONGEST]) for name, value in facts(self._bench, trial).items()]
        self.client.log_batch(run.info.run_id, params=params)
        made: str = run.info.run_id
        return made
