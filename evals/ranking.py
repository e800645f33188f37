"""One order of all trials from every two of them: Bradley–Terry strengths, the anchor fixed at 0.

P(a beats b) = σ(s_a − s_b) (Bradley & Terry 1952), fitted to mean outcomes, ties half. Every two trials are compared on
the responses that they gave to the same prompts, so a strength is not the win rate against the anchor in other units:
it counts what a trial does to its rivals as well. Shapes: T trials · R resamples · P prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.special import expit, logit

from evals.pooling import ANCHOR
from harness.records import Ranking, Score

Values = npt.NDArray[np.float64]
Outcome = Callable[[float, float], float]

RESAMPLES = 1_000
PRIOR = 0.5  # prompts won and lost by every pair besides what was seen: who wins everything stays finite
STEPS = 500
SURE = 1e-9  # no probability is nearer to 0 or 1


def fit_strengths(names: Sequence[str], wins_TT: Values) -> Values:
    """Strengths (T,) in logits from wins_TT[a, b], how many prompts a won against b, ties half; the first is 0.

    By minorise–maximise (Hunter 2004). Leading axes of `wins_TT` are fitted side by side.
    """
    wins = wins_TT + PRIOR * (1 - np.eye(len(names)))
    games, won = wins + np.swapaxes(wins, -1, -2), wins.sum(axis=-1)
    worth = np.ones(wins.shape[:-1])
    for _ in range(STEPS):
        new = won / (games / (worth[..., :, None] + worth[..., None, :])).sum(axis=-1)
        new /= new[..., :1]
        if np.allclose(new, worth, rtol=1e-9, atol=0):
            break
        worth = new
    strengths: Values = np.log(worth)
    return strengths


def rank_trials(
    judge: str, values: Mapping[str, Mapping[str, float]], outcome: Outcome, *, seed: int = 0
) -> Ranking | None:
    """Trial → prompt_id → how good its response is; `outcome(mine, theirs)` says what of a win that is.

    The anchor has to be among them. Only prompts that all have a value for count; None with fewer than two.
    """
    names = [ANCHOR, *(name for name in values if name != ANCHOR)]
    prompts = sorted(set.intersection(*(set(values[name]) for name in names)))
    if len(prompts) < 2 or len(names) < 2:
        return None
    won = {
        (a, b): np.array([outcome(values[a][prompt], values[b][prompt]) for prompt in prompts])
        for a in names
        for b in names
        if a < b
    }
    return rank_pairs(judge, names, won, seed=seed)


def rank_pairs(judge: str, names: Sequence[str], won: Mapping[tuple[str, str], Values], *, seed: int = 0) -> Ranking:
    """From (a, b) → what a won of b on each prompt; the interval is the percentiles' over resampled prompts."""
    count = len(next(iter(won.values())))
    generator = np.random.default_rng(seed)
    weights_RP = generator.multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(np.float64)
    weights_RP = np.concatenate((np.ones((1, count)), weights_RP))  # the first is what was seen
    place = {name: t for t, name in enumerate(names)}
    wins_RTT = np.zeros((len(weights_RP), len(names), len(names)))
    for (a, b), values_P in won.items():
        total_R = weights_RP @ values_P
        wins_RTT[:, place[a], place[b]], wins_RTT[:, place[b], place[a]] = total_R, count - total_R
    strengths_RT = fit_strengths(names, wins_RTT)
    low_T, high_T = np.quantile(strengths_RT[1:], (0.025, 0.975), axis=0)
    return Ranking(
        judge=judge,
        strengths={
            name: Score(
                value=float(strengths_RT[0, t]), low=float(low_T[t]), high=float(high_T[t]), n=count, unit="logits"
            )
            for t, name in enumerate(names)
        },
    )


def by_utility(mine: float, theirs: float) -> float:
    """1 where the response of higher utility wins, ½ where they are worth the same."""
    return 0.5 if mine == theirs else float(mine > theirs)


def by_reward(mine: float, theirs: float) -> float:
    """P(mine wins) of two rewards in logits."""
    return float(expit(mine - theirs))


def rewards_from(p_win: Mapping[str, float]) -> dict[str, float]:
    """Rewards in logits, the anchor's being 0, from a reward model's P(beats the anchor): they are differences."""
    return {prompt: float(logit(min(1 - SURE, max(SURE, p)))) for prompt, p in p_win.items()}


def rank_agreement(a: Ranking, b: Ranking) -> float | None:
    """Kendall's τ-b between two orders of the same trials, the anchor among them; None with fewer than three."""
    names = [name for name in a.strengths if name in b.strengths]
    if len(names) < 3:
        return None
    tau = float(stats.kendalltau([a.strengths[n].value for n in names], [b.strengths[n].value for n in names])[0])
    return None if np.isnan(tau) else tau
