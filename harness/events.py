"""What happens in a run, as events: each says when. Shown on the terminal, and written down for who follows the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.records import TrainStep

Kind = Literal["start", "plan", "say", "begin", "phase", "step", "done", "failed", "finished", "stopped"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A phase that lies ahead, and how much there is to do in it."""

    what: str  # as the phase is called: "training, dpo", "judging"
    work: float  # in `unit`
    unit: str  # "FLOP", "prompts", "pairs", "verdicts" or "judge"


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """What is still to be done for one trial, or for the anchor and the judges; nothing where it is done."""

    parts: tuple[Part, ...]  # in order


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that happened."""

    at: float  # seconds since 1970
    kind: Kind
    text: str = ""  # begin: the trial; phase: its name; say, done, failed: the line; stopped: why
    step: TrainStep | None = None
    ahead: tuple[Ahead, ...] = ()  # plan: all trials in order, the anchor first
