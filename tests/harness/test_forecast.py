"""The time left is never wildly wrong: every phase is timed on its own, by the work in it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import pytest

from harness.events import Ahead, Part
from harness.forecast import Forecast, Left

# Seconds a unit of work: of training, prompts read and written, pairs, verdicts.
SPEED = {"sft": 6.0, "dpo": 6.6, "writing": 0.1, "sampling": 0.25, "reading": 0.02, "judging": 0.05, "fitting": 30.0}
STEPS = 20  # of a stage


def part(what: str, work: float) -> Part:
    return Part(what=what, work=work, unit="FLOP" if what in ("sft", "dpo") else "prompts")


def trial(*training: tuple[str, float]) -> Ahead:
    measuring = (part("writing", 128), part("sampling", 128), part("reading", 256), part("judging", 128))
    return Ahead(parts=(*(part(*stage) for stage in training), *measuring))


ANCHOR = Ahead(parts=(part("sft", 4), part("writing", 128), part("reading", 256), part("fitting", 1)))
SFT, DPO = trial(("sft", 10)), trial(("dpo", 6))
DONE = Ahead(parts=())
CORE = (ANCHOR, SFT, *6 * (DPO,))


class Moment(NamedTuple):
    """What was forecast at a moment, and what came true."""

    at: float
    trials: int  # that are done by then
    left: Left
    really: float = 0.0  # seconds left

    @property
    def error(self) -> float:
        """Of the time forecast, as a share of the time really left."""
        return abs(self.left.of_bench(self.at) - self.really) / self.really


class Bench:
    """Plays a bench to a forecast: every phase takes as long as `takes` says."""

    def __init__(self, plan: Sequence[Ahead], takes: Callable[[Part], float]) -> None:
        self.plan, self.takes = plan, takes
        self.forecast, self.at = Forecast(), 1000.0

    def moments(self) -> list[Moment]:
        """After each event, and how long it really took from there."""
        found = list(self._played())
        return [moment._replace(really=self.at - moment.at) for moment in found]

    def _played(self) -> Iterator[Moment]:
        self.forecast.plan(self.at, self.plan)
        for number, ahead in enumerate(self.plan):
            self.forecast.begin(self.at)
            for piece in ahead.parts:
                yield from self._phase(piece, number)
            self.forecast.done(self.at)
            yield self._moment(number + 1)

    def _phase(self, piece: Part, trials: int) -> Iterator[Moment]:
        self.forecast.phase(self.at, piece.what)
        yield self._moment(trials)
        seconds = self.takes(piece)
        for step in range(1, STEPS + 1) if piece.unit == "FLOP" else ():
            self.at += seconds / STEPS
            self.forecast.step(self.at, step / STEPS)
            yield self._moment(trials)
        self.at += 0.0 if piece.unit == "FLOP" else seconds

    def _moment(self, trials: int) -> Moment:
        assert self.forecast.left is not None
        return Moment(at=self.at, trials=trials, left=self.forecast.left)


def steady(piece: Part) -> float:
    return SPEED[piece.what] * piece.work


def noisy(spread: float, seed: int) -> Callable[[Part], float]:
    """A machine that is now faster, now slower, by as much as this."""
    draw = random.Random(seed)
    return lambda piece: steady(piece) * draw.uniform(1 - spread, 1 + spread)


@pytest.mark.parametrize("seed", range(20))
def test_after_the_first_trial_the_error_is_15_percent_at_most(seed: int) -> None:
    """Though it trained 10 units where the others train 6, and phases take now 10% more, now 10% less.

    Judged down to the last minute: an error of seconds is a large share of nothing.
    """
    moments = Bench(CORE, noisy(0.1, seed)).moments()
    known = [moment for moment in moments if moment.trials >= 2 and moment.really > 60]
    assert len(known) > 100
    assert max(moment.error for moment in known) <= 0.15


def test_on_a_steady_machine_it_is_exact_once_a_stage_of_each_kind_has_shown_its_speed() -> None:
    """Phases of seven kinds, and nothing is taken for another's."""
    moments = Bench(CORE, steady).moments()
    known = [moment for moment in moments if moment.trials >= 3 and moment.really > 0]
    assert max(moment.error for moment in known) < 0.001


def test_before_all_phases_were_seen_it_says_that_there_is_more() -> None:
    """Nobody knows yet how long judging takes, so nothing is promised."""
    moments = Bench(CORE, steady).moments()
    first = [moment for moment in moments if moment.trials < 2]
    assert not any(moment.left.whole for moment in first)
    assert all(moment.left.of_bench(moment.at) <= moment.really for moment in first)


def test_it_is_whole_from_the_first_trial_on() -> None:
    """From then on the time is told without a doubt."""
    assert all(moment.left.whole for moment in Bench(CORE, steady).moments() if moment.trials >= 2)


@pytest.mark.parametrize("seed", range(5))
def test_it_never_goes_below_zero(seed: int) -> None:
    """However long a phase outlasts what was expected of it."""
    for moment in Bench(CORE, noisy(0.9, seed)).moments():
        assert all(moment.left.of_bench(moment.at + later) >= 0 for later in (0, 10, 1000))
        assert (moment.left.of_phase(moment.at + 1000) or 0) >= 0


def test_it_counts_down_between_events() -> None:
    """A second later it is a second less, as long as the phase has time left."""
    moments = [moment for moment in Bench(CORE, steady).moments() if (moment.left.phase or 0) > 5]
    assert moments
    for moment in moments:
        assert moment.left.of_bench(moment.at) - moment.left.of_bench(moment.at + 5) == pytest.approx(5)


def test_it_counts_down_from_event_to_event() -> None:
    """On a steady machine it only ever falls."""
    moments = [moment for moment in Bench(CORE, steady).moments() if moment.trials >= 3]
    told = [moment.left.of_bench(moment.at) for moment in moments]
    assert told == sorted(told, reverse=True)


def test_a_phase_that_outlasts_its_time_does_not_eat_that_of_others() -> None:
    """What comes after it is still to come."""
    moments = [moment for moment in Bench(CORE, steady).moments() if moment.trials == 3]
    last = moments[-1].left
    assert last.of_bench(last.at + 10_000) == pytest.approx(last.rest)


def test_trials_done_before_are_neither_work_nor_speed() -> None:
    """A run that goes on with its last three trials: four that end at once do not make them shorter."""
    moments = Bench((DONE, *4 * (DONE,), *3 * (DPO,)), steady).moments()
    known = [moment for moment in moments if 6 <= moment.trials < 8]
    assert known
    assert max(moment.error for moment in known) < 0.001


def test_what_is_left_of_a_trial_counts_only_as_that() -> None:
    """It was killed while judging: its verdicts alone are work."""
    judging = Ahead(parts=(part("judging", 128),))
    moments = Bench((DONE, DPO, judging, DPO), steady).moments()
    after = next(moment for moment in moments if moment.trials == 2)
    assert after.error < 0.001


def test_a_failed_trial_teaches_nothing_of_the_phase_it_failed_in() -> None:
    """It diverged at its first step: training does not take a second."""
    bench = Bench((ANCHOR, SFT, DPO), steady)
    bench.moments()
    before = bench.forecast
    before.plan(bench.at, (DPO, DPO))
    before.begin(bench.at)
    before.phase(bench.at, "dpo")
    before.done(bench.at + 1, failed=True)
    assert before.left is not None
    assert before.left.rest == pytest.approx(sum(map(steady, DPO.parts)))


def test_what_was_planned_and_never_happened_is_let_go() -> None:
    """Another run put the checkpoint into the cache meanwhile."""
    bench = Bench((ANCHOR, SFT, DPO), steady)
    bench.moments()
    bench.forecast.plan(bench.at, (DPO, DPO))
    bench.forecast.begin(bench.at)
    bench.forecast.phase(bench.at, "judging")
    bench.forecast.done(bench.at + 6.4)
    assert bench.forecast.left is not None
    assert bench.forecast.left.rest == pytest.approx(sum(map(steady, DPO.parts)))


def test_it_follows_a_machine_that_becomes_slower() -> None:
    """Half as fast from the third trial on: two trials later that is known."""
    count = iter(range(1000))
    before = sum(len(ahead.parts) for ahead in CORE[:3])
    slowing = Bench(CORE, lambda piece: steady(piece) * (1 if next(count) < before else 2))
    later = [moment for moment in slowing.moments() if 5 <= moment.trials < 8]
    assert max(moment.error for moment in later if moment.really > 60) <= 0.25


def test_a_stage_knows_its_own_time_before_anything_was_ever_timed() -> None:
    """By its own steps, from the second on."""
    moments = Bench((Ahead(parts=(part("sft", 4),)),), steady).moments()
    assert [moment.left.phase for moment in moments[:2]] == [None, None]
    assert moments[2].left.phase == pytest.approx(24 * (1 - 2 / STEPS))


def test_two_slow_steps_do_not_make_a_slow_stage() -> None:
    """What such a stage took before counts until this one has shown more of itself."""
    bench = Bench((ANCHOR, SFT, DPO), steady)
    bench.moments()
    bench.forecast.plan(bench.at, (DPO,))
    bench.forecast.begin(bench.at)
    bench.forecast.phase(bench.at, "dpo")
    for number, seconds in ((1, 0), (2, 10 * 6.6 * 6 / STEPS)):
        bench.at += seconds
        bench.forecast.step(bench.at, number / STEPS)
    assert bench.forecast.left is not None
    assert bench.forecast.left.phase == pytest.approx(6.6 * 6 * (1 - 2 / STEPS), rel=1.0)


def test_a_phase_that_nobody_planned_costs_no_other() -> None:
    """A damaged checkpoint is trained again: it has its own time, and what was planned stays."""
    bench = Bench((ANCHOR, SFT, DPO), steady)
    bench.moments()
    bench.forecast.plan(bench.at, (DPO,))
    bench.forecast.begin(bench.at)
    bench.forecast.phase(bench.at, "training again")
    assert bench.forecast.left is not None
    assert (bench.forecast.left.phase, bench.forecast.left.whole) == (None, False)
    assert bench.forecast.left.rest == pytest.approx(sum(map(steady, DPO.parts)))


def test_a_clock_that_is_put_back_does_no_harm() -> None:
    """Nothing is below zero, and nothing is divided by nothing."""
    forecast = Forecast()
    forecast.plan(1000.0, (SFT, DPO))
    forecast.begin(1000.0)
    forecast.phase(1000.0, "sft")
    forecast.step(1010.0, 0.1)
    forecast.step(500.0, 0.2)
    forecast.phase(500.0, "writing")
    forecast.done(400.0)
    assert forecast.left is not None
    assert forecast.left.of_bench(400.0) >= 0
