"""All scores of one trial, from what it wrote and the log-probs it gave; nothing here runs a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evals.gold import judge_gold
from evals.quality import commonest_opening, opening, quality_per_prompt, quality_scores
from evals.rewards import prompt_means, reward_scores
from evals.statistics import mean_interval, paired_difference, share_interval
from evals.winrate import strict_win_rate, unscored_share, win_rate
from harness.records import Completion, Gold, PairLogp, Sample, Score, TrialScores, Verdict, win_rate_by
from models.tokens import Tokens


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What one checkpoint left behind on the held-out prompts."""

    completions: tuple[Completion, ...]
    samples: tuple[Sample, ...]
    pairs: tuple[PairLogp, ...]
    verdicts: tuple[Verdict, ...] = ()


def score_trial(
    recipe: str, seed: int, policy: Evidence, anchor: Evidence, golds: Mapping[str, Gold], tokens: Tokens
) -> TrialScores:
    """Every metric of the trial against the anchor. `golds` is prompt_id → gold, empty where no truth is known."""
    scores, per_prompt = reward_scores(policy.pairs, anchor.pairs)
    parts = [
        *([_divergence(policy.samples)] if policy.samples else []),  # the anchor has none: its KL to itself is zero
        _quality(policy.completions, anchor.completions),
        *(_judged(judge, verdicts) for judge, verdicts in _by_judge(policy.verdicts, against="anchor").items()),
        *(_against_chosen(judge, found) for judge, found in _by_judge(policy.verdicts, against="chosen").items()),
    ]
    if golds:
        parts.append(_gold(policy.completions, anchor.completions, golds))
    for more_scores, more_values in parts:
        scores |= more_scores
        per_prompt |= more_values
    common = commonest_opening(policy.completions)
    return TrialScores(
        recipe=recipe,
        seed=seed,
        scores=scores,
        per_prompt=per_prompt,
        commonest_opening=tokens.decode(common).strip(),
        anchor_opening_share=sum(opening(c) == common for c in anchor.completions) / len(anchor.completions),
    )


Part = tuple[dict[str, Score], dict[str, dict[str, float]]]


def _divergence(samples: Sequence[Sample]) -> Part:
    ids = [s.prompt_id for s in samples]
    kl, k1 = [s.kl_nats for s in samples], [s.k1_nats for s in samples]
    per_token = [s.kl_nats / s.tokens for s in samples]
    scores = {
        "kl_nats": mean_interval(kl, unit="nats", clusters=ids),
        "kl_per_token_nats": mean_interval(per_token, unit="nats/token", clusters=ids),
        "k1_nats": mean_interval(k1, unit="nats", clusters=ids),
        "samples_truncated": share_interval([float(s.truncated) for s in samples], clusters=ids),
    }
    return scores, {"kl_nats": prompt_means(ids, kl), "k1_nats": prompt_means(ids, k1)}


def _quality(policy: Sequence[Completion], anchor: Sequence[Completion]) -> Part:
    scores, per_prompt = quality_scores(policy), quality_per_prompt(policy)
    scores["length_ratio"] = _length_ratio(policy, anchor)
    return scores, per_prompt


def _length_ratio(policy: Sequence[Completion], anchor: Sequence[Completion]) -> Score:
    """Mean length over the anchor's mean length; its interval pairs them by prompt (delta method of a ratio)."""
    theirs = {c.prompt_id: c.tokens for c in anchor}
    mean = sum(theirs.values()) / len(theirs)
    ratio = sum(c.tokens for c in policy) / len(policy) / mean
    linear = [ratio + (c.tokens - ratio * theirs[c.prompt_id]) / mean for c in policy]
    return mean_interval(linear, unit="ratio", clusters=[c.prompt_id for c in policy])


def _by_judge(verdicts: Sequence[Verdict], *, against: str) -> dict[str, list[Verdict]]:
    found: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.against == against:
            found.setdefault(verdict.judge, []).append(verdict)
    return found


def _judged(judge: str, verdicts: Sequence[Verdict]) -> Part:
    """Missing where the judge gave no readable verdict at all: that is shown by its unscored share."""
    scores = {f"unscored[{judge}]": unscored_share(verdicts)}
    scored = {v.prompt_id: v.p_win for v in verdicts if v.p_win is not None}
    if not scored:
        return scores, {}
    scores |= {win_rate_by(judge): win_rate(verdicts), win_rate_by(judge, "strict"): strict_win_rate(verdicts)}
    return scores, {win_rate_by(judge): scored}


def _against_chosen(judge: str, verdicts: Sequence[Verdict]) -> Part:
    """How often the trial's response beats the data set's chosen one, by this judge."""
    scored = {v.prompt_id: v.p_win for v in verdicts if v.p_win is not None}
    metric = win_rate_by(judge, "chosen")
    return ({metric: win_rate(verdicts)}, {metric: scored}) if scored else ({}, {})


def _gold(policy: Sequence[Completion], anchor: Sequence[Completion], golds: Mapping[str, Gold]) -> Part:
    """Win rate by the truth (correctness first, then courtesy), and how many answers are correct."""
    mine = {c.prompt_id: judge_gold(golds[c.prompt_id], c.text) for c in policy if c.prompt_id in golds}
    theirs = {c.prompt_id: judge_gold(golds[c.prompt_id], c.text) for c in anchor if c.prompt_id in golds}
    wins = {i: _won(mine[i].utility, theirs[i].utility) for i in mine}
    correct = {i: float(mark.correct) for i, mark in mine.items()}
    change = paired_difference(correct, {i: float(mark.correct) for i, mark in theirs.items()})
    scores = {
        "gold_win_rate": share_interval(list(wins.values())),
        "correct": share_interval(list(correct.values())),
        "correct_change": Score(value=change.difference, low=change.low, high=change.high, n=change.n, unit="share"),
        "courtesy": mean_interval([float(m.courtesy) for m in mine.values()], unit="−1…1"),
    }
    courtesy = {i: float(mark.courtesy) for i, mark in mine.items()}
    return scores, {"gold_win_rate": wins, "correct": correct, "courtesy": courtesy}


def _won(mine: float, theirs: float) -> float:
    return 0.5 if mine == theirs else float(mine > theirs)
