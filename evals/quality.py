"""What a win rate hides: length, truncation, repetition, and how many responses open alike.

Counts are over the response without its end token, except the length, which includes it. A response
too short to have a bigram or a 4-gram has no value there: it is left out, never counted as zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from evals.statistics import mean_interval, proportion_interval, share_interval
from harness.records import Completion, Score

OPENING_TOKENS = 4
REPEATED_TOKENS = 4


def length_tokens(completion: Completion) -> float:
    """Tokens, end token included."""
    return float(completion.tokens)


def truncated(completion: Completion) -> float:
    """1 where the length limit cut the response."""
    return float(completion.truncated)


def distinct_2(completion: Completion) -> float | None:
    """Share of the response's bigrams that are distinct (arXiv:1510.03055, within one response)."""
    bigrams = _ngrams(_own_tokens(completion), 2)
    return len(set(bigrams)) / len(bigrams) if bigrams else None


def repetition(completion: Completion) -> float | None:
    """Share of the response's 4-grams that it had used before (seq-rep-4 of arXiv:1908.04319)."""
    grams = _ngrams(_own_tokens(completion), REPEATED_TOKENS)
    return 1 - len(set(grams)) / len(grams) if grams else None


def opening(completion: Completion) -> tuple[int, ...]:
    """The first 4 token ids of the response, or all of them where it has fewer."""
    return _own_tokens(completion)[:OPENING_TOKENS]


def commonest_opening(completions: Sequence[Completion]) -> tuple[int, ...]:
    """Token ids of the opening that the most responses share; of equally common ones the lowest ids."""
    if not completions:
        raise ValueError("no completions have no commonest opening")
    counts = Counter(opening(completion) for completion in completions)
    return min(counts, key=lambda ids: (-counts[ids], ids))


def opening_concentration(completions: Sequence[Completion]) -> Score:
    """Share of responses that begin with the commonest opening."""
    commonest = commonest_opening(completions)
    return proportion_interval(sum(opening(c) == commonest for c in completions), len(completions))


_PER_RESPONSE: dict[str, Callable[[Completion], float | None]] = {
    "length_tokens": length_tokens,
    "truncated": truncated,
    "distinct_2": distinct_2,
    "repetition": repetition,
}


def quality_per_prompt(completions: Sequence[Completion]) -> dict[str, dict[str, float]]:
    """Metric → prompt_id → value, one completion a prompt, for paired comparisons."""
    values = {
        name: [(completion.prompt_id, measure(completion)) for completion in completions]
        for name, measure in _PER_RESPONSE.items()
    }
    return {name: {p: v for p, v in found if v is not None} for name, found in values.items()}


def quality_scores(completions: Sequence[Completion]) -> dict[str, Score]:
    """Metric → score of the trial; a metric that no response is long enough for is absent."""
    scores = {
        name: _mean_score(name, list(values.values()))
        for name, values in quality_per_prompt(completions).items()
        if len(values) > 1
    }
    return {**scores, "opening_concentration": opening_concentration(completions)}


def _mean_score(name: str, values: list[float]) -> Score:
    return mean_interval(values, unit="tokens") if name == "length_tokens" else share_interval(values)


def _own_tokens(completion: Completion) -> tuple[int, ...]:
    return completion.token_ids if completion.truncated else completion.token_ids[:-1]


def _ngrams(ids: tuple[int, ...], size: int) -> list[tuple[int, ...]]:
    return [ids[start : start + size] for start in range(len(ids) - size + 1)]
