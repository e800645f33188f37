"""Win rates corrected for the judge's own errors, as measured on labelled pairs.

With q1 = E[v | A better] and q0 = E[1 − v | B better], v the judge's soft verdict for A, the mean verdict on a trial
that truly wins a share θ is p = θ·q1 + (1 − θ)·(1 − q0), so θ = (p + q0 − 1)/(q0 + q1 − 1) (Rogan & Gladen 1978; for
LLM judges arXiv:2511.21140). Soft verdicts are used as they are: thresholding one side of it only is biased. It
assumes that the judge errs on policies' responses as it does on labelled pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

from evals.statistics import LEVEL
from harness.records import WIDEST_CORRECTED, Score


@dataclass(frozen=True, kw_only=True)
class JudgeErrors:
    """What a judge's verdicts are worth on labelled pairs: two means and their standard errors."""

    sensitivity: float  # q1 = E[v | A better]
    sensitivity_error: float
    specificity: float  # q0 = E[1 − v | B better]
    specificity_error: float
    pairs: int  # prompts that the smaller of both rests on

    @property
    def informative(self) -> bool:
        """Whether a better response gets the better verdict at all, on average."""
        return self.sensitivity + self.specificity > 1


def corrected_win_rate(rate: float, error: float, n: int, judge: JudgeErrors) -> Score:
    """The true win rate θ behind a mean verdict `rate` with standard error `error` over n prompts.

    The interval is Fieller's (1954): all θ with (p + q0 − 1 − θ·(q0 + q1 − 1))² ≤ t²·Var, p, q0 and q1 all being
    uncertain. So it covers for a judge hardly better than chance too, where it is the whole of [0, 1].
    """
    if not judge.informative:
        return Score(value=rate, low=0.0, high=1.0, n=n, unit="share")
    spread = judge.sensitivity + judge.specificity - 1
    value = (rate + judge.specificity - 1) / spread
    low, high = _fieller(rate, error, judge, float(stats.t.ppf((1 + LEVEL) / 2, max(1, min(n, judge.pairs) - 1))))
    value = min(1.0, max(0.0, value))
    return Score(value=value, low=min(value, low), high=max(value, high), n=n, unit="share")


def too_weak(score: Score) -> bool:
    """Whether the judge behind a corrected rate is too weak to correct for."""
    return score.high - score.low > WIDEST_CORRECTED


def _fieller(rate: float, error: float, judge: JudgeErrors, critical: float) -> tuple[float, float]:
    """The interval's ends within [0, 1]. a·θ² + b·θ + c ≤ 0 is (y − θ·d)² ≤ t²·(Vp + (1 − θ)²·V0 + θ²·V1)."""
    above, spread = rate + judge.specificity - 1, judge.sensitivity + judge.specificity - 1
    square = critical**2
    of_rate, of_q0, of_q1 = error**2, judge.specificity_error**2, judge.sensitivity_error**2
    a = spread**2 - square * (of_q0 + of_q1)
    b = -2 * above * spread + 2 * square * of_q0
    c = above**2 - square * (of_rate + of_q0)
    room = b * b - 4 * a * c
    if a <= 0 or room < 0:
        return 0.0, 1.0
    low, high = (-b - math.sqrt(room)) / (2 * a), (-b + math.sqrt(room)) / (2 * a)
    return min(1.0, max(0.0, low)), max(0.0, min(1.0, high))
