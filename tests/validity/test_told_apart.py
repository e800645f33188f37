"""Equal recipes are told apart in at most 6% of simulated benches, real differences as often as the formula says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from evals import statistics
from evals.pooling import compare_pooled
from evals.statistics import compare_all, sample_size, smallest_difference
from harness.records import Comparison, TrialScores
from tests.validity.worlds import Values, World, draw_bench, three_errors

FALSE_ALARMS = 0.06
POINTS = 0.05
METRIC = "gold_win_rate"


def compared(bench_RSP: Values) -> tuple[Comparison, ...]:
    """Every two recipes, as a bench compares them."""
    by_recipe = {
        f"r{r}": [
            TrialScores(
                recipe=f"r{r}",
                seed=s,
                scores={},
                per_prompt={METRIC: {f"{i:05}": float(value) for i, value in enumerate(values_P)}},
                commonest_opening="",
                anchor_opening_share=0.0,
            )
            for s, values_P in enumerate(values_SP)
        ]
        for r, values_SP in enumerate(bench_RSP)
    }
    if bench_RSP.shape[1] > 1:
        return compare_pooled(by_recipe, METRIC)
    values = {recipe: trials[0].per_prompt[METRIC] for recipe, trials in by_recipe.items()}
    return compare_all(values, metric=METRIC, bounded=True)


def false_alarms(world: World, benches: int) -> float:
    """Share of benches of equal recipes in which some two are told apart after Holm's correction."""
    generator = np.random.default_rng(1)
    return float(
        np.mean([any(c.p_holm < 0.05 for c in compared(draw_bench(world, generator))) for _ in range(benches)])
    )


def caught(world: World, benches: int) -> tuple[float, float]:
    """A difference that benches which have it say they would show 80% of the time, and how often they show it."""
    generator = np.random.default_rng(2)
    delta = 0.0
    for _ in range(4):  # the variance is another where one recipe is better, so what is said is asked there
        delta = float(np.mean([compared(draw_bench(world, generator, delta))[0].detectable for _ in range(200)]))
    pairs = world.recipes * (world.recipes - 1) / 2  # the formula's level is Holm's strictest
    shown = [compared(draw_bench(world, generator, delta))[0].p < 0.05 / pairs for _ in range(benches)]
    return delta, float(np.mean(shown))


@pytest.fixture(autouse=True)
def fewer_flips(monkeypatch: pytest.MonkeyPatch) -> None:
    """2,000 sign flips instead of 10,000: p is coarser, and as often below 5%."""
    monkeypatch.setattr(statistics, "RESAMPLES", 1_999)


@pytest.mark.parametrize("world", [World(60, 0.7, recipes=3), World(60, 0.7, 3, 0.03, recipes=4)])
def test_equal_recipes_are_seldom_told_apart(world: World) -> None:
    assert false_alarms(world, 100) <= FALSE_ALARMS + three_errors(0.05, 100)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_equal_recipes_are_told_apart_in_six_percent_at_most() -> None:
    worlds = [
        *(World(n, rate, recipes=5) for n, rate in itertools.product((50, 200), (0.5, 0.9, 0.98))),
        *(World(200, 0.8, s, noise, recipes=5) for s, noise in itertools.product((2, 3, 5), (0.0, 0.01, 0.03))),
    ]
    found = {world: false_alarms(world, 2_000) for world in worlds}
    for world, share in found.items():
        print(f"{world}: {share:.1%}")
    assert max(found.values()) <= FALSE_ALARMS


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_the_power_is_the_formulas() -> None:
    """80% of benches show the difference that is said to be shown by 80%."""
    worlds = [
        *(World(n, rate, recipes=2) for n, rate in itertools.product((100, 400), (0.5, 0.7, 0.85))),
        *(World(300, 0.6, s, 0.02, recipes=7) for s in (2, 3, 5)),
    ]
    found = {world: caught(world, 2_000) for world in worlds}
    for world, (delta, shown) in found.items():
        print(f"{world}: {100 * delta:.1f} points shown {shown:.1%}, said 80%", flush=True)
    assert max(abs(shown - 0.8) for _, shown in found.values()) <= POINTS


def test_five_points_at_a_half_take_784_prompts() -> None:
    """metrics.md's example: the standard deviation of an unpaired win rate at one half is a half."""
    assert sample_size(0.5, 0.05) == 785
    assert smallest_difference(0.5, 785) == pytest.approx(0.05, abs=1e-4)
