"""From verdicts to win rates: swap-debiased, strict, and what the judge's own position habit is.

Every number is over scored verdicts and clustered by prompt; `unscored_share` says how many are missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from evals.length_control import length_controlled
from evals.statistics import share_interval
from harness.records import Score, Verdict

__all__ = [
    "first_slot_rate",
    "length_controlled",
    "position_consistency",
    "strict_win_rate",
    "unscored_share",
    "win_rate",
    "winner",
]


def win_rate(verdicts: Sequence[Verdict]) -> Score:
    """Mean swap-debiased probability that the trial wins: p = (p_AB + 1 − p_BA)/2 for each prompt."""
    return _mean_over_scored(verdicts, lambda first, second: (first + second) / 2)


def strict_win_rate(verdicts: Sequence[Verdict]) -> Score:
    """Share of prompts won: a win only if both orders agree on it, a loss likewise, else a tie at ½."""
    return _mean_over_scored(verdicts, _strict_outcome)


def position_consistency(verdicts: Sequence[Verdict]) -> Score:
    """Share of prompts on which both orders name the same winner; a tie agrees only with a tie."""
    return _mean_over_scored(verdicts, lambda first, second: float(winner(first) == winner(second)))


def first_slot_rate(verdicts: Sequence[Verdict]) -> Score:
    """Mean probability, over both orders, that the response shown first wins; ½ without position bias."""
    return _mean_over_scored(verdicts, lambda first, second: (first + 1 - second) / 2)


def unscored_share(verdicts: Sequence[Verdict]) -> Score:
    """Share of verdicts in which an order has no readable answer."""
    return share_interval([float(v.p_win is None) for v in verdicts], clusters=[v.prompt_id for v in verdicts])


def _mean_over_scored(verdicts: Sequence[Verdict], outcome: Callable[[float, float], float]) -> Score:
    """Clustered mean of outcome(p_first, p_second); ValueError where no verdict is scored."""
    scored = [
        (verdict.prompt_id, outcome(verdict.p_first, verdict.p_second))
        for verdict in verdicts
        if verdict.p_first is not None and verdict.p_second is not None
    ]
    return share_interval([value for _, value in scored], clusters=[prompt for prompt, _ in scored])


def winner(p: float) -> float:
    """Of a probability or a utility's share: 1 where the first wins, 0 where it loses, ½ for a tie."""
    return 0.5 if p == 0.5 else float(p > 0.5)


def _strict_outcome(p_first: float, p_second: float) -> float:
    return (winner(p_first) + winner(p_second)) / 2 if winner(p_first) == winner(p_second) else 0.5
