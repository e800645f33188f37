"""Win rates at equal length: the joint fit is what it says, and undoes a planted taste for length."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from evals.length_control import Verdicts
from evals.winrate import length_controlled

TRIALS, PROMPTS = 5, 60


def bench(taste: float, *, seed: int = 0) -> tuple[list[list[float]], dict[str, float]]:
    """Columns of soft verdicts by a judge with this taste for length, and its rates at equal length."""
    generator = np.random.default_rng(seed)
    worth, hard = generator.normal(0, 0.8, (TRIALS, 1)), generator.normal(0, 1, PROMPTS)
    gap = generator.normal(15, 25, (TRIALS, PROMPTS))
    logits = worth + hard
    p = expit(logits + taste * np.tanh(gap / gap.std(axis=1, keepdims=True)))
    names, prompts = [f"t{t}" for t in range(TRIALS)], [f"p{i}" for i in range(PROMPTS)]
    columns = [p.ravel(), np.repeat(names, PROMPTS), np.tile(prompts, TRIALS), 40 + gap.ravel(), np.full(gap.size, 40)]
    return [column.tolist() for column in columns], dict(zip(names, expit(logits).mean(axis=1), strict=True))


def test_a_taste_for_length_is_taken_out() -> None:
    columns, truth = bench(taste=1.5)
    raw = {name: np.mean([p for p, t in zip(*columns[:2], strict=True) if t == name]) for name in truth}
    found = length_controlled(*columns)
    assert max(abs(raw[name] - truth[name]) for name in truth) > 0.1
    assert max(abs(found[name] - truth[name]) for name in truth) < 0.02


def test_without_a_taste_nothing_changes() -> None:
    columns, truth = bench(taste=0.0)
    found = length_controlled(*columns)
    assert max(abs(found[name] - truth[name]) for name in truth) < 0.02


def test_the_fit_is_the_minimum_of_the_formula() -> None:
    """Against SciPy on all parameters at once: no elimination, no Newton."""
    columns, _ = bench(taste=1.0, seed=3)
    verdicts = Verdicts.of(*columns)
    lengths, trial, prompt, p = verdicts.length_E, verdicts.trial_E, verdicts.prompt_E, verdicts.p_E

    def loss(z: np.ndarray) -> float:
        theta, phi, own, hard = np.split(z, [TRIALS, TRIALS + 1, 2 * TRIALS + 1])
        logit = theta[trial] + (phi[0] + own[trial]) * lengths + hard[prompt]
        return float(np.sum(np.logaddexp(0, logit) - p * logit) + 0.1 * hard @ hard + 20 * own @ own)

    z = minimize(loss, np.zeros(2 * TRIALS + 1 + PROMPTS), method="BFGS", options={"gtol": 1e-6}).x
    expected = [expit(z[t] + z[2 * TRIALS + 1 :]).mean() for t in range(TRIALS)]
    assert list(verdicts.rates().values()) == pytest.approx(expected, abs=1e-4)


def test_the_order_of_verdicts_does_not_matter() -> None:
    columns, _ = bench(taste=1.0)
    order = np.random.default_rng(0).permutation(len(columns[0]))
    shuffled = [[column[i] for i in order] for column in columns]
    assert length_controlled(*shuffled) == pytest.approx(length_controlled(*columns))


def test_a_constant_length_leaves_the_raw_rate() -> None:
    found = Verdicts.of([1.0, 0.0, 1.0, 0.5], ["a"] * 4, list("wxyz"), [7] * 4, [5] * 4)
    assert found.rates() == {"a": 0.625}
    assert found.constant == {"a"}


def test_who_wins_everything_keeps_everything() -> None:
    found = length_controlled([1.0] * 4 + [0.0] * 4, ["a"] * 4 + ["b"] * 4, list("wxyz") * 2, [5, 6, 7, 8] * 2, [5] * 8)
    assert found["a"] > 0.99 > 0.01 > found["b"]


def test_the_interval_is_about_the_rate() -> None:
    columns, _ = bench(taste=1.0)
    for name, score in Verdicts.of(*columns).scores(resamples=50).items():
        assert score.low < score.value < score.high, name
        assert score.n == PROMPTS


@pytest.mark.parametrize(
    "columns",
    [([], [], [], [], []), ([0.5], ["a", "b"], ["p"], [1], [1]), ([1.5], ["a"], ["p"], [1], [1])],
    ids=["nothing", "unequal", "no probability"],
)
def test_what_is_no_table_of_verdicts_is_refused(columns: tuple[list[float], ...]) -> None:
    with pytest.raises(ValueError, match=r"one entry a verdict|lies in"):
        length_controlled(*columns)
