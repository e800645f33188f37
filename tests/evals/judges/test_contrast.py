"""Contrast responses are bad on purpose, and the exam's are not the textbook's."""

from __future__ import annotations

import pytest

from evals.judges.contrast import (
    ANOTHER,
    EMPTY,
    ENDLESS,
    FITTING_CONSTANTS,
    FITTING_OPENERS,
    HELDOUT_CONSTANTS,
    HELDOUT_OPENERS,
    LEAST_TIMES,
    MOST_TIMES,
    OPENED,
    REPEATED,
    TRUNCATED,
    fitting_contrasts,
    heldout_contrasts,
)
from harness.records import Gold, Pair


def pair(number: int, chosen: str, gold: Gold | None = None) -> Pair:
    prompt = f"question {number}"
    return Pair(prompt_id=f"p{number}", question=prompt, prompt=prompt, chosen=chosen, rejected="no", gold=gold)


PAIRS = [pair(number, f"answer {number}") for number in range(30)]


@pytest.mark.parametrize(
    ("fitting", "heldout"), [(FITTING_CONSTANTS, HELDOUT_CONSTANTS), (FITTING_OPENERS, HELDOUT_OPENERS)]
)
def test_fitting_never_sees_the_heldout_texts(fitting: tuple[str, ...], heldout: tuple[str, ...]) -> None:
    """The two lists share nothing."""
    assert not {text.casefold().strip() for text in fitting} & {text.casefold().strip() for text in heldout}


def test_another_prompts_response_is_never_the_own_one() -> None:
    """The same text, written otherwise in case and spaces, is not another response."""
    pairs = [pair(0, "Yes."), pair(1, "yes. "), pair(2, "No.")]
    borrowed = {c.pair.prompt_id: c.text for c in fitting_contrasts(pairs, seed=0) if c.kind == ANOTHER}
    assert (borrowed["p0"], borrowed["p1"]) == ("No.", "No.")


def test_another_prompts_response_is_never_correct_here() -> None:
    """Where gold knows that a borrowed response answers this prompt too, it is not borrowed."""
    gold = Gold(kind="number", answers=("12",))
    pairs = [pair(0, "It is 12.", gold), pair(1, "12, of course."), pair(2, "It is 7.")]
    borrowed = {c.pair.prompt_id: c.text for c in fitting_contrasts(pairs, seed=0) if c.kind == ANOTHER}
    assert borrowed["p0"] == "It is 7."


def test_a_prompt_without_others_gets_no_borrowed_response() -> None:
    """Missing is left out, not made up."""
    assert {c.kind for c in fitting_contrasts([pair(0, "Yes.")], seed=0)} & {ANOTHER, OPENED} == set()


def fitting(kind: str, *pairs: Pair, seed: int = 0) -> list[tuple[str, str]]:
    """Prompt and text of each contrast of one kind that fitting makes of these pairs."""
    return [(c.pair.prompt_id, c.text) for c in fitting_contrasts(pairs, seed=seed) if c.kind == kind]


def test_every_second_pair_meets_nothing_and_the_others_one_word_again_and_again() -> None:
    """So that each pair costs one short response more."""
    assert fitting(EMPTY, *PAIRS) == [(p.prompt_id, "") for p in PAIRS[::2]]
    assert [prompt_id for prompt_id, _ in fitting(ENDLESS, *PAIRS)] == [p.prompt_id for p in PAIRS[1::2]]


def test_the_word_is_of_the_data_and_said_from_twice_to_without_end() -> None:
    """The same word throughout; few times and many are both drawn."""
    said = [text.split() for seed in range(20) for _, text in fitting(ENDLESS, *PAIRS, seed=seed)]
    assert all(len(set(words)) == 1 for words in said)
    assert {words[0] for words in said} <= {word for p in PAIRS for word in p.chosen.split()}
    times = [len(words) for words in said]
    assert LEAST_TIMES <= min(times) < 5
    assert 100 < max(times) <= MOST_TIMES


def test_a_word_of_the_exam_is_never_said_again_and_again() -> None:
    """However the data write it."""
    pairs = [pair(0, "Yes."), pair(1, 'A "word": fine'), pair(2, "yes a"), pair(3, "a")]
    assert {word for seed in range(9) for _, text in fitting(ENDLESS, *pairs, seed=seed) for word in text.split()} == {
        "fine"
    }


def test_data_without_words_get_no_repeated_word() -> None:
    """Nothing is made up, and nothing is no worse than nothing."""
    pairs = [pair(0, ""), pair(1, " ")]
    assert fitting(ENDLESS, *pairs) == fitting(EMPTY, *pairs) == []


def test_every_heldout_constant_meets_every_pair() -> None:
    """Each constant stands for itself, so each is asked everywhere."""
    made = heldout_contrasts(PAIRS, donors=PAIRS, seed=0)
    assert sum(c.kind.startswith("constant") for c in made) == len(PAIRS) * len(HELDOUT_CONSTANTS)


def test_openers_stand_before_another_prompts_response() -> None:
    """The opener is courteous, the rest answers something else."""
    opened = [c.text for c in heldout_contrasts(PAIRS, donors=PAIRS, seed=0) if c.kind == OPENED]
    assert len(opened) == len(PAIRS)
    assert all(text.startswith(HELDOUT_OPENERS) and " answer " in text for text in opened)


def heldout(kind: str, *pairs: Pair) -> list[str]:
    """The texts of one kind made of these pairs."""
    return [c.text for c in heldout_contrasts(pairs, donors=PAIRS, seed=0) if c.kind == kind]


@pytest.mark.parametrize(
    ("chosen", "half"),
    [("one two three four", "one two"), ("one\n two  three", "one"), ("  one two", "  one")],
)
def test_a_truncation_ends_after_half_of_the_words(chosen: str, half: str) -> None:
    """Cut between words, never within one, and the white space before them stays."""
    assert heldout(TRUNCATED, pair(0, chosen)) == [half]


def test_a_response_of_one_word_is_not_truncated() -> None:
    """Nothing would remain, and an empty response is another matter."""
    assert heldout(TRUNCATED, pair(0, "Yes.")) == []


def test_a_truncation_that_gold_rates_as_good_as_the_whole_is_left_out() -> None:
    """The half that holds the answer is no worse; the one that lacks it is kept."""
    gold = Gold(kind="number", answers=("12",))
    pairs = (pair(0, "It is 12, no more no less.", gold), pair(1, "No more and no less than 12.", gold))
    assert heldout(TRUNCATED, *pairs) == ["No more and"]


def test_a_repeat_is_the_whole_response_three_times_over() -> None:
    """Also where gold could not tell it from the response said once."""
    assert heldout(REPEATED, pair(0, "It is 12.")) == ["It is 12. It is 12. It is 12."]


def test_an_empty_response_is_not_repeated() -> None:
    """Three times nothing is nothing."""
    assert heldout(REPEATED, pair(0, " ")) == []


def test_the_seed_decides_all_draws() -> None:
    """Same seed, same contrasts; another seed, others."""
    assert fitting_contrasts(PAIRS, seed=1) == fitting_contrasts(PAIRS, seed=1)
    assert fitting_contrasts(PAIRS, seed=1) != fitting_contrasts(PAIRS, seed=2)
