"""Which prompts a reader should see: the best recipe's clearest win and loss, where trials differ most."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from harness.records import HeldOutPrompt, RunRecord, TrialRecord
from reports.deciding import deciding, ranked
from reports.numbers import percent
from reports.page import Response, Sample
from reports.text import listed
from reports.trials import display_name

SHOWN = 6  # prompts: enough for every reason below once, few enough to be read


def telling_samples(run: RunRecord) -> tuple[Sample, ...]:
    """Up to six prompts, each with the reason why it is shown; the same ones for the same records."""
    if not run.trials:
        return ()
    prompts = {prompt.prompt_id: prompt for prompt in run.prompts}
    chosen: dict[str, str] = {}
    for why, prompt_id in _reasons(run, list(prompts)):
        if prompt_id not in chosen and len(chosen) < SHOWN:
            chosen[prompt_id] = why
    return tuple(_sample(run, prompts[prompt_id], why) for prompt_id, why in chosen.items())


def _reasons(run: RunRecord, prompt_ids: list[str]) -> Iterator[tuple[str, str]]:
    standing = ranked(run, deciding(run).metric)
    best = standing[0][0] if standing else run.trials[0]
    name = display_name(run, best)
    wins, lengths = _wins(run, best), _growth(run, best)
    won = [p for p in prompt_ids if p in wins]
    grown = [p for p in prompt_ids if p in lengths]
    if won:
        yield f"clearest win of {name}", max(won, key=lambda p: wins[p])
        yield f"clearest loss of {name}", min(won, key=lambda p: wins[p])
        spread = _spread(run)
        yield "where the recipes differ most", max(won, key=spread)
        yield f"the middle of {name}'s results", sorted(won, key=lambda p: wins[p])[len(won) // 2]
    if grown:
        yield f"where {name} grew longest", max(grown, key=lambda p: lengths[p])
    yield from (("one of the first prompts", p) for p in prompt_ids[: 0 if won else SHOWN])


def _wins(run: RunRecord, trial: TrialRecord) -> dict[str, float]:
    """The deciding metric by prompt; where that is not kept, the first judge's P(win)."""
    kept = trial.scores.per_prompt.get(deciding(run).metric)
    if kept:
        return kept
    judge = run.judges[0].name if run.judges else ""
    return {v.prompt_id: v.p_win for v in trial.verdicts if v.judge == judge and v.p_win is not None}


def _growth(run: RunRecord, trial: TrialRecord) -> dict[str, float]:
    """Tokens more than the anchor's, by prompt."""
    before = {completion.prompt_id: completion.tokens for completion in run.anchor_completions}
    return {c.prompt_id: c.tokens - before[c.prompt_id] for c in trial.completions if c.prompt_id in before}


def _spread(run: RunRecord) -> Callable[[str], float]:
    """How far the trials' results on one prompt lie apart."""
    wins = [_wins(run, trial) for trial in run.trials]

    def spread(prompt_id: str) -> float:
        values = [win[prompt_id] for win in wins if prompt_id in win]
        return max(values) - min(values) if values else 0.0

    return spread


def _sample(run: RunRecord, prompt: HeldOutPrompt, why: str) -> Sample:
    anchor = next((c.text for c in run.anchor_completions if c.prompt_id == prompt.prompt_id), None)
    responses = [Response(who="the data's chosen response", text=prompt.chosen)]
    if anchor is not None:
        responses.append(Response(who="anchor", text=anchor))
    written: dict[tuple[str, str], list[str]] = {}  # (text, remark) → who wrote it
    for trial in run.trials:
        for completion in trial.completions:
            if completion.prompt_id == prompt.prompt_id:
                key = completion.text, _remark(run, trial, prompt.prompt_id)
                written.setdefault(key, []).append(display_name(run, trial))
    responses += [Response(who=listed(names), text=text, remark=remark) for (text, remark), names in written.items()]
    return Sample(why=why, question=prompt.question, responses=tuple(responses))


def _remark(run: RunRecord, trial: TrialRecord, prompt_id: str) -> str:
    """Whether this response is correct, and what the data's check and each judge say of it against the anchor's."""
    per_prompt = trial.scores.per_prompt
    correct, gold = (per_prompt.get(metric, {}).get(prompt_id) for metric in ("correct", "gold_win_rate"))
    found = [] if correct is None else ["correct" if correct else "wrong"]
    found += [] if gold is None else [f"by the data's check {_outcome(gold)}"]
    for v in trial.verdicts:
        if v.prompt_id == prompt_id:
            said = "no readable verdict" if v.p_win is None else f"{percent(v.p_win)}% to beat the anchor"
            found.append(f"{v.judge}: {said}")
    return "; ".join(found)


def _outcome(gold: float) -> str:
    return "better than the anchor" if gold > 0.5 else "worse than the anchor" if gold < 0.5 else "a tie"
