"""The rule judges do what their rule says, and no more."""

from __future__ import annotations

import pytest

from evals.judges.protocol import Judge, Question
from evals.judges.rule import GoldRule, LengthRule
from harness.errors import HarnessError
from harness.records import Gold

NUMBER = Gold(kind="number", answers=("12",))


def p_first(judge: Judge, first: str, second: str, gold: Gold | None = None) -> float | None:
    question = Question(prompt_id="p", question="5 + 7?", first=first, second=second, gold=gold)
    return judge.p_first_wins([question])[0].p_first


@pytest.mark.parametrize(("first", "second", "p"), [("ab", "a", 1.0), ("a", "ab", 0.0), ("ab", "cd", 0.5)])
def test_the_longer_response_wins(first: str, second: str, p: float) -> None:
    """rule:length counts characters; equal lengths tie."""
    assert p_first(LengthRule(), first, second) == p


@pytest.mark.parametrize(("first", "second", "p"), [("12", "13", 1.0), ("13", "12", 0.0), ("12", "It is 12.", 0.5)])
def test_the_correct_response_wins(first: str, second: str, p: float) -> None:
    """rule:gold follows the data's checker."""
    assert p_first(GoldRule(), first, second, NUMBER) == p


def test_gold_is_asked_for_where_there_is_none() -> None:
    """Data without the truth cannot be judged by it, and the message says what can be done."""
    with pytest.raises(HarnessError, match=r"needs gold answers, '5 \+ 7\?' has none: use --judge probe"):
        p_first(GoldRule(), "12", "13")
