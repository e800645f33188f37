"""Tells loggers what happens in a run: it hears the same events as the terminal, and reads the records besides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from rich.console import Console

from harness import store
from harness.errors import HarnessError
from harness.events import Event
from harness.loggers.logger import Logger
from harness.plain import on_one_line
from harness.progress import Watch
from harness.records import BenchRecord, TrainStep, TrialScores

ANCHOR = "anchor"


class Relay:
    """Passes a run on to its loggers. One that fails is said so once and told nothing more; the run goes on."""

    def __init__(self, loggers: Mapping[str, Logger], folder: Path, say: Callable[[str], None]) -> None:
        self.loggers, self.folder, self.say = dict(loggers), folder, say
        self._started = False
        self._trial = ANCHOR
        self._anchors: frozenset[TrainStep] = frozenset()  # steps, read once a trial
        self._told: set[tuple[str, int, int]] = set()  # trial, stage, step

    def hear(self, event: Event) -> None:
        """One thing happened: its records, where it has any, lie in the run's folder already."""
        if not self.loggers:
            return
        try:
            self._pass_on(event)
        except HarnessError as error:  # a record is damaged: the run will say what to do, if it needs it
            self._drop(list(self.loggers), error)

    def _pass_on(self, event: Event) -> None:
        match event.kind:
            case "begin":
                self._trial = event.text if "@" in event.text else ANCHOR
                self._anchors = frozenset(self._steps(ANCHOR) if self._trial != ANCHOR else ())
                self._start()
            case "step" if event.step is not None:
                self._step(event.step)
            case "done":
                self._done()
            case "finished" | "stopped":
                self._tell(lambda logger: logger.finish())

    def _start(self) -> None:
        if not self._started:
            bench = store.read_json(self.folder / "record.json", BenchRecord)
            self._tell(lambda logger: logger.start(bench))
        self._started = True

    def _step(self, line: TrainStep) -> None:
        """A stage may be trained twice, for its weights on the way; and the anchor in a trial, if the cache lost it."""
        trial, place = self._trial, (self._trial, line.stage, line.step)
        if place not in self._told and line not in self._anchors:
            self._told.add(place)
            self._tell(lambda logger: logger.step(trial, line))

    def _done(self) -> None:
        """What was computed in an earlier session, or by another run, is told now."""
        for line in self._steps(self._trial):
            self._step(line)
        path = self._records(self._trial) / "scores.json"
        if path.exists():
            scores, trial = store.read_json(path, TrialScores), self._trial
            self._tell(lambda logger: logger.scores(trial, scores))

    def _steps(self, trial: str) -> tuple[TrainStep, ...]:
        path = self._records(trial) / "train.jsonl"
        return store.read_jsonl(path, TrainStep) if path.exists() else ()

    def _records(self, trial: str) -> Path:
        return self.folder / ANCHOR if trial == ANCHOR else self.folder / "trials" / trial

    def _tell(self, tell: Callable[[Logger], None]) -> None:
        for spec, logger in list(self.loggers.items()):
            try:
                tell(logger)
            except (Exception, SystemExit) as error:  # a network, a full disk, a stranger's code
                self._drop([spec], error)

    def _drop(self, specs: Iterable[str], error: BaseException) -> None:
        reason = str(error) if isinstance(error, HarnessError) else f"{type(error).__name__}: {error}"
        for spec in specs:
            del self.loggers[spec]
            self.say(f"--log {spec} failed and is told nothing more, the run goes on ({on_one_line(reason)[:300]})")


class LoggedWatch(Watch):
    """Shows a run to a person and tells it to loggers."""

    def __init__(self, console: Console, loggers: Mapping[str, Logger], folder: Path) -> None:
        super().__init__(console)
        self._relay = Relay(loggers, folder, self._say)

    def show(self, event: Event) -> None:
        """As ever, and to the loggers."""
        super().show(event)
        self._relay.hear(event)
