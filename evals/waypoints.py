"""A trial on its way: what the checkpoints midway through its last stage score, on few prompts so that it costs little.

Scored are KL, reward accuracy, the win rate by the data's check where there is one, and the win rates by judges that
answer in process at once; the same first held-out prompts for all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evals.completions import complete, sample
from evals.divergence import measure_samples
from evals.judges.protocol import Judge
from evals.judging import judge_completions
from evals.rewards import measure_pairs
from evals.score import Evidence, score_trial
from harness.records import Gold, Pair, Score, Waypoint, win_rate_by
from models.language_model import LanguageModel
from models.tokens import Tokens

SHARE = 10  # of how many held-out prompts one is answered on the way
LEAST, MOST = 4, 24  # prompts
CHEAP_JUDGES = ("probe", "rule")  # kinds that answer in process; others are servers', or as slow
_SCORED = ("kl_nats", "reward_accuracy", "gold_win_rate")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a checkpoint on the way wrote and what log-probs it gave; no judge is in it."""

    step: int
    spent: float  # share of the stage's budget
    evidence: Evidence


@dataclass(frozen=True, kw_only=True)
class Few:
    """The prompts and pairs that are asked of a checkpoint on the way."""

    prompts: tuple[Pair, ...]
    pairs: tuple[Pair, ...]  # of these prompts


def choose_few(held_out: Sequence[Pair], labelled: Sequence[Pair]) -> Few:
    """The first tenth of the held-out prompts, 4 to 24 of them, and their labelled pairs."""
    prompts = tuple(held_out[: min(MOST, max(LEAST, len(held_out) // SHARE))])
    asked = {pair.prompt_id for pair in prompts}
    return Few(prompts=prompts, pairs=tuple(pair for pair in labelled if pair.prompt_id in asked))


def observe(policy: LanguageModel, anchor: LanguageModel, few: Few, *, limit: int, seed: int) -> Evidence:
    """What the checkpoint writes for the prompts, with its KL along its samples, and its log-probs of the pairs."""
    written = sample(policy, few.prompts, limit=limit, seed=seed)
    return Evidence(
        completions=complete(policy, few.prompts, limit=limit),
        samples=measure_samples(policy, anchor, few.prompts, written),
        pairs=measure_pairs(policy, few.pairs),
    )


def score_waypoint(
    seen: Seen, anchor: Evidence, few: Few, judges: Sequence[Judge], golds: Mapping[str, Gold], tokens: Tokens
) -> Waypoint:
    """The checkpoint's scores against what the anchor did with the same prompts and pairs."""
    mine, theirs = seen.evidence, _narrowed(anchor, few)
    cheap = [judge for judge in judges if judge.name.partition(":")[0] in CHEAP_JUDGES]
    verdicts = judge_completions(cheap, few.prompts, mine.completions, theirs.completions)
    judged = Evidence(completions=mine.completions, samples=mine.samples, pairs=mine.pairs, verdicts=tuple(verdicts))
    scored = score_trial("", 0, judged, theirs, golds, tokens)
    kept = (*_SCORED, *(win_rate_by(judge.name) for judge in cheap))
    return Waypoint(
        step=seen.step,
        spent=seen.spent,
        scores={name: scored.scores[name] for name in kept if name in scored.scores},
        per_prompt={name: scored.per_prompt[name] for name in kept if name in scored.per_prompt},
    )


def anchor_itself(like: Waypoint) -> Waypoint:
    """Where a stage begins that starts at the anchor, by another waypoint's metrics: no KL, every outcome even."""
    even = {name: 0.0 if name == "kl_nats" else 0.5 for name in like.scores}
    scores = {
        name: Score(value=value, low=value, high=value, n=like.scores[name].n, unit=like.scores[name].unit)
        for name, value in even.items()
    }
    per_prompt = {name: dict.fromkeys(values, even[name]) for name, values in like.per_prompt.items()}
    return Waypoint(step=0, spent=0.0, scores=scores, per_prompt=per_prompt)


def _narrowed(anchor: Evidence, few: Few) -> Evidence:
    asked = {pair.prompt_id for pair in few.prompts}
    return Evidence(
        completions=tuple(c for c in anchor.completions if c.prompt_id in asked),
        samples=(),
        pairs=tuple(p for p in anchor.pairs if p.prompt_id in asked),
    )
