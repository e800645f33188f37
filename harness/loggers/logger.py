"""What a logger is told of a run, and the run's numbers under the names that dashboards know.

A logger shows; it decides nothing and nothing is read back from it. It is no part of a bench: bench.toml and its digest
are the same with and without.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from harness.records import BenchRecord, TrainStep, TrialScores


class Logger(Protocol):
    """Told in this order: `start` once, then steps and scores of one trial after another, at last `finish`.

    A trial is "anchor" or RECIPE@SEED. A trial that an earlier session finished is told whole; after more prompts
    were answered, its scores are told again. Whatever a logger raises ends the logging, and not the run.
    """

    def start(self, bench: BenchRecord) -> None:
        """The run begins, or goes on."""

    def step(self, trial: str, line: TrainStep) -> None:
        """A training step, told once; the anchor's steps are the anchor's alone."""

    def scores(self, trial: str, scores: TrialScores) -> None:
        """All that was measured of a trial that is done."""

    def finish(self) -> None:
        """The session ends: write down what is still held back."""


Make = Callable[[str | None, Path], Logger]
"""Makes a logger of what stands behind the colon on the command line (None where nothing does) and the run's folder.

It raises HarnessError where it cannot work: a library or a key is missing, a server does not answer.
"""

Fact = str | int | float


def readings(line: TrainStep) -> dict[str, float]:
    """A step's numbers by name, in TRL's spelling, the stage's number before it: `stage1/rewards/margins`."""
    own = {k: v for k, v in dataclasses.asdict(line).items() if v is not None and k not in ("stage", "step")}
    spelt = {name: re.sub("^(rewards|logps)_", r"\1/", name) for name in own}
    return {f"stage{line.stage}/{spelt[name]}": float(value) for name, value in own.items()}


def figures(scores: TrialScores) -> dict[str, float]:
    """Every score by name, with the ends of its interval and its n: `scores/kl_nats`, `scores/kl_nats/low`."""
    found: dict[str, float] = {}
    for name, score in scores.scores.items():
        found |= {
            f"scores/{name}": score.value,
            f"scores/{name}/low": score.low,
            f"scores/{name}/high": score.high,
            f"scores/{name}/n": float(score.n),
        }
    return found


def facts(bench: BenchRecord, trial: str) -> dict[str, Fact]:
    """What a trial was made with: the bench's settings and digests, the recipe and its knobs, the seed."""
    own = {k: v for k, v in vars(bench).items() if isinstance(v, str | int | float) and v != ""}
    recipe, _, seed = trial.partition("@")
    knobs = {f"knob/{name}": value for name, value in bench.recipe_knobs.get(recipe, {}).items()}
    return own | {"recipe": recipe} | knobs | ({"seed": int(seed)} if seed else {})
