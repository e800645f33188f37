"""Whether a judge is as often right as it is sure: Brier's score (1950), reliability, expected calibration error."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from evals.statistics import share_interval
from evals.winrate import winner
from harness.records import ReliabilityBin, Score, Verdict

BINS = 5  # of equal width, from a probability of ½ for the preferred response to 1


def brier(verdicts: Sequence[Verdict]) -> Score:
    """Mean (1 − P(chosen wins))² over scored verdicts, `first` the chosen response: 0 at best, 0.25 knowing nothing."""
    scored = [(verdict.prompt_id, (1 - p) ** 2) for verdict in verdicts if (p := verdict.p_win) is not None]
    found = share_interval([loss for _, loss in scored], clusters=[prompt for prompt, _ in scored])
    return dataclasses.replace(found, unit="squared probability")


def reliability(verdicts: Sequence[Verdict]) -> tuple[ReliabilityBin, ...]:
    """Scored verdicts by how sure they are of the response they prefer: the mean of that, and how many are right.

    A tie is half right. The same table comes of P(A wins) in either orientation, folded at ½.
    """
    bins: dict[int, list[float]] = {}
    for p in sorted(verdict.p_win for verdict in verdicts if verdict.p_win is not None):
        bins.setdefault(_place(max(p, 1 - p)), []).append(p)
    return tuple(_bin(bins[place]) for place in sorted(bins))


def calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Mean |predicted − observed|, weighted by verdicts (Naeini et al. 2015); chance alone makes it above zero."""
    return sum(b.n * abs(b.predicted - b.observed) for b in bins) / sum(b.n for b in bins)


def _place(sure: float) -> int:
    return min(BINS - 1, int((sure - 0.5) * 2 * BINS + 1e-9))


def _bin(chosen_wins: Sequence[float]) -> ReliabilityBin:
    count = len(chosen_wins)
    return ReliabilityBin(
        predicted=sum(max(p, 1 - p) for p in chosen_wins) / count,
        observed=sum(winner(p) for p in chosen_wins) / count,
        n=count,
    )
