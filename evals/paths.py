"""Trials on their way through win rate and KL: each one's path, and what paths score at the same KL.

A point of few prompts is drawn towards what the trial's end says of all prompts: mean_few(v) + b·(mean_all(e) −
mean_few(e)), e the end's values, b the share of the stage that is spent (a regression estimate with a preassigned b:
Cochran 1977, §7.3, unbiased whatever b). KL, never negative and of other sizes early than late, is drawn by a factor:
mean_few(v)·(mean_all(e)/mean_few(e))^b. So a path begins at the anchor and ends at the trial, exactly.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from evals.statistics import LEVEL
from harness.records import MatchedKl, PathPoint, Score, TrialPath, TrialScores, Waypoint

KL = "kl_nats"
SHARES = (0.25, 0.5, 0.75, 1.0)  # of the farthest KL that two paths reach: where all paths are compared

Effects = Mapping[str, float]  # prompt_id → what the prompt adds to an estimate's error


@dataclass(frozen=True, kw_only=True)
class _Estimate:
    """A mean and, prompt by prompt, its linear error: effects of several add up as the estimates do."""

    value: float
    effects: Effects
    n: int  # prompts that it rests on

    def plus(self, other: _Estimate, weight: float) -> _Estimate:
        ids = dict.fromkeys((*self.effects, *other.effects))
        effects = {i: self.effects.get(i, 0.0) + weight * other.effects.get(i, 0.0) for i in ids}
        return _Estimate(value=self.value + weight * other.value, effects=effects, n=min(self.n, other.n))

    def times(self, weight: float) -> _Estimate:
        effects = {i: weight * effect for i, effect in self.effects.items()}
        return _Estimate(value=weight * self.value, effects=effects, n=self.n)


@dataclass(frozen=True, kw_only=True)
class _Point:
    """One checkpoint of a path."""

    spent: float
    kl: _Estimate
    value: _Estimate


def make_paths(trials: Mapping[str, TrialScores], waypoints: Mapping[str, Sequence[Waypoint]]) -> tuple[TrialPath, ...]:
    """Every metric measured on the way, each with the paths of all trials that have it; maps are by trial's name."""
    seen = (waypoint for name in trials for waypoint in waypoints[name])
    metrics = dict.fromkeys(name for waypoint in seen for name in waypoint.per_prompt if name != KL)
    return tuple(path for metric in metrics for path in _paths(metric, trials, waypoints))


def _paths(
    metric: str, trials: Mapping[str, TrialScores], waypoints: Mapping[str, Sequence[Waypoint]]
) -> list[TrialPath]:
    found = {name: _points(metric, scores, waypoints[name]) for name, scores in trials.items()}
    found = {name: points for name, points in found.items() if len(points) > 1}
    common = common_kls([[point.kl.value for point in points] for points in found.values()])
    return [_path(name, metric, points, trials[name], common) for name, points in found.items()]


def _path(name: str, metric: str, points: list[_Point], end: TrialScores, common: Sequence[float]) -> TrialPath:
    unit = end.scores[metric].unit
    way = [PathPoint(spent=p.spent, kl=_score(p.kl, "nats"), value=_score(p.value, unit)) for p in points[:-1]]
    reached = [(kl, _at_kl(points, kl)) for kl in common]
    return TrialPath(
        trial=name,
        metric=metric,
        points=(*way, PathPoint(spent=1.0, kl=end.scores[KL], value=end.scores[metric])),
        matched=tuple(MatchedKl(kl_nats=kl, value=_score(found, unit)) for kl, found in reached if found is not None),
    )


def common_kls(paths: Sequence[Sequence[float]]) -> list[float]:
    """KL values, two digits each, that at least two of the paths pass; paths are lists of the KL at their points."""
    farthest = sorted((max(path) for path in paths), reverse=True)
    if len(farthest) < 2:
        return []
    candidates = dict.fromkeys(_floored(share * farthest[1]) for share in SHARES)
    return [kl for kl in candidates if kl > 0 and sum(min(path) <= kl <= max(path) for path in paths) > 1]


def _floored(value: float) -> float:
    """Down to two digits, so that what is reached stays within reach."""
    if value <= 0:
        return 0.0
    size = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.floor(value / size * (1 + 1e-9)) * size:.2g}")


def _points(metric: str, scores: TrialScores, waypoints: Sequence[Waypoint]) -> list[_Point]:
    """The waypoints that have the metric, then the end."""
    end = scores.per_prompt
    if min(len(end.get(name, ())) for name in (metric, KL)) < 2:
        return []
    on_the_way = [w for w in waypoints if min(len(w.per_prompt.get(name, ())) for name in (metric, KL)) > 1]
    points = [
        _Point(spent=w.spent, kl=_midway(w, KL, end[KL]), value=_midway(w, metric, end[metric])) for w in on_the_way
    ]
    return [*points, _Point(spent=1.0, kl=_mean(end[KL]), value=_mean(end[metric]))]


def _midway(waypoint: Waypoint, metric: str, end: Mapping[str, float]) -> _Estimate:
    seen = waypoint.per_prompt[metric]
    few = {i: end[i] for i in seen if i in end}
    if waypoint.step == 0 or not few:
        return _mean(seen)
    draw = _scaled if metric == KL else _shifted
    drawn = draw(_mean(seen), _mean(end), _mean(few), waypoint.spent)
    return _Estimate(value=drawn.value, effects=drawn.effects, n=len(seen))


def _shifted(seen: _Estimate, end: _Estimate, few: _Estimate, share: float) -> _Estimate:
    return seen.plus(end, share).plus(few, -share)


def _scaled(seen: _Estimate, end: _Estimate, few: _Estimate, share: float) -> _Estimate:
    """Its error by the delta method: relative errors add up."""
    if min(seen.value, end.value, few.value) <= 0:
        return seen
    factor = (end.value / few.value) ** share
    relative = end.times(1 / end.value).plus(few, -1 / few.value)
    drawn = seen.times(factor)
    effects = drawn.plus(relative, share * drawn.value).effects
    return _Estimate(value=drawn.value, effects=effects, n=seen.n)


def _mean(values: Mapping[str, float]) -> _Estimate:
    mean, n = sum(values.values()) / len(values), len(values)
    return _Estimate(value=mean, effects={i: (v - mean) / n for i, v in values.items()}, n=n)


def _at_kl(points: Sequence[_Point], kl: float) -> _Estimate | None:
    """The value where the path first passes this KL, linear between two points; None where it never does.

    By the delta method its error is theirs, less the slope times the error of the KL at that place.
    """
    for a, b in itertools.pairwise(points):
        if min(a.kl.value, b.kl.value) <= kl <= max(a.kl.value, b.kl.value) and a.kl.value != b.kl.value:
            across = b.kl.value - a.kl.value
            share, slope = (kl - a.kl.value) / across, (b.value.value - a.value.value) / across
            value = a.value.times(1 - share).plus(b.value, share)
            place = a.kl.times(1 - share).plus(b.kl, share)
            effects = value.plus(place, -slope).effects
            return _Estimate(value=value.value, effects=effects, n=value.n)
    return None


def _score(estimate: _Estimate, unit: str) -> Score:
    """With its t interval over prompts; a share stays one, and no KL is below zero."""
    n = estimate.n
    error = math.sqrt(n / (n - 1) * sum(effect**2 for effect in estimate.effects.values()))
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * error
    least, most = 0.0 if unit in ("share", "nats") else -math.inf, 1.0 if unit == "share" else math.inf
    value, low, high = (
        min(max(end, least), most) for end in (estimate.value, estimate.value - half, estimate.value + half)
    )
    return Score(value=value, low=low, high=high, n=n, unit=unit)
