"""All that the page's sample browser shows: every response, verdict and mark of a run, packed to stand in the page.

Text is made visible and cut here, so the script has nothing to clean; packed it is Base64, so nothing in it is markup.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from harness.plain import visible
from harness.records import Completion, RunRecord, TrialRecord, Verdict
from reports.deciding import deciding, ranked
from reports.glossary import term
from reports.numbers import figure, score_cell
from reports.text import clipped
from reports.trials import display_name, score

LENGTHS = (4_000, 2_000, 1_000, 500, 250)  # characters of a text: the first with which all fits into ROOM
ROOM = 2_000_000  # bytes, packed: a page of 3 MB bears it beside its figures and tables
DECIMALS = 4  # of a probability

# What a point of the frontier tells of its trial, besides the deciding metric.
_TOLD = ("kl_nats", "reward_accuracy", "correct", "length_ratio")


def packed_evidence(run: RunRecord) -> str:
    """The evidence as Base64 of raw DEFLATE of JSON; long texts are cut shorter where it would not fit."""
    for characters in LENGTHS:
        packed = _pack(evidence(run, characters))
        if len(packed) <= ROOM:
            break
    return packed


def _pack(data: Mapping[str, Any]) -> str:
    compressor = zlib.compressobj(level=9, wbits=-15)
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(compressor.compress(text.encode()) + compressor.flush()).decode()


def evidence(run: RunRecord, characters: int) -> dict[str, Any]:
    """Plain data. Sides are the data's chosen responses, the anchor, and each trial; lists run over the prompts."""
    ids = [prompt.prompt_id for prompt in run.prompts]
    chosen = {"name": "the data's chosen response", "texts": [clipped(p.chosen, characters) for p in run.prompts]}
    anchor = {"name": "anchor", **_written(run.anchor_completions, ids, characters)}
    if run.anchor_scores is not None:
        anchor["correct"] = _by_prompt(run.anchor_scores.per_prompt.get("correct"), ids)
    best = [visible(display_name(run, trial)) for trial, _ in ranked(run, deciding(run).metric)[:1]]
    return {
        "questions": [clipped(prompt.question, characters) for prompt in run.prompts],
        "answers": [clipped(", ".join(p.gold.answers), characters) if p.gold else None for p in run.prompts],
        "judges": _judges(run),
        "best": best[0] if best else None,
        "sides": [chosen, anchor, *(_side(run, trial, ids, characters) for trial in run.trials)],
    }


def _judges(run: RunRecord) -> list[str]:
    """Who says which response wins: the data's check where there is one, then the judges."""
    check = ["the data's check"] if any("gold_win_rate" in t.scores.per_prompt for t in run.trials) else []
    return [*check, *(visible(card.name) for card in run.judges)]


def _side(run: RunRecord, trial: TrialRecord, ids: Sequence[str], characters: int) -> dict[str, Any]:
    marks = trial.scores.per_prompt
    name = display_name(run, trial)
    return {
        "name": visible(name),
        "about": visible(run.bench.recipe_summaries.get(trial.recipe, "")),
        "knobs": visible(", ".join(f"{k} {v}" for k, v in run.bench.recipe_knobs.get(trial.recipe, {}).items())),
        "scores": _told(run, trial),
        **_written(trial.completions, ids, characters),
        "correct": _by_prompt(marks.get("correct"), ids),
        "wins": _wins(run, trial, ids),
    }


def _told(run: RunRecord, trial: TrialRecord) -> list[list[str]]:
    """Title, value with interval, and n of the scores that a reader asks for first."""
    metrics = dict.fromkeys((deciding(run).metric, *_TOLD))
    found = [(metric, s) for metric in metrics if (s := score(trial, metric)) is not None]
    return [
        [
            visible(term(metric).title),
            f"{figure(s.value, s.unit)} ({score_cell(s).interval})",
            f"n = {s.n:,}",
        ]
        for metric, s in found
    ]


def _written(completions: Sequence[Completion], ids: Sequence[str], characters: int) -> dict[str, Any]:
    """Texts, their tokens, and whether the length limit cut them; None where a prompt was not answered."""
    found = {completion.prompt_id: completion for completion in completions}
    there = [found.get(prompt_id) for prompt_id in ids]
    return {
        "texts": [clipped(c.text, characters) if c else None for c in there],
        "tokens": [c.tokens if c else None for c in there],
        "cut": [int(c.truncated) if c else 0 for c in there],
    }


def _by_prompt(values: Mapping[str, float] | None, ids: Sequence[str]) -> list[float | None] | None:
    return None if values is None else [values.get(prompt_id) for prompt_id in ids]


def _wins(run: RunRecord, trial: TrialRecord, ids: Sequence[str]) -> list[list[Any]]:
    """For each of `judges`, for each prompt: [shown first, shown second] P(beats the anchor), or why there is none."""
    gold = trial.scores.per_prompt.get("gold_win_rate")
    check = [[None if (won := gold.get(i)) is None else [won] for i in ids]] if gold is not None else []
    said: dict[str, dict[str, Verdict]] = {}
    for verdict in trial.verdicts:
        said.setdefault(verdict.judge, {})[verdict.prompt_id] = verdict
    return [*check, *([_verdict(said.get(card.name, {}).get(i)) for i in ids] for card in run.judges)]


def _verdict(verdict: Verdict | None) -> list[float] | str | None:
    if verdict is None:
        return None
    if verdict.p_first is None or verdict.p_second is None:
        return visible(verdict.problem or "no readable verdict")
    return [round(verdict.p_first, DECIMALS), round(verdict.p_second, DECIMALS)]
