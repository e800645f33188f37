"""From a chat judge's first token to P(A): over every spelling of each label, or unscored."""

from __future__ import annotations

import math
from collections.abc import Iterable

from evals.judges.protocol import Opinion

LEAST_MASS = 0.5  # of the label tokens together; below it the judge was not answering the question

_AROUND = " \t\r\n▁Ġ\"'`*_.:,;()[]{}"  # what tokenizers and markdown put around the letter


def read_logprobs(tokens: Iterable[tuple[str, float]]) -> Opinion:
    """P(A) / (P(A) + P(B)) from the likeliest first tokens and their natural log-probs."""
    mass = {"A": 0.0, "B": 0.0}
    for token, logprob in tokens:
        if _label(token) in mass:
            mass[_label(token)] += math.exp(logprob)
    total = mass["A"] + mass["B"]
    if total < LEAST_MASS:
        return Opinion(p_first=None, problem=f"the labels A and B together have probability {total:.2f}")
    return Opinion(p_first=mass["A"] / total)


def read_letter(text: str) -> Opinion:
    """1 for A, 0 for B, from the one token of an answer whose probabilities are not known."""
    if _label(text) not in ("A", "B"):
        return Opinion(p_first=None, problem=f"the answer {text[:20]!r} is neither A nor B")
    return Opinion(p_first=float(_label(text) == "A"))


def _label(token: str) -> str:
    return token.strip(_AROUND).upper()
