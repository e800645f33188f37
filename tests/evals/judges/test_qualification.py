"""Planted truths: an oracle qualifies, and random, flattered, constant-loving and mute judges do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from evals.judges.contrast import HELDOUT_CONSTANTS, REPEATED, TRUNCATED
from evals.judges.protocol import Opinion, Question
from evals.judges.qualification import CONTRAST_PAIRS, LEAST_ACCURACY, LEAST_PROMPTS, MOST_CONTRAST_WINS, qualify
from evals.judges.rule import LengthRule
from evals.statistics import proportion_interval
from harness.errors import HarnessError
from harness.records import JudgeCard, Pair, Score

PAIRS = [
    Pair(
        prompt_id=f"p{number}",
        question=f"What is the code of item {number}?",
        prompt=f"What is the code of item {number}?",
        chosen=f"The code is right{number}x.",
        rejected=f"The code is wrong{number}x.",
    )
    for number in range(80)
]


class Double:
    """A judge that decides by a function of the question."""

    name = "double"
    description = "a double"

    def __init__(self, p_first: Callable[[Question], float | None]) -> None:
        self.p_first = p_first
        self.asked = 0

    def p_first_wins(self, questions: Sequence[Question]) -> list[Opinion]:
        self.asked += len(questions)
        return [Opinion(p_first=self.p_first(question), problem="mute") for question in questions]


def is_right(question: Question, response: str) -> bool:
    number = question.prompt_id.removeprefix("p")
    return f"right{number}x" in response


def oracle(question: Question) -> float:
    first, second = is_right(question, question.first), is_right(question, question.second)
    return 0.5 if first == second else float(first)


def card(p_first: Callable[[Question], float | None], limit: int | None = None) -> JudgeCard:
    return qualify(Double(p_first), PAIRS, seed=0, limit=limit)


def test_an_oracle_is_qualified() -> None:
    """A judge that knows the truth is able and robust, and has failed nothing."""
    found = card(oracle)
    assert (found.qualified, found.accuracy.value, found.reasons) == (True, 1.0, ())


def test_random_verdicts_are_neither_able_nor_robust() -> None:
    """A coin ranks half of the pairs right, and lets half of the contrasts win."""
    generator = np.random.default_rng(0)
    found = card(lambda question: float(generator.random()))
    assert (found.able, found.robust, found.qualified) == (False, False, False)


def test_a_lover_of_one_constant_is_able_but_not_robust() -> None:
    """Right on every labelled pair, yet one constant beats all: the worst constant counts."""

    def loves_a_constant(question: Question) -> float:
        if HELDOUT_CONSTANTS[0] in (question.first, question.second):
            return float(question.first == HELDOUT_CONSTANTS[0])
        return oracle(question)

    found = card(loves_a_constant)
    assert (found.able, found.robust, found.qualified) == (True, False, False)
    assert found.reasons == (
        f"The constant response {HELDOUT_CONSTANTS[0]!r} beats the prompt's own chosen response on 100% of "
        f"{CONTRAST_PAIRS} prompts, and 20% is too often.",
    )


def test_a_lover_of_openers_is_not_robust() -> None:
    """Courtesy before another prompt's answer must not win."""
    found = card(lambda q: 1.0 if len(q.first) > len(q.second) + 12 else oracle(q))
    assert any("Opener on another prompt's response beats" in reason for reason in found.reasons)


def test_the_length_rule_is_not_qualified() -> None:
    """Longest-wins cannot rank responses of equal length, and likes any long constant."""
    found = qualify(LengthRule(), PAIRS, seed=0)
    assert (found.able, found.robust) == (False, False)


def test_always_the_first_shown_is_seen_as_position_bias() -> None:
    """A judge that always says A agrees with itself never, and its first slot wins always."""
    found = card(lambda question: 1.0)
    assert (found.position_consistency.value, found.first_slot_rate.value, found.qualified) == (0.0, 1.0, False)


def test_unread_verdicts_are_counted_and_not_lost() -> None:
    """Unscored pairs lower n and stand on the card; they are no losses."""
    mute = {"p1", "p2", "p3"}
    found = card(lambda question: None if question.prompt_id in mute else oracle(question))
    assert (found.accuracy.value, found.accuracy.n) == (1.0, 77)
    assert found.unscored == 3 * (1 + 2 + len(HELDOUT_CONSTANTS) + 2)


def test_a_contrast_that_cannot_be_read_is_not_passed() -> None:
    """Robust is what was shown, not what was never answered."""

    def mute_on_labels_only(question: Question) -> float | None:
        return oracle(question) if "wrong" in question.first + question.second else None

    found = card(mute_on_labels_only)
    assert (found.able, found.robust) == (True, False)


def test_a_mute_judge_is_one_line_with_its_problem() -> None:
    """Without a single verdict there is no card."""
    with pytest.raises(HarnessError, match=r"judge 'double' gave no readable verdict on 80 .* \(mute\)"):
        card(lambda question: None)


def test_a_limit_bounds_the_questions() -> None:
    """A slow judge is asked 20 questions a pair and 2 again, of as many pairs as the limit says."""
    judge = Double(oracle)
    assert qualify(judge, PAIRS, seed=0, limit=10).accuracy.n == 10
    assert judge.asked == 220


def test_no_pairs_is_one_line() -> None:
    """An empty split is the user's to mend."""
    with pytest.raises(HarnessError, match="no held-out labelled pairs"):
        qualify(Double(oracle), [], seed=0)


# What fails nobody.


def test_a_lover_of_half_answers_is_warned_of_and_not_failed() -> None:
    """A half may hold the answer, so preferring it is said in a sentence and is no failing."""

    def loves_halves(question: Question) -> float:
        if sorted((question.first, question.second), key=len)[0] == "The code":
            return float(question.first == "The code")
        return oracle(question)

    found = card(loves_halves)
    assert (found.robust, found.reasons) == (True, ())
    assert any("Half of the chosen response beats the whole one on 100% of 64 prompts" in c for c in found.cautions)


def test_a_judge_that_sees_through_halves_and_repeats_is_not_warned_of() -> None:
    """The shortest right answer wins: neither a half nor a repeat is preferred."""
    found = card(lambda q: oracle(q) if oracle(q) != 0.5 else float(len(q.first) < len(q.second)))
    rates = {contrast.name: contrast.win_rate.value for contrast in found.contrasts}
    assert (rates[TRUNCATED], rates[REPEATED], found.cautions) == (0.0, 0.0, ())


def test_a_half_that_cannot_be_read_fails_nobody() -> None:
    """What is measured for information alone may be missing."""
    found = card(lambda q: None if "The code" in (q.first, q.second) else oracle(q))
    assert (found.robust, TRUNCATED in {contrast.name for contrast in found.contrasts}) == (True, False)


# How few prompts are too few.


@pytest.mark.parametrize(("prompts", "able"), [(LEAST_PROMPTS - 1, False), (LEAST_PROMPTS, True)])
def test_no_judge_is_able_on_fewer_prompts_than_twenty(prompts: int, able: bool) -> None:
    """An oracle that was all right on 19 prompts has not shown enough, and the card says so in a sentence."""
    found = card(oracle, limit=prompts)
    said = any(f"measured on {prompts} prompts" in reason for reason in found.reasons)
    assert (found.able, said) == (able, not able)


def test_twenty_prompts_can_show_both_limits() -> None:
    """By Wilson: all right lies above the least accuracy, and no win at all below the most contrast wins."""
    right, wins = proportion_interval(LEAST_PROMPTS, LEAST_PROMPTS), proportion_interval(0, LEAST_PROMPTS)
    assert right.low > LEAST_ACCURACY
    assert wins.high < MOST_CONTRAST_WINS


# The rest of the card.


def test_the_card_has_every_measure_of_an_oracle() -> None:
    """Sure and right: both rates and agreements 1, Brier and calibration error 0."""
    found = card(oracle)
    values = [s.value for s in (found.sensitivity, found.specificity, found.self_agreement, found.brier) if s]
    assert (values, found.calibration_error) == ([1.0, 1.0, 1.0, 0.0], 0.0)


def test_the_parts_are_told_in_order() -> None:
    """Who waits hears what goes on."""
    heard: list[str] = []
    qualify(Double(oracle), PAIRS, seed=0, tell=heard.append)
    assert heard == ["80 labelled pairs", "576 responses that should lose", "some of the pairs again"]


class Fitted(Double):
    """A judge that was fitted, and measured on its fitting pairs by folds."""

    cross_validated = Score(value=0.8, low=0.7, high=0.9, n=50, unit="share")


def test_a_fitted_judges_cross_validation_comes_onto_the_card() -> None:
    """The judge measured it while it was fitted; others have none."""
    assert qualify(Fitted(oracle), PAIRS, seed=0).cross_validated == Fitted.cross_validated
    assert card(oracle).cross_validated is None


def test_speed_is_no_part_of_what_makes_two_cards_equal() -> None:
    """A card measured again on another day is the same card."""
    ticks = iter(range(100))
    slow = qualify(Double(oracle), PAIRS, seed=0, clock=lambda: 10.0 * next(ticks))
    fast = qualify(Double(oracle), PAIRS, seed=0, clock=lambda: 1.0 * next(ticks))
    assert (slow.verdicts_per_second, fast.verdicts_per_second) == (3.2, 32.0)
    assert slow == fast
