"""Which of two trials is better by the deciding metric, and how sure that is; each sentence from a test."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.records import Comparison, PairedMetric, RunRecord
from reports.deciding import Deciding, deciding
from reports.gaming import hollow_wins, signs
from reports.glossary import in_sentence
from reports.numbers import comparison_cell, figure, p_value, phrase
from reports.sides import Side
from reports.text import counted
from reports.trials import swapped, told_apart, unit

MOST = 1_000_000  # prompts: beyond them no number is of use


def finding(run: RunRecord, sides: tuple[Side, Side], found: Sequence[PairedMetric]) -> tuple[str, ...]:
    """Which is better by the deciding metric and how sure, or that they cannot be told apart; on what it rests."""
    choice = deciding(run)
    paired = next((one for one in found if one.comparison.metric == choice.metric), None)
    if paired is None:
        names = " and ".join(side.name for side in sides)
        return (f"Which of {names} is better cannot be said: no prompt has {in_sentence(choice.metric)} of both.",)
    first = _told(run, paired) if told_apart(paired.comparison) else _not_told(run, paired)
    sentences = (first, _style(run, sides, paired), _basis(choice), _reach(run))
    return tuple(sentence for sentence in sentences if sentence)


def _higher_first(paired: PairedMetric) -> tuple[Comparison, float, float]:
    """The comparison seen from the higher one, with both means."""
    if paired.comparison.difference < 0:
        return swapped(paired.comparison), paired.b_mean, paired.a_mean
    return paired.comparison, paired.a_mean, paired.b_mean


def _told(run: RunRecord, paired: PairedMetric) -> str:
    c, _, _ = _higher_first(paired)
    return f"{c.a} is better than {c.b} on {in_sentence(c.metric)}: {_numbers(run, paired)}."


def _not_told(run: RunRecord, paired: PairedMetric) -> str:
    c = paired.comparison
    return f"{c.a} and {c.b} cannot be told apart on {in_sentence(c.metric)}: {_numbers(run, paired)}.{_needed(paired)}"


def _numbers(run: RunRecord, paired: PairedMetric) -> str:
    """Both values, their difference with its interval, and p."""
    c, high, low = _higher_first(paired)
    kind = unit(run, c.metric)
    cell = comparison_cell(c, kind)
    shown = p_value(c.p_holm)
    p = f"p {'<' if shown.startswith('<') else '='} {shown.lstrip('<')}"
    corrected = "after Holm's correction over all pairs" if paired.adjusted else "uncorrected"
    values = f"{figure(high, kind)} against {figure(low, kind)} on {counted(c.n, 'held-out prompt')}"
    return f"{values}, {cell.value} (95% interval {cell.interval}), {p} {corrected}"


def _needed(paired: PairedMetric) -> str:
    """How many prompts would show a difference of this size; from that which these could have shown."""
    c = paired.comparison
    if c.difference == 0:
        return " They are exactly level, and no number of prompts tells that apart."
    needed = c.n * (c.detectable / c.difference) ** 2
    if needed <= c.n:
        return ""
    number = f"about {_rounded_up(needed):,}" if needed <= MOST else f"more than {MOST:,}"
    level = ", at Holm's strictest level" if paired.adjusted else ""
    return f" To show a difference of this size, {number} prompts would be needed (80% power{level})."


def _rounded_up(number: float) -> int:
    """To two digits."""
    step: int = 10 ** max(0, math.floor(math.log10(number)) - 1)
    return math.ceil(number / step) * step


def _style(run: RunRecord, sides: tuple[Side, Side], paired: PairedMetric) -> str:
    """Said where the better one's win against the anchor looks like style."""
    if not told_apart(paired.comparison):
        return ""
    name = _higher_first(paired)[0].a
    trial = next(side.trial for side in sides if side.name == name)
    for win in hollow_wins(run):
        if win.trial == trial and win.believed and not win.more_correct:
            return f"But its responses {signs(win)}: read that as style, not substance."
    return ""


def _basis(choice: Deciding) -> str:
    if choice.by_truth:
        return "The data's own check decides: correctness first, then courtesy."
    if choice.judge is not None:
        return (
            f"Judge {choice.judge.name} decides, which ranks {phrase(choice.judge.accuracy)} of labelled pairs rightly."
        )
    return (
        "No win rate can be believed here, so reward accuracy decides: it says how log-probs moved, not how "
        "responses read."
    )


def _reach(run: RunRecord) -> str:
    of = "With one seed this speaks" if run.bench.seeds == 1 else "This speaks"
    return f"{of} of these checkpoints, not of the recipes in general."
