"""Log-probs of held-out pairs, and what they say against the anchor: margins, accuracies, shifts.

Margin m = h(y_w) − h(y_l) with h(y) = log π(y|x) − log a(y|x), in nats and not scaled by beta, so that it compares
across recipes. (The book's compute_dpo_loss gives it like this too; the paper and TRL call beta·m the reward margin.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from evals.statistics import mean_interval, share_interval
from harness.records import Pair, PairLogp, Score
from models.language_model import LanguageModel, make_row, read_in_parts
from models.logprobs import sum_logps
from models.packing import Row, pack


@torch.no_grad()
def measure_pairs(model: LanguageModel, pairs: Sequence[Pair]) -> tuple[PairLogp, ...]:
    """log π of both responses of each held-out pair."""
    rows = [make_row(model.tokens, p.prompt, (p.chosen, p.rejected)) for p in pairs]

    def read(part: list[Row]) -> list[list[float]]:
        batch = pack(part).to(model.decoder.device)
        logps: list[list[float]] = sum_logps(model.decoder, batch, dtype=model.dtype).view(-1, 2).tolist()
        return logps

    found: dict[int, PairLogp] = {}
    for part, logps in read_in_parts(rows, model.rooms.reading, read):
        for i, (chosen, rejected) in zip(part, logps, strict=True):
            found[i] = PairLogp(
                pair=i,
                prompt_id=pairs[i].prompt_id,
                chosen_logp=chosen,
                rejected_logp=rejected,
                chosen_tokens=len(rows[i].responses[0]),
                rejected_tokens=len(rows[i].responses[1]),
            )
    return tuple(found[i] for i in range(len(rows)))


@dataclass(frozen=True, kw_only=True)
class _Both:
    """One pair as policy and anchor see it."""

    policy: PairLogp
    anchor: PairLogp

    @property
    def chosen_shift(self) -> float:
        return self.policy.chosen_logp - self.anchor.chosen_logp

    @property
    def rejected_shift(self) -> float:
        return self.policy.rejected_logp - self.anchor.rejected_logp

    @property
    def margin(self) -> float:
        return self.chosen_shift - self.rejected_shift

    @property
    def ranked(self) -> float:
        return float(self.policy.chosen_logp >= self.policy.rejected_logp)

    @property
    def ranked_per_token(self) -> float:
        chosen = self.policy.chosen_logp / self.policy.chosen_tokens
        return float(chosen >= self.policy.rejected_logp / self.policy.rejected_tokens)


def _accuracy(both: _Both) -> float:
    return 0.5 if both.margin == 0 else float(both.margin > 0)


# Metric → its value for one pair, and its unit. Ties count half in the reward accuracy, so policy = anchor gives 0.5.
METRICS: dict[str, tuple[Callable[[_Both], float], str]] = {
    "reward_accuracy": (_accuracy, "share"),
    "reward_margin_nats": (lambda both: both.margin, "nats"),
    "ranking_accuracy": (lambda both: both.ranked, "share"),
    "ranking_accuracy_per_token": (lambda both: both.ranked_per_token, "share"),
    "chosen_shift_nats": (lambda both: both.chosen_shift, "nats"),
    "rejected_shift_nats": (lambda both: both.rejected_shift, "nats"),
}


def reward_scores(
    policy: Sequence[PairLogp], anchor: Sequence[PairLogp]
) -> tuple[dict[str, Score], dict[str, dict[str, float]]]:
    """Every metric's score, and its mean by prompt for paired comparisons."""
    pairs = [_Both(policy=p, anchor=a) for p, a in zip(policy, anchor, strict=True)]
    clusters = [both.policy.prompt_id for both in pairs]
    scores: dict[str, Score] = {}
    per_prompt: dict[str, dict[str, float]] = {}
    for name, (value, unit) in METRICS.items():
        values = [value(both) for both in pairs]
        share = unit == "share"
        scores[name] = (
            share_interval(values, clusters=clusters) if share else mean_interval(values, unit=unit, clusters=clusters)
        )
        per_prompt[name] = prompt_means(clusters, values)
    scores["chosen_perplexity"] = _perplexity(policy, clusters)
    return scores, per_prompt


def _perplexity(policy: Sequence[PairLogp], clusters: Sequence[str]) -> Score:
    """exp of the mean over pairs of the chosen response's mean negative log-prob a token."""
    nats = mean_interval([-p.chosen_logp / p.chosen_tokens for p in policy], unit="nats", clusters=clusters)
    value, low, high = (math.exp(x) for x in (nats.value, nats.low, nats.high))
    return Score(value=value, low=low, high=high, n=nats.n, unit="perplexity")


def prompt_means(prompt_ids: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    """prompt_id → mean of its values."""
    by_prompt: dict[str, list[float]] = {}
    for prompt_id, value in zip(prompt_ids, values, strict=True):
        by_prompt.setdefault(prompt_id, []).append(value)
    return {prompt_id: sum(found) / len(found) for prompt_id, found in by_prompt.items()}
