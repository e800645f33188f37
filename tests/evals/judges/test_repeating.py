"""Asked again, a judge is asked itself and not its memory, and its speed is of that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest

from evals.judges.memory import Remembering
from evals.judges.protocol import Judge, Opinion, Question, ask_both_orders
from evals.judges.repeating import MOST_REPEATS, Repeats, ask_again

QUESTIONS = [Question(prompt_id=f"p{n}", question="?", first=f"good {n}", second=f"bad {n}") for n in range(50)]


class Double:
    """Prefers a good response with a probability that depends on how many questions it has been asked."""

    name = "double"
    description = "a double"

    def __init__(self, p_good: Callable[[int], float | None] = lambda asked: 0.9) -> None:
        self.p_good, self.asked = p_good, 0

    def p_first_wins(self, questions: Sequence[Question]) -> list[Opinion]:
        return [self._opinion(question) for question in questions]

    def content(self, question: Question) -> str:
        return f"{question.first} or {question.second}"

    def _opinion(self, question: Question) -> Opinion:
        self.asked += 1
        p = self.p_good(self.asked)
        return Opinion(p_first=p if p is None or question.first.startswith("good") else 1 - p)


class Shelf:
    """Where a judge's memory lies, here in a dictionary."""

    def __init__(self) -> None:
        self.kept: dict[str, float] = {}

    def get(self, key: str) -> float | None:
        return self.kept.get(key)

    def add(self, found: Mapping[str, float]) -> None:
        self.kept |= found


def asked_twice(judge: Judge, questions: Sequence[Question] = QUESTIONS, seconds: float = 4.0) -> Repeats:
    """All questions once, then some again, which takes so long."""
    ticks = iter((0.0, seconds))
    return ask_again(judge, questions, ask_both_orders(judge, questions), clock=lambda: next(ticks))


def test_a_steady_judge_agrees_with_itself() -> None:
    """On 32 questions, however many there were."""
    found = asked_twice(Double()).agreement
    assert found is not None
    assert (found.value, found.n) == (1.0, MOST_REPEATS)


def test_a_judge_that_changes_its_mind_is_seen() -> None:
    """The first 100 questions are both orders of all 50; a quarter of what follows turns out otherwise."""
    found = asked_twice(Double(lambda asked: 0.9 if asked <= 100 or asked % 4 else 0.0)).agreement
    assert found is not None
    assert found.value == 0.75


def test_a_memory_is_passed_by() -> None:
    """Else every judge with a cache would agree with itself."""
    judge = Double()
    asked_twice(Remembering(judge, Shelf()))
    assert judge.asked == 2 * len(QUESTIONS) + 2 * MOST_REPEATS


def test_speed_is_verdicts_of_both_orders_a_second() -> None:
    assert asked_twice(Double(), seconds=4.0).verdicts_per_second == MOST_REPEATS / 4


def test_identical_responses_are_not_asked_again() -> None:
    """They are tied unasked, so they show neither agreement nor speed."""
    same = [Question(prompt_id="p", question="?", first="good", second="good")]
    assert asked_twice(Double(), same) == Repeats(None, None)


@pytest.mark.parametrize("mute", [lambda asked: None, lambda asked: 0.9 if asked <= 100 else None])
def test_a_judge_that_is_mute_agrees_with_nobody(mute: Callable[[int], float | None]) -> None:
    """Neither with itself nor against: unscored verdicts are left out."""
    assert asked_twice(Double(mute)).agreement is None
