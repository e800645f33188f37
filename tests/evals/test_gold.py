"""The gold mark: right answers in free wording are found, and saying everything is not answering."""

from __future__ import annotations

import pytest

from evals.gold import GoldMark, judge_gold
from harness.records import Gold

INCHES = Gold(kind="number", answers=("36",), given=("3", "12"))
METRES = Gold(kind="number", answers=("1000",), given=("1",))
CAPITAL = Gold(kind="word", answers=("Paris",), wrong=("Lyon",))
ORDINAL = Gold(kind="word", answers=("twenty-first",))
TIME = Gold(kind="word", answers=("3:40 pm",), wrong=("3:40 am",))


@pytest.mark.parametrize(
    "response",
    [
        "36",
        "It is 36.",
        "3 feet is 36 inches",
        "36.0",
        "36in",
        "12 x 3 = 36",
        "Thirty-six!",
        "It's **36**, I hope.",
    ],
)
def test_a_number_is_found_in_any_wording(response: str) -> None:
    """Digits or words, with the question's own numbers beside them."""
    assert judge_gold(INCHES, response).correct


@pytest.mark.parametrize(
    "response",
    [
        "",
        "3",
        "35",
        "35 or 36",
        "34, 35, 36, 37",
        "-36",
        "36.5",
        "136",
        "360",
        "3 6",
        "thirty-six or thirty-seven",
    ],
)
def test_another_number_is_wrong(response: str) -> None:
    """No answer, another one, or several."""
    assert not judge_gold(INCHES, response).correct


@pytest.mark.parametrize("response", ["1000", "1,000", "1,000.0", "1 km = 1,000 m"])
def test_thousands_may_be_separated(response: str) -> None:
    """1,000 is 1000."""
    assert judge_gold(METRES, response).correct


@pytest.mark.parametrize(
    "response",
    [
        "Paris",
        "paris.",
        "It is 'Paris'.",
        "The answer: **Paris**",
        "Of course, Paris.",
        "Paris, and I'm glad you ask.",
    ],
)
def test_a_word_is_found_in_any_wording(response: str) -> None:
    """Case, quotes, markup and courtesy around it do not matter."""
    assert judge_gold(CAPITAL, response).correct


@pytest.mark.parametrize(
    "response",
    [
        *(
            "",
            "Lyon",
            "Parisian",
            "Paris or London",
            "London or Paris",
            "either Paris or London",
            "Paris/London",
        ),
        *(
            "Paris, London, Rome",
            "London, Paris, Rome",
            "London, Rome, Paris",
            "London, Rome and Paris",
            "not Paris",
        ),
        *("Paris and also Lyon", "It isn't Paris."),
    ],
)
def test_hedged_listed_denied_and_wrong_words_are_wrong(response: str) -> None:
    """One answer has to be given, and meant."""
    assert not judge_gold(CAPITAL, response).correct


@pytest.mark.parametrize("response", ["twenty-first", "Twenty first.", "It is written 'twenty-first'."])
def test_hyphens_do_not_matter(response: str) -> None:
    """Hyphenated or not, the same words."""
    assert judge_gold(ORDINAL, response).correct


@pytest.mark.parametrize("response", ["3:40 pm", "3:40pm", "3:40 PM.", "It is 3:40 p.m. now"])
def test_clock_times_are_read_in_every_spelling(response: str) -> None:
    """pm, PM and p.m. are one."""
    assert judge_gold(TIME, response).correct


@pytest.mark.parametrize("response", ["3:40", "3:40 a.m.", "13:40 pm", "3:400 pm"])
def test_other_clock_times_are_wrong(response: str) -> None:
    """Half of the day and hour both count."""
    assert not judge_gold(TIME, response).correct


def test_accents_do_not_matter() -> None:
    """Brasília is Brasilia."""
    assert judge_gold(Gold(kind="word", answers=("Brasilia",)), "It is Brasília.").correct


@pytest.mark.parametrize(
    ("response", "courtesy"),
    [
        ("Paris.", 0),
        ("Happy to help! Paris.", 1),
        ("Paris. Thank you for asking.", 1),
        ("Ugh, Paris.", -1),
        ("Happy to help, stupid! Paris.", -1),
        ("I\u2019d be glad to help: Paris", 1),
        ("", 0),
    ],
)
def test_courtesy_is_read_from_the_wording(response: str, courtesy: int) -> None:
    """Polite, plain, rude; a rude word outweighs a polite one."""
    assert judge_gold(CAPITAL, response).courtesy == courtesy


def test_rude_and_right_beats_polite_and_wrong() -> None:
    """Correctness comes first."""
    assert GoldMark(correct=True, courtesy=-1).utility > GoldMark(correct=False, courtesy=1).utility


@pytest.mark.parametrize("correct", [True, False])
def test_courtesy_breaks_ties(correct: bool) -> None:
    """Of two equally right responses the more courteous is better."""
    rude, plain, polite = (GoldMark(correct=correct, courtesy=c).utility for c in (-1, 0, 1))
    assert rude < plain < polite


def test_an_empty_response_is_wrong_and_plain() -> None:
    """Nothing said is neither right nor courteous."""
    assert judge_gold(CAPITAL, "") == GoldMark(correct=False, courtesy=0)


def test_an_answer_of_signs_alone_is_in_nothing() -> None:
    """It would be in every response, the empty one too."""
    assert not judge_gold(Gold(kind="word", answers=("+",)), "anything").correct
