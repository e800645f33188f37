"""How long a run will take: what lies ahead, at the speed of what was done since the run was begun or gone on with.

Phases differ in length and in kind, so each is timed on its own, by the work in it: seconds a FLOP for training,
seconds a prompt for completions. What was done before, or lay in the cache, counts neither as work nor as speed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from harness.events import Ahead, Part

MEMORY = 0.5  # weight of earlier measurements beside the newest: the machine may be busier than it was


@dataclass(frozen=True, kw_only=True)
class Left:
    """The seconds left, as they were known at a moment; they count down from there and never go below zero."""

    at: float  # the moment, in seconds since 1970
    phase: float | None  # of what is being done; None where it is not known
    rest: float  # of what comes after it, as far as it is known
    whole: bool  # everything ahead is known; else it takes longer than this

    def of_phase(self, now: float) -> float | None:
        """What is left of the phase."""
        return None if self.phase is None else max(0.0, self.phase - max(0.0, now - self.at))

    def of_bench(self, now: float) -> float:
        """What is left of everything."""
        return self.rest + (self.of_phase(now) or 0.0)


@dataclass(frozen=True, kw_only=True)
class _Speed:
    """What some work took."""

    seconds: float = 0.0
    work: float = 0.0

    def seen(self, seconds: float, work: float) -> _Speed:
        """With a newer measurement."""
        return _Speed(seconds=MEMORY * self.seconds + seconds, work=MEMORY * self.work + work)

    def seconds_for(self, work: float) -> float:
        return work * self.seconds / self.work


@dataclass(frozen=True, kw_only=True)
class _Running:
    """The phase that is being done, and the share of it that is spent, where it says so."""

    part: Part
    began: float  # seconds since 1970
    first: tuple[float, float] | None = None  # its first step: when, and the share spent
    last: tuple[float, float] | None = None

    def stepped(self, at: float, spent: float) -> _Running:
        """After a step."""
        return replace(self, first=self.first or (at, spent), last=(at, spent))

    @property
    def pace(self) -> float | None:
        """Seconds that the whole phase takes by its own steps; the start of the first one does not count."""
        if self.first is None or self.last is None or self.last[1] <= self.first[1]:
            return None
        return (self.last[0] - self.first[0]) / (self.last[1] - self.first[1])


class Forecast:
    """Told what happens and when; `left` is what it makes of it."""

    def __init__(self) -> None:
        self.left: Left | None = None  # None until something is planned
        self._later: list[Ahead] = []  # trials that have not begun
        self._rest: list[Part] = []  # of the trial that has, after the phase that is being done
        self._running: _Running | None = None
        self._speeds: dict[str, _Speed] = {}  # phase → what it took; "FLOP" → what any training took

    @property
    def part(self) -> Part | None:
        """What is being done, and how much of it there is."""
        return self._running.part if self._running else None

    def plan(self, at: float, ahead: Iterable[Ahead]) -> None:
        """All that lies ahead, in order."""
        self._later = list(ahead)
        self._look(at)

    def begin(self, at: float) -> None:
        """The next trial begins."""
        self._running = None
        self._rest = list(self._later.pop(0).parts) if self._later else []
        self._look(at)

    def phase(self, at: float, what: str) -> None:
        """Its next phase begins. One that nobody planned is not counted."""
        self._learn(at)
        part = next((part for part in self._rest if part.what == what), None)
        if part is not None:
            self._rest.remove(part)
        self._running = _Running(part=part or Part(what=what, work=0.0, unit=""), began=at)
        self._look(at)

    def step(self, at: float, spent: float) -> None:
        """The phase has spent this share of its budget."""
        if self._running is not None:
            self._running = self._running.stepped(at, spent)
        self._look(at)

    def done(self, at: float, *, failed: bool = False) -> None:
        """The trial has all its scores, or failed: then how long its last phase took says nothing."""
        if not failed:
            self._learn(at)
        self._running, self._rest = None, []
        self._look(at)

    def _learn(self, at: float) -> None:
        """Time the phase that ends."""
        if self._running is not None and (part := self._running.part).work > 0:
            for key in (part.what, part.unit) if part.unit == "FLOP" else (part.what,):
                known = self._speeds.get(key, _Speed())
                self._speeds[key] = known.seen(max(0.0, at - self._running.began), part.work)

    def _look(self, at: float) -> None:
        """Add up what lies ahead."""
        phase = self._of_running(at)
        coming = [*self._rest, *(part for trial in self._later for part in trial.parts)]
        known = [self._seconds(part) for part in coming]
        self.left = Left(
            at=at,
            phase=phase,
            rest=sum(seconds for seconds in known if seconds is not None),
            whole=None not in known and (phase is not None or self._running is None),
        )

    def _of_running(self, at: float) -> float | None:
        """What is left of the phase: by its own steps the more of them there were, else by how long others took."""
        if self._running is None:
            return None
        expected, pace = self._seconds(self._running.part), self._running.pace
        if pace is None:
            return None if expected is None else max(0.0, expected - (at - self._running.began))
        assert self._running.last is not None  # it has a pace
        spent = self._running.last[1]
        whole = pace if expected is None else spent * pace + (1 - spent) * expected
        return max(0.0, 1 - spent) * whole

    def _seconds(self, part: Part) -> float | None:
        """What a part takes, by what the same took before; training, by any training. None where there was none."""
        speed = self._speeds.get(part.what) or (self._training() if part.unit == "FLOP" else None)
        return speed.seconds_for(part.work) if speed else None

    def _training(self) -> _Speed | None:
        """All training so far; before any has ended, that which is being done."""
        running = self._running
        if "FLOP" in self._speeds or running is None or running.pace is None or running.part.unit != "FLOP":
            return self._speeds.get("FLOP")
        return _Speed(seconds=running.pace, work=running.part.work)
