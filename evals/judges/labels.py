"""From a chat judge's first token to P(A): over every spelling of each label, or unscored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from evals.judges.protocol import Opinion

LEAST_MASS = 0.5  # of the label tokens together; below it the judge was not answering the question
TOP_TOKENS = 20  # the most that the servers give

_AROUND = " \t\r\n▁Ġ\"'`*_.:,;()[]{}"  # what tokenizers and markdown put around the letter


def read_answer(tokens: Sequence[tuple[str, float]], text: str) -> Opinion:
    """By the likeliest first tokens and their natural log-probs where the server gave any, else by the letter.

    ValueError where they are no log-probs: a reply to ask for again.
    """
    if not tokens:
        return read_letter(text)
    if not sum(math.exp(min(logprob, 1.0)) for _, logprob in tokens) <= 1.01:  # above 1 by rounding, at most; NaN fails
        raise ValueError("the log-probs of the first token are none")
    return read_logprobs(tokens)


def read_logprobs(tokens: Iterable[tuple[str, float]]) -> Opinion:
    """P(A) / (P(A) + P(B)) from the likeliest first tokens and their natural log-probs."""
    mass = {"A": 0.0, "B": 0.0}
    for token, logprob in tokens:
        if (label := label_of(token)) is not None:
            mass[label] += math.exp(logprob)
    total = mass["A"] + mass["B"]
    if total < LEAST_MASS:
        return Opinion(p_first=None, problem=f"the labels A and B together have probability {total:.2f}")
    return Opinion(p_first=mass["A"] / total)


def read_letter(text: str) -> Opinion:
    """1 for A, 0 for B, from the one token of an answer whose probabilities are not known."""
    label = label_of(text)
    if label is None:
        return Opinion(p_first=None, problem=f"the answer {text[:20]!r} is neither A nor B")
    return Opinion(p_first=float(label == "A"))


def label_of(token: str) -> str | None:
    """The label that a token spells, "A" or "B", whatever stands around it; None where it spells neither."""
    letter = token.strip(_AROUND).upper()
    return letter if letter in ("A", "B") else None
