"""One side of a comparison of two: a trial, or the anchor, by the name that the report gives it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from harness.errors import HarnessError
from harness.records import Comparison, Completion, RunRecord, TrialRecord, Verdict, win_rate_by
from reports.text import listed, one_line
from reports.trials import comparison, display_name

ANCHOR = "anchor"


@dataclass(frozen=True, kw_only=True)
class Side:
    """What one of the two wrote, and what was measured of it."""

    name: str
    trial: TrialRecord | None  # None: the anchor
    completions: dict[str, Completion]  # by prompt_id
    per_prompt: dict[str, dict[str, float]]  # metric → prompt_id → value
    verdicts: dict[tuple[str, str], Verdict]  # by judge and prompt_id


def two_sides(run: RunRecord, a: str, b: str) -> tuple[Side, Side]:
    """The two that were named; HarnessError where one is not there, or both are the same."""
    first, second = find_side(run, a), find_side(run, b)
    if first.name == second.name:
        raise HarnessError(f"{a!r} and {b!r} are the same trial: name two of {_choice(run)}")
    return first, second


def recorded(run: RunRecord, a: Side, b: Side) -> dict[str, Comparison]:
    """What the run itself found of a − b, by metric."""
    metrics = dict.fromkeys(c.metric for c in run.comparisons)
    return {metric: c for metric in metrics if (c := comparison(run, a.name, b.name, metric)) is not None}


def find_side(run: RunRecord, name: str) -> Side:
    """The trial of this name, or the anchor; HarnessError where it is not there, or has no scores."""
    if name == ANCHOR:
        return _anchor(run)
    for trial in run.trials:
        if name in (display_name(run, trial), trial.name):
            return _side(run, trial)
    raise HarnessError(_unknown(run, name))


def _side(run: RunRecord, trial: TrialRecord) -> Side:
    return Side(
        name=display_name(run, trial),
        trial=trial,
        completions=_by_prompt(trial.completions),
        per_prompt=trial.scores.per_prompt,
        verdicts={(verdict.judge, verdict.prompt_id): verdict for verdict in trial.verdicts},
    )


def _anchor(run: RunRecord) -> Side:
    """The anchor wins half against itself, on every prompt that anybody was judged on."""
    wins: dict[str, dict[str, float]] = {}
    for metric in ("gold_win_rate", *(win_rate_by(card.name) for card in run.judges)):
        won = [trial.scores.per_prompt.get(metric, {}) for trial in run.trials]
        if any(won):
            wins[metric] = {prompt_id: 0.5 for values in won for prompt_id in values}
    own = run.anchor_scores.per_prompt if run.anchor_scores is not None else {}
    return Side(
        name=ANCHOR,
        trial=None,
        completions=_by_prompt(run.anchor_completions),
        per_prompt={**own, **wins},
        verdicts={},
    )


def _by_prompt(completions: Iterable[Completion]) -> dict[str, Completion]:
    return {completion.prompt_id: completion for completion in completions}


def _unknown(run: RunRecord, name: str) -> str:
    """Why there is no such trial, and which there are."""
    if name in run.bench.failed:
        return f"trial {name!r} failed, so it has no scores: {one_line(run.bench.failed[name])}"
    if name in run.unfinished:
        return f"trial {name!r} is not finished: run the same command again to continue it"
    if not run.trials:
        return f"no trial {name!r}: none in this run is finished: run the same command again to continue it"
    names = [display_name(run, trial) for trial in run.trials]
    close = difflib.get_close_matches(name, [ANCHOR, *names], 1, 0.5)
    hint = f"did you mean {close[0]!r}? This run has" if close else "this run has"
    return f"no trial {name!r}: {hint} {_choice(run)}"


def _choice(run: RunRecord) -> str:
    return listed([ANCHOR, *(display_name(run, trial) for trial in run.trials)])
