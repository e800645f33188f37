"""How often a judge is right where A is the better response, and where B is: what corrects a win rate for its errors.

Rogan–Gladen with soft verdicts (arXiv:2511.21140): q1 = E[v | A better], q0 = E[1 − v | B better], v the swap-debiased
P(A wins).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from evals.statistics import LEVEL, mean_interval, share_interval, standard_error
from harness.records import Score, Verdict


class Rate(NamedTuple):
    """A mean probability and its standard error, clustered by prompt."""

    score: Score
    error: float


class ErrorRates(NamedTuple):
    """Both rates, measured on different prompts; None where there are not two prompts for one of them."""

    sensitivity: Rate | None = None
    specificity: Rate | None = None


def error_rates(verdicts: Sequence[Verdict], *, seed: int) -> ErrorRates:
    """The rates from verdicts on labelled pairs, `first` the chosen response; unscored ones are left out.

    Both orders were asked, so the orientation only says which response is called A. It is drawn by prompt, half of
    the prompts each way: so the two rates share no prompt, and their errors are independent.
    """
    scored = [(verdict.prompt_id, verdict.p_win) for verdict in verdicts if verdict.p_win is not None]
    prompts = np.random.default_rng(seed).permutation(sorted({prompt for prompt, _ in scored}))
    chosen_is_a = set(prompts[: (len(prompts) + 1) // 2].tolist())
    if len(prompts) - len(chosen_is_a) < 2:
        return ErrorRates()
    return ErrorRates(
        sensitivity=_rate([one for one in scored if one[0] in chosen_is_a]),
        specificity=_rate([one for one in scored if one[0] not in chosen_is_a]),
    )


def _rate(scored: Sequence[tuple[str, float]]) -> Rate:
    values, prompts = [p for _, p in scored], [prompt for prompt, _ in scored]
    return Rate(share_interval(values, clusters=prompts), _standard_error(values, prompts))


def _standard_error(values: Sequence[float], prompts: Sequence[str]) -> float:
    """The t interval's; where all prompts agree that is nothing, which no sample shows, so then Wilson's."""
    found = mean_interval(values, unit="share", clusters=prompts)
    if found.high - found.low > 1e-12:
        return standard_error(found)
    found = share_interval(values, clusters=prompts)
    return (found.high - found.low) / 2 / float(stats.norm.ppf((1 + LEVEL) / 2))
