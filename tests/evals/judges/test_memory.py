"""A judge that remembers is asked once for each thing that an answer hangs on, and keeps no failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from evals.judges.memory import CHUNK, Costly, Remembering
from evals.judges.probe import Probe
from evals.judges.protocol import Opinion, Question
from evals.judges.rule import LengthRule

PARIS = Question(prompt_id="p1", question="Capital of France?", first="Paris", second="Rome")


class Book:
    """A shelf in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, float] = {}
        self.additions = 0

    def get(self, key: str) -> float | None:
        return self.kept.get(key)

    def add(self, found: Mapping[str, float]) -> None:
        self.kept.update(found)
        self.additions += 1


class Asked:
    """Gives every question another probability, notes what it was asked, and fails where it is told to."""

    def __init__(self, description: str = "a model (digest 1)", rules: str = "", failing: str = "nothing") -> None:
        self.name, self.description, self.rules, self.failing = "asked", description, rules, failing
        self.questions: list[Question] = []

    def p_first_wins(self, questions: Sequence[Question]) -> list[Opinion]:
        self.questions += questions
        return [self._opinion(n, question) for n, question in enumerate(questions)]

    def _opinion(self, number: int, question: Question) -> Opinion:
        if question.first == self.failing:
            return Opinion(p_first=None, problem="the server answered 500")
        return Opinion(p_first=1 / (2 + number))

    def content(self, question: Question) -> str:
        return f"{self.rules}|{question.question}|{question.first}|{question.second}"


def many(count: int) -> list[Question]:
    return [replace(PARIS, first=f"answer {n}") for n in range(count)]


def test_the_second_time_nothing_is_asked() -> None:
    """By another judge of the same description on the same shelf, and the answers are those of the first time."""
    book, first, second = Book(), Asked(), Asked()
    before = Remembering(first, book).p_first_wins(many(9))
    assert Remembering(second, book).p_first_wins(many(9)[::-1]) == before[::-1]
    assert (len(first.questions), second.questions) == (9, [])


@pytest.mark.parametrize(
    "changed",
    [{"first": "Lyon"}, {"second": "Lyon"}, {"question": "Capital of Italy?"}, {"first": "Rome", "second": "Paris"}],
)
def test_another_question_is_asked(changed: dict[str, str]) -> None:
    """Each text counts, and their order."""
    book, judge = Book(), Asked()
    for question in (PARIS, replace(PARIS, **changed)):
        Remembering(judge, book).p_first_wins([question])
    assert len(judge.questions) == 2


@pytest.mark.parametrize("other", [Asked(description="a model (digest 2)"), Asked(rules="prefer the shorter")])
def test_another_judge_is_asked(other: Asked) -> None:
    """Other weights, or other rules."""
    book = Book()
    for judge in (Asked(), other):
        Remembering(judge, book).p_first_wins([PARIS])
    assert len(other.questions) == 1


def test_a_failure_is_not_kept() -> None:
    """It is asked again, and what is known is not."""
    book, judge = Book(), Asked(failing="Paris")
    remembering = Remembering(judge, book)
    lost, kept = remembering.p_first_wins([PARIS, PARIS.swap()])
    assert (lost.p_first, list(book.kept.values())) == (None, [kept.p_first])
    judge.failing = "nothing"
    assert remembering.p_first_wins([PARIS, PARIS.swap()])[0].p_first is not None
    assert judge.questions == [PARIS, PARIS.swap(), PARIS]


def test_answers_are_kept_as_they_come() -> None:
    """A run that is interrupted loses no more than a chunk."""
    book = Book()
    Remembering(Asked(), book).p_first_wins(many(3 * CHUNK + 1))
    assert book.additions == 4


def test_the_judge_itself_can_be_asked() -> None:
    """Who measures whether it says the same twice asks past the shelf."""
    judge = Asked()
    remembering = Remembering(judge, Book())
    remembering.p_first_wins([PARIS])
    remembering.unremembered.p_first_wins([PARIS])
    assert judge.questions == [PARIS, PARIS]


def test_it_goes_by_the_judges_name() -> None:
    """Reports do not tell them apart."""
    judge = Asked()
    remembering = Remembering(judge, Book())
    assert (remembering.name, remembering.description) == (judge.name, judge.description)


def test_only_judges_that_cost_are_remembered() -> None:
    """A rule is faster than a file, and a probe is fitted anew."""
    assert isinstance(Asked(), Costly)
    assert not isinstance(LengthRule(), Costly)
    assert not hasattr(Probe, "content")
