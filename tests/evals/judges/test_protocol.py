"""Both orders are asked, and identical responses are not."""

from __future__ import annotations

from collections.abc import Sequence

from evals.judges.protocol import Opinion, Question, ask_both_orders
from harness.records import Verdict


class Recorder:
    """Remembers what it was asked; says what it was told to say."""

    name = "double:recorder"
    description = "a double"

    def __init__(self, *answers: float | None) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str]] = []

    def p_first_wins(self, questions: Sequence[Question]) -> list[Opinion]:
        self.asked += [(q.first, q.second) for q in questions]
        return [Opinion(p_first=p, problem="mute" if p is None else None) for p in self.answers[: len(questions)]]


def question(first: str, second: str) -> Question:
    return Question(prompt_id=f"{first}{second}", question="?", first=first, second=second)


def test_each_question_is_asked_in_both_orders() -> None:
    """The judge sees (a, b) and (b, a)."""
    judge = Recorder(0.5, 0.5)
    ask_both_orders(judge, [question("a", "b")])
    assert judge.asked == [("a", "b"), ("b", "a")]


def test_the_swapped_opinion_is_turned_round() -> None:
    """Both probabilities of a verdict are of the same response winning."""
    (verdict,) = ask_both_orders(Recorder(0.75, 0.5), [question("a", "b")])
    assert (verdict.p_first, verdict.p_second, verdict.p_win) == (0.75, 0.5, 0.625)


def test_identical_responses_tie_without_asking() -> None:
    """A policy that is its anchor wins exactly ½, whatever the judge's habits."""
    judge = Recorder()
    verdicts = ask_both_orders(judge, [question("a", "a")])
    assert verdicts == (Verdict(judge="double:recorder", prompt_id="aa", p_first=0.5, p_second=0.5),)
    assert judge.asked == []


def test_verdicts_keep_the_order_of_the_questions() -> None:
    """Ties among the questions shift nothing."""
    verdicts = ask_both_orders(
        Recorder(1.0, 0.0, 0.0, 1.0), [question("a", "b"), question("c", "c"), question("d", "e")]
    )
    assert [(v.prompt_id, v.p_win) for v in verdicts] == [("ab", 1.0), ("cc", 0.5), ("de", 0.0)]


def test_a_missing_opinion_keeps_its_reason() -> None:
    """The verdict is unscored and says why, once."""
    (verdict,) = ask_both_orders(Recorder(None, None), [question("a", "b")])
    assert (verdict.p_win, verdict.problem) == (None, "mute")
