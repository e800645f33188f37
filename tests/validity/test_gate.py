"""The gate's promises, by simulation: alarms on equal models, passes of worse ones, and the power that it prints.

A bench is S checkpoints on P prompts. Outcomes are 0 or 1; a prompt is hard or easy for both sides (a latent normal
that they share), and each seed has a rate of its own. Small versions run by default, the full ones with `-m slow`.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from evals.drop import CANNOT_TELL, PASS, REGRESSION, Drop, measure_drop
from tests.validity.worlds import three_errors

Values = npt.NDArray[np.float64]
SHARED = 0.6  # of an outcome's latent variance: what both sides find hard or easy
ALARMS = 0.05  # the most that equal models may raise, and that models worse by the margin may pass
POINTS = 0.05  # the most that the printed power may promise too much
MODEST = 0.08  # the most that it may promise too little
UNSEEN = 3  # prompts: a drop of fewer leaves no trace in one run of twenty or more (the rule of three)


class World(NamedTuple):
    """What is simulated."""

    seeds: int
    prompts: int
    rate: float  # of the baseline
    noise: float = 0.0  # sd of a seed's own rate


class Found(NamedTuple):
    """Shares of the simulated benches."""

    alarms: float  # equal models called a regression
    passes: float  # models worse by the margin that pass
    caught: float  # models worse by the margin called a regression
    printed: float  # the mean of the power that was printed for them


def answers(world: World, mean: float, prompt_P: Values, generator: np.random.Generator) -> Values:
    """One side's outcomes, S by P."""
    rates_S = np.clip(mean + world.noise * generator.standard_normal(world.seeds), 0.005, 0.995)
    own_SP = generator.standard_normal((world.seeds, world.prompts))
    latent_SP = np.sqrt(SHARED) * prompt_P + np.sqrt(1 - SHARED) * own_SP
    return (latent_SP < stats.norm.ppf(rates_S)[:, None]).astype(np.float64)


def bench(world: World, drop: float, rows: int, generator: np.random.Generator) -> Drop:
    """One rule of so many, measured on one simulated bench."""
    prompt_P = generator.standard_normal(world.prompts)
    before, now = (answers(world, mean, prompt_P, generator) for mean in (world.rate, world.rate - drop))
    return measure_drop(before, now, level=1 - ALARMS / rows, bounded=True)


def simulate(world: World, margin: float, benches: int, rows: int = 1) -> Found:
    """Benches of equal models and of models worse by the margin. The interval is that of one row of so many."""
    generator = np.random.default_rng(abs(hash((world, margin, rows))) % 2**32)
    equal = [bench(world, 0.0, rows, generator) for _ in range(benches)]
    worse = [bench(world, margin, rows, generator) for _ in range(benches)]
    verdicts = [drop.verdict(margin) for drop in worse]
    return Found(
        alarms=float(np.mean([drop.verdict(margin) == REGRESSION for drop in equal])),
        passes=verdicts.count(PASS) / benches,
        caught=verdicts.count(REGRESSION) / benches,
        printed=float(np.mean([drop.power(margin) for drop in worse[: max(50, benches // 10)]])),
    )


@pytest.mark.parametrize(("prompts", "rate"), [(100, 0.5), (100, 0.9), (400, 0.7)])
def test_the_gate_keeps_its_promises(prompts: int, rate: float) -> None:
    found = simulate(World(1, prompts, rate), margin=0.08, benches=400)
    assert found.alarms <= ALARMS
    assert found.passes <= ALARMS + three_errors(ALARMS, 400)
    assert abs(found.caught - found.printed) <= POINTS + three_errors(found.caught, 400)


def test_seeds_that_differ_raise_no_more_alarms() -> None:
    found = simulate(World(3, 200, 0.7, noise=0.03), margin=0.08, benches=300)
    assert found.alarms <= ALARMS + three_errors(ALARMS, 300)


def test_the_simulation_can_fail() -> None:
    """Seed noise that the interval leaves out, taking one seed's word, raises more alarms than are allowed."""
    generator = np.random.default_rng(0)
    world = World(1, 1_000, 0.7, noise=0.03)
    alarms = [bench(world, 0.0, 1, generator).low > 0 for _ in range(300)]
    assert np.mean(alarms) > 2 * ALARMS


FULL = [World(1, n, p) for n, p in itertools.product((50, 100, 300, 1_000), (0.5, 0.7, 0.9, 0.98))]
SEEDED = [World(3, n, p, noise) for n, p, noise in itertools.product((100, 300), (0.5, 0.9), (0.0, 0.015, 0.03))]


@pytest.mark.slow
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("margin", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("world", FULL, ids=str)
def test_in_full_with_one_seed(world: World, margin: float) -> None:
    """Prints its figures: docs/log.md keeps them."""
    if world.rate - margin < 0.05:
        pytest.skip("no such drop")
    benches = 2_000
    found = simulate(world, margin, benches)
    print(world, margin, found)
    assert found.alarms <= ALARMS
    assert found.passes <= ALARMS + three_errors(ALARMS, benches) or margin * world.prompts < UNSEEN
    assert -POINTS <= found.caught - found.printed <= MODEST


@pytest.mark.slow
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("world", SEEDED, ids=str)
def test_in_full_with_three_seeds(world: World) -> None:
    """Seeds of their own on either side, up to three points apart."""
    found = simulate(world, 0.08, 2_000)
    print(world, found)
    assert found.alarms <= ALARMS
    assert found.passes <= ALARMS + three_errors(ALARMS, 2_000)
    assert -POINTS <= found.caught - found.printed <= MODEST


@pytest.mark.slow
@pytest.mark.parametrize("rows", [3, 14])
def test_in_full_over_several_rows(rows: int) -> None:
    """Rows that do not move together are the worst case for an alarm somewhere."""
    generator = np.random.default_rng(rows)
    world, benches = World(1, 200, 0.7), 2_000
    alarms = [
        any(bench(world, 0.0, rows, generator).verdict(0.05) == REGRESSION for _ in range(rows)) for _ in range(benches)
    ]
    print(rows, np.mean(alarms))
    assert np.mean(alarms) <= ALARMS


def test_what_cannot_be_told_is_what_is_left() -> None:
    generator = np.random.default_rng(1)
    verdicts = {bench(World(1, 60, 0.6), 0.05, 1, generator).verdict(0.05) for _ in range(200)}
    assert verdicts == {PASS, REGRESSION, CANNOT_TELL}
