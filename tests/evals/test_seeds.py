"""Seeds crossed with prompts: the noise of seeds is seen, pooled over recipes, and part of every interval."""

from __future__ import annotations

import numpy as np
import pytest

from evals.pooling import by_recipe, compare_pooled, pool_recipes
from evals.seeds import crossed_difference, crossed_interval, pooled_noise
from evals.statistics import share_interval
from harness.records import Score, TrialScores

METRIC = "gold_win_rate"


def trial(recipe: str, seed: int, values: list[float]) -> TrialScores:
    per_prompt = {METRIC: {f"p{i:03}": value for i, value in enumerate(values)}}
    length = Score(value=1.0 + seed / 10, low=0.9, high=1.3, n=len(values), unit="ratio")
    return TrialScores(
        recipe=recipe,
        seed=seed,
        scores={METRIC: share_interval(values), "length_ratio": length},
        per_prompt=per_prompt,
        commonest_opening="",
        anchor_opening_share=0.0,
    )


def bench(shift: float, *, noise: float, seed: int = 0) -> dict[str, list[TrialScores]]:
    """Three recipes with three seeds on 200 prompts; the last recipe wins so much more often."""
    generator = np.random.default_rng(seed)
    found = []
    for r, recipe in enumerate(("a", "b", "c")):
        for s in range(3):
            rate = 0.5 + shift * (r == 2) + noise * generator.standard_normal()
            found.append(trial(recipe, s, (generator.random(200) < rate).astype(float).tolist()))
    return by_recipe(found)


def test_alike_seeds_add_next_to_nothing() -> None:
    values_SP = np.tile((np.arange(100) % 2).astype(float), (3, 1))
    noise = pooled_noise([values_SP])
    assert noise.means == 0
    alone = share_interval(values_SP[0].tolist())
    assert crossed_interval(values_SP, noise, unit="share").low == pytest.approx(alone.low, abs=0.002)


def test_seeds_that_differ_widen_the_interval() -> None:
    few = pool_recipes(bench(0.0, noise=0.0))[0].scores[METRIC]
    many = pool_recipes(bench(0.0, noise=0.08))[0].scores[METRIC]
    assert many.high - many.low > 1.3 * (few.high - few.low)


def test_a_difference_smaller_than_the_seeds_is_not_shown() -> None:
    """Prompts alone would call it certain: the seeds of one recipe lie as far apart."""
    up, down = np.ones((2, 400)), np.ones((2, 400))
    up[0, :80], up[1, :40], down[0, :120], down[1, :80] = 0, 0, 0, 0
    found = crossed_difference(up, down, pooled_noise([up, down]))
    assert found.difference == pytest.approx(0.1)
    assert found.low < 0 < found.p
    assert found.p > 0.05


def test_a_real_difference_is_shown_with_its_seeds() -> None:
    found = {(c.a, c.b): c for c in compare_pooled(bench(0.25, noise=0.01), METRIC, against_anchor=0.5)}
    assert found["a", "c"].p_holm < 0.05
    assert found["c", "anchor"].p_holm < 0.05
    assert found["a", "b"].p_holm > 0.05
    assert {c.seeds for c in found.values()} == {3}


def test_a_recipe_is_the_mean_of_its_seeds() -> None:
    seeds = bench(0.1, noise=0.02)
    for recipe, pooled in zip(seeds, pool_recipes(seeds), strict=True):
        own = [t.scores[METRIC].value for t in seeds[recipe]]
        assert pooled.scores[METRIC].value == pytest.approx(sum(own) / 3)
        assert pooled.recipe == recipe


def test_what_is_not_known_by_prompt_is_pooled_too() -> None:
    ratio = pool_recipes(bench(0.0, noise=0.0))[0].scores["length_ratio"]
    assert ratio.value == pytest.approx(1.1)
    assert ratio.high - ratio.low > 0.4


def test_one_seed_knows_nothing_of_others() -> None:
    with pytest.raises(ValueError, match="one seed"):
        pooled_noise([np.zeros((1, 10))])
