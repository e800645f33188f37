"""Paths lead from the anchor to the trial, and are compared only where both have been; their intervals cover."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pytest

from evals.paths import common_kls, make_paths
from evals.statistics import mean_interval
from harness.records import TrialPath, TrialScores, Waypoint

PROMPTS = [f"p{i}" for i in range(40)]
FEW = PROMPTS[:8]


def by(prompts: Sequence[str], value: float) -> dict[str, float]:
    """Values around this one, as uneven as its size, their mean exactly it."""
    return {p: value * (1.2 if i % 2 else 0.8) for i, p in enumerate(prompts)}


def ended(kl: Mapping[str, float], wins: Mapping[str, float]) -> TrialScores:
    scores = {
        "kl_nats": mean_interval(list(kl.values()), unit="nats"),
        "gold_win_rate": mean_interval(list(wins.values()), unit="share"),
    }
    return TrialScores(
        recipe="dpo",
        seed=0,
        scores=scores,
        per_prompt={"kl_nats": dict(kl), "gold_win_rate": dict(wins)},
        commonest_opening="",
        anchor_opening_share=0.0,
    )


def waypoint(spent: float, kl: Mapping[str, float], wins: Mapping[str, float]) -> Waypoint:
    per_prompt = {"kl_nats": dict(kl), "gold_win_rate": dict(wins)}
    return Waypoint(step=round(100 * spent), spent=spent, scores={}, per_prompt=per_prompt)


START = waypoint(0.0, dict.fromkeys(FEW, 0.0), dict.fromkeys(FEW, 0.5))


def trial(kl: float, win: float, *between: tuple[float, float, float]) -> tuple[TrialScores, list[Waypoint]]:
    """One that ends there, by way of (spent, KL, win rate) and from the anchor."""
    way = [START, *(waypoint(spent, by(FEW, k), by(FEW, w)) for spent, k, w in between)]
    return ended(by(PROMPTS, kl), by(PROMPTS, win)), way


def paths(**trials: tuple[TrialScores, list[Waypoint]]) -> dict[str, TrialPath]:
    found = make_paths({n: scores for n, (scores, _) in trials.items()}, {n: way for n, (_, way) in trials.items()})
    return {path.trial: path for path in found}


def matched(path: TrialPath) -> dict[float, float]:
    return {m.kl_nats: m.value.value for m in path.matched}


def test_a_path_leads_from_the_anchor_to_the_trial() -> None:
    """Exactly, intervals included."""
    scores, way = trial(2.0, 0.7, (0.5, 1.0, 0.6))
    path = paths(a=(scores, way))["a"]
    assert [(p.kl.value, p.value.value) for p in path.points] == [
        (0.0, 0.5),
        pytest.approx((1.0, 0.6)),
        pytest.approx((2.0, 0.7)),
    ]
    assert (path.points[0].value.low, path.points[0].value.high) == (0.5, 0.5)
    assert path.points[-1].value == scores.scores["gold_win_rate"]
    assert [point.kl.n for point in path.points[1:]] == [8, 40]


def test_few_prompts_are_drawn_towards_what_all_say_by_the_spent_share() -> None:
    """Where the few are luckier than all at the end, half of that luck is taken off at half the way."""
    lucky = {p: 1.0 if p in FEW else 0.5 for p in PROMPTS}  # 0.6 over all, 1.0 over the few
    way = [START, waypoint(0.5, by(FEW, 1.0), dict.fromkeys(FEW, 0.9))]
    path = paths(a=(ended(by(PROMPTS, 2.0), lucky), way))["a"]
    assert path.points[1].value.value == pytest.approx(0.9 + 0.5 * (0.6 - 1.0))


def test_kl_is_drawn_by_a_factor_and_never_below_zero() -> None:
    """Where the few drifted four times as far as all at the end, half the way takes off half of that, as a factor."""
    far = {p: 8.0 if p in FEW else 0.5 for p in PROMPTS}  # 2.0 over all, 8.0 over the few
    way = [START, waypoint(0.5, by(FEW, 1.0), dict.fromkeys(FEW, 0.6))]
    assert paths(a=(ended(far, by(PROMPTS, 0.6)), way))["a"].points[1].kl.value == pytest.approx(0.5)


def test_paths_are_interpolated_at_the_same_kl() -> None:
    """Two straight lines of known slopes, at a quarter to the whole of the shorter one."""
    found = paths(a=trial(2.0, 0.7), b=trial(4.0, 0.6, (0.5, 2.0, 0.55)))
    assert matched(found["a"]) == pytest.approx({0.5: 0.55, 1.0: 0.6, 1.5: 0.65, 2.0: 0.7})
    assert matched(found["b"]) == pytest.approx({0.5: 0.5125, 1.0: 0.525, 1.5: 0.5375, 2.0: 0.55})


def test_nothing_is_said_where_a_path_has_not_been() -> None:
    """Not beyond its end; and a KL that one path alone reaches is no common one."""
    found = paths(a=trial(1.0, 0.6), b=trial(4.0, 0.6), c=trial(4.0, 0.7))
    assert set(matched(found["a"])) == {1.0}
    assert set(matched(found["b"])) == set(matched(found["c"])) == {1.0, 2.0, 3.0, 4.0}


def test_a_path_that_comes_back_is_read_where_it_first_passes() -> None:
    """There the training would have been stopped."""
    found = paths(a=trial(2.0, 0.9, (0.5, 4.0, 0.6)), b=trial(4.0, 0.6))
    assert matched(found["a"])[2.0] == pytest.approx(0.55)


def test_one_path_is_compared_with_none() -> None:
    (path,) = paths(a=trial(2.0, 0.7)).values()
    assert path.matched == ()


def test_a_trial_without_waypoints_has_no_path() -> None:
    """Nor has one that was answered on one prompt alone, which says nothing of another."""
    one = waypoint(0.5, {"p0": 1.0}, {"p0": 0.6})
    assert paths(a=(trial(2.0, 0.7)[0], []), b=(trial(2.0, 0.7)[0], [one])) == {}


def test_a_share_stays_one() -> None:
    """Whatever the draw towards the end does."""
    wins = {p: 0.0 if p in FEW else 1.0 for p in PROMPTS}
    way = [START, waypoint(0.75, by(FEW, 0.2), dict.fromkeys(FEW, 0.9))]
    path = paths(a=(ended(by(PROMPTS, 2.0), wins), way))["a"]
    assert path.points[1].value.value == path.points[1].value.high == 1.0


@pytest.mark.parametrize(
    ("ends", "common"),
    [
        ([[0, 2.5], [0, 2.5]], [0.62, 1.2, 1.8, 2.5]),
        ([[0, 2.499]] * 2, [0.62, 1.2, 1.8, 2.4]),
        ([[0, 0.0]] * 2, []),
        ([[3.0, 5], [0, 4.0]], [3.0, 4.0]),
    ],
)
def test_common_kls_have_two_digits_and_are_within_reach(ends: list[list[float]], common: list[float]) -> None:
    assert common_kls(ends) == common


def draw(random_: random.Random) -> tuple[TrialScores, list[Waypoint]]:
    """One bench: KL 0.6, 1.6, 2.3, 2.5 and win rate 53, 58, 62, 64% on the way; prompts differ, answers change."""
    hard = {p: random_.lognormvariate(-0.18, 0.6) for p in PROMPTS}
    luck = {p: random_.random() for p in PROMPTS}

    def kl(prompt: str, mean: float) -> float:
        return mean * hard[prompt] * random_.lognormvariate(-0.125, 0.5)

    def win(prompt: str, rate: float, spent: float) -> float:
        changed = random_.random() < 0.3 * (1 - spent) + 0.1
        return float((random_.random() if changed else luck[prompt]) < rate)

    way = [
        waypoint(s, {p: kl(p, k) for p in FEW}, {p: win(p, w, s) for p in FEW})
        for s, k, w in ((0.25, 0.6, 0.53), (0.5, 1.6, 0.58), (0.75, 2.3, 0.62))
    ]
    return ended({p: kl(p, 2.5) for p in PROMPTS}, {p: win(p, 0.64, 1.0) for p in PROMPTS}), [START, *way]


def test_intervals_at_a_kl_cover_what_is_true_there() -> None:
    """In 300 simulated benches of 8 prompts on the way and 40 at the end; a path beside it sets the KL to 1.1 nats."""
    random_ = random.Random(0)
    beside = trial(1.1, 0.5)
    found = [paths(a=draw(random_), b=beside)["a"].matched[-1] for _ in range(300)]
    assert {m.kl_nats for m in found} == {1.1}
    covered = sum(m.value.low <= 0.555 <= m.value.high for m in found)
    assert 0.92 * 300 <= covered <= 0.99 * 300
