"""The figures that a win rate hides, by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from evals.quality import (
    commonest_opening,
    distinct_2,
    opening_concentration,
    quality_per_prompt,
    quality_scores,
    repetition,
)
from harness.records import Completion

END = 0
Measure = Callable[[Completion], float | None]


def completion(*ids: int, prompt: str = "p", truncated: bool = False) -> Completion:
    token_ids = ids if truncated else (*ids, END)
    return Completion(prompt_id=prompt, text="", tokens=len(token_ids), truncated=truncated, token_ids=token_ids)


def test_distinct_bigrams_by_hand() -> None:
    """1 2 1 2 1 has four bigrams, two of them distinct."""
    assert distinct_2(completion(1, 2, 1, 2, 1)) == 0.5


def test_repetition_by_hand() -> None:
    """1 1 1 1 1 1 has three 4-grams, two of which were seen before."""
    assert repetition(completion(1, 1, 1, 1, 1, 1)) == pytest.approx(2 / 3)


def test_the_end_token_makes_no_bigram() -> None:
    """Only what the reader sees is counted, whether or not the response was cut."""
    assert distinct_2(completion(1, 1, 1)) == distinct_2(completion(1, 1, 1, truncated=True)) == 0.5


@pytest.mark.parametrize(("ids", "measure"), [((1,), distinct_2), ((1, 2, 3), repetition), ((), repetition)])
def test_too_short_to_measure_is_missing(ids: tuple[int, ...], measure: Measure) -> None:
    """A response without a bigram or 4-gram has no value; it is not zero."""
    assert measure(completion(*ids)) is None


def test_the_commonest_opening_is_found() -> None:
    """Two of three begin with the same four tokens."""
    responses = [completion(5, 6, 7, 8, 9), completion(5, 6, 7, 8), completion(1, 2, 3, 4)]
    assert commonest_opening(responses) == (5, 6, 7, 8)


def test_equally_common_openings_are_settled_by_their_ids() -> None:
    """The answer does not depend on the order of the responses."""
    one, other = completion(5, 6, 7, 8), completion(1, 2, 3, 4)
    assert commonest_opening([one, other]) == commonest_opening([other, one]) == (1, 2, 3, 4)


def test_opening_concentration_by_hand() -> None:
    """Two of four responses open alike; a shorter response is an opening of its own."""
    responses = [
        completion(5, 6, 7, 8, 9),
        completion(5, 6, 7, 8),
        completion(5, 6, 7),
        completion(1, 2, 3, 4),
    ]
    score = opening_concentration(responses)
    assert (score.value, score.n, score.unit) == (0.5, 4, "share")


def test_per_prompt_values_leave_the_missing_out() -> None:
    """A prompt without a value is absent, so that pairs are made of real values only."""
    values = quality_per_prompt([completion(1, 2, prompt="a"), completion(1, prompt="b")])
    assert values["distinct_2"] == {"a": 1.0}
    assert values["length_tokens"] == {"a": 3.0, "b": 2.0}


def test_scores_have_their_units() -> None:
    """Lengths are in tokens, all else is a share."""
    scores = quality_scores([completion(1, 2, 3, 4), completion(1, 2, 3, 4, 5, truncated=True, prompt="q")])
    assert {name: score.unit for name, score in scores.items()} == {
        "length_tokens": "tokens",
        "truncated": "share",
        "distinct_2": "share",
        "repetition": "share",
        "opening_concentration": "share",
    }


def test_a_metric_that_no_response_allows_is_absent() -> None:
    """One-token answers have no repetition score at all."""
    assert "repetition" not in quality_scores([completion(1), completion(2, prompt="q")])


def test_no_completions_raise() -> None:
    """The mean of nothing raises."""
    with pytest.raises(ValueError, match="no completions"):
        quality_scores([])
