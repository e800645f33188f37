"""Every two trials of a bench, paired by prompt, on what can decide and on what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evals.statistics import compare_all
from harness.records import Comparison, TrialScores, win_rate_by


def compare_trials(judges: Sequence[str], scores: Mapping[str, TrialScores]) -> list[Comparison]:
    """Trial → its scores in; every pair on each metric out. The anchor is one of the trials where winning is asked."""
    wins = ["gold_win_rate", *map(win_rate_by, judges)]
    found: list[Comparison] = []
    for metric in [*wins, "kl_nats", "reward_accuracy"]:
        values = {name: s.per_prompt[metric] for name, s in scores.items() if metric in s.per_prompt}
        if values and metric in wins:
            # The anchor wins half against itself: "beats the anchor" is one of the tests that Holm corrects.
            values["anchor"] = dict.fromkeys((prompt for won in values.values() for prompt in won), 0.5)
        found += compare_all(values, metric=metric)
    return found
