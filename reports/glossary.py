"""What each score is called in a table, and what it means in plain words."""

from __future__ import annotations

import re
from typing import NamedTuple

from harness.records import WinRateKind, judge_of, win_rate_by


class Term(NamedTuple):
    """A score's short title and its meaning in one sentence."""

    title: str
    meaning: str


_TERMS = {
    "gold_win_rate": Term("Gold win rate", "how often it beats the anchor's: correctness first, then courtesy"),
    "gold_win_rate_controlled": Term("Gold, equal length", "the gold win rate as it would be at equal length"),
    "reward_accuracy": Term("Reward accuracy", "how often it moved the chosen response up more than the rejected"),
    "reward_margin_nats": Term("Margin, nats", "by how much, on average; not scaled by beta"),
    "ranking_accuracy": Term("Ranking accuracy", "how often the chosen response is the likelier, no anchor involved"),
    "ranking_accuracy_per_token": Term("Ranking accuracy per token", "the same by mean log-prob of a token"),
    "chosen_shift_nats": Term("Chosen shift, nats", "how far the chosen response's log-prob moved from the anchor's"),
    "rejected_shift_nats": Term("Rejected shift, nats", "how far the rejected response's log-prob moved"),
    "kl_nats": Term("KL, nats", "how far its responses drifted from the anchor's, summed over a response"),
    "kl_per_token_nats": Term("KL per token, nats", "the same drift, a token"),
    "k1_nats": Term("KL check (k1), nats", "the plain estimate of KL; should agree within its noise"),
    "samples_truncated": Term("Samples cut", "share of the samples behind KL that reached the length limit"),
    "correct": Term("Correct", "share of responses with the right answer"),
    "correct_change": Term("Change in correct", "correctness against the anchor's, prompt by prompt"),
    "courtesy": Term("Courtesy", "how courteous, from rude (−1) to polite (1), by the data's own rules"),
    "length_tokens": Term("Length, tokens", "tokens in a response"),
    "length_ratio": Term("Length ratio", "length against the anchor's"),
    "truncated": Term("Cut off", "share of responses that reached the length limit"),
    "distinct_2": Term("Distinct 2-grams", "share of token pairs that are not repeats within their response"),
    "repetition": Term("Repetition", "share of 4-grams already seen in the same response"),
    "opening_concentration": Term("Same opening", "share of responses that begin with the commonest four tokens"),
    "chosen_perplexity": Term("Perplexity", "of the data's chosen responses: lower is more expected"),
}


_KINDS: dict[WinRateKind, Term] = {
    "strict": Term("Strict win rate by {}", "a win only if both orders agree, else a tie at one half"),
    "controlled": Term("At equal length by {}", "the win rate as it would be with responses as long as the anchor's"),
    "corrected": Term("Corrected win rate by {}", "the win rate without the judge's errors on labelled pairs"),
    "chosen": Term("Against chosen by {}", "how often the judge prefers its response to the data's chosen one"),
}


def term(metric: str) -> Term:
    """The term for a score; `win_rate[probe]` and its kin are named after their judge."""
    if metric in _TERMS:
        return _TERMS[metric]
    if unscored := re.fullmatch(r"unscored\[(.+)\]", metric):
        return Term(f"Unscored by {unscored[1]}", "share of its responses that the judge gave no readable verdict on")
    judge = judge_of(metric)
    if judge is None:
        return Term(metric, metric.replace("_", " "))
    if metric == win_rate_by(judge):
        return Term(f"Win rate by {judge}", f"how often judge {judge} prefers its response to the anchor's")
    kind = next(kind for kind in _KINDS if metric == win_rate_by(judge, kind))
    title, meaning = _KINDS[kind]
    return Term(title.format(judge), meaning)


def in_sentence(metric: str) -> str:
    """The title as it stands within a sentence, without its unit: "gold win rate", "KL"."""
    title = term(metric).title.partition(", ")[0]
    return title if title[:2].isupper() else f"{title[:1].lower()}{title[1:]}"
