"""Bradley–Terry strengths: known ones come back, the anchor is 0, orders are compared by Kendall's τ."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from evals.ranking import (
    ANCHOR,
    by_reward,
    by_utility,
    fit_strengths,
    rank_agreement,
    rank_trials,
    rewards_from,
)
from harness.records import Ranking, Score


def ranking(**strengths: float) -> Ranking:
    return Ranking(
        judge="j",
        strengths={name: Score(value=v, low=v, high=v, n=9, unit="logits") for name, v in strengths.items()},
    )


def test_known_strengths_come_back() -> None:
    names, true = ["anchor", "a", "b", "c"], np.array([0.0, 0.8, -0.5, 1.6])
    wins = 10_000 * expit(true[:, None] - true[None, :]) * (1 - np.eye(4))
    assert fit_strengths(names, wins) == pytest.approx(true, abs=2e-3)


def test_who_wins_everything_stays_finite() -> None:
    assert 2 < fit_strengths(["anchor", "a"], np.array([[0.0, 0.0], [40.0, 0.0]]))[1] < 20


def test_the_anchor_is_zero_and_ties_are_half() -> None:
    values = {"anchor": {"x": 1.0, "y": 1.0}, "a": {"x": 1.0, "y": 1.0}}
    found = rank_trials("check", values, by_utility)
    assert found is not None
    assert [score.value for score in found.strengths.values()] == [0.0, 0.0]


def test_strengths_count_what_rivals_suffer() -> None:
    """Both beat the anchor on the same prompts, but b beats a wherever they differ."""
    prompts = [f"p{i}" for i in range(40)]
    values = {
        ANCHOR: dict.fromkeys(prompts, 0.0),
        "a": {p: float(i < 30) for i, p in enumerate(prompts)},
        "b": {p: 2.0 * float(i < 30) for i, p in enumerate(prompts)},
    }
    found = rank_trials("check", values, by_utility)
    assert found is not None
    a, b = found.strengths["a"], found.strengths["b"]
    assert b.value > a.value > 0
    assert a.low < a.value < a.high


def test_a_reward_models_verdicts_give_back_its_rewards() -> None:
    rewards = rewards_from({"x": float(expit(1.2)), "y": float(expit(-0.4))})
    assert rewards == pytest.approx({"x": 1.2, "y": -0.4})
    assert by_reward(1.2, -0.4) == pytest.approx(float(expit(1.6)))


def test_too_little_is_no_ranking() -> None:
    assert rank_trials("check", {ANCHOR: {"x": 0.0}, "a": {"x": 1.0}}, by_utility) is None


def test_orders_are_compared_by_kendalls_tau() -> None:
    up, down = ranking(anchor=0, a=1, b=2), ranking(anchor=0, a=-1, b=-2)
    assert rank_agreement(up, up) == pytest.approx(1.0)
    assert rank_agreement(up, down) == pytest.approx(-1.0)
    assert rank_agreement(ranking(anchor=0, a=1), up) is None
