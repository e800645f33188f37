"""The contrast that a bench is about: its best recipe against the next, or one recipe alone against the anchor."""

from __future__ import annotations

from harness.records import Comparison, RunRecord
from reports.deciding import deciding, ranked
from reports.trials import by_recipe, comparison, display_name


def main_contrast(run: RunRecord) -> Comparison | None:
    """On the metric that decides; None where that is not one of prompts answered, or nothing was compared."""
    whole = by_recipe(run)
    choice = deciding(whole)
    names = [display_name(whole, trial) for trial, _ in ranked(whole, choice.metric)]
    if not choice.by_win_rate or not names:
        return None
    return comparison(whole, names[0], names[1] if len(names) > 1 else "anchor", choice.metric)
