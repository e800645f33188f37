"""Splits: no prompt on two sides, the same every time, and never an empty part."""

from __future__ import annotations

import pytest

from harness.data.prompts import prompt_id_of
from harness.data.rows import DataSet
from harness.data.splits import split_pairs
from harness.errors import HarnessError
from harness.records import Pair, Splits


def pair(question: str, chosen: str = "yes") -> Pair:
    prompt_id = prompt_id_of(question)
    return Pair(prompt_id=prompt_id, question=question, prompt=question, chosen=chosen, rejected="no")


def data(questions: list[str], splits: tuple[str, ...] | None = None) -> DataSet:
    pairs = tuple(pair(question, f"yes {n}") for n, question in enumerate(questions))
    return DataSet(name="rows.json", digest="d", template="plain", pairs=pairs, splits=splits)


HUNDRED = [f"question {n}" for n in range(100)]


def parts(splits: Splits) -> tuple[tuple[Pair, ...], ...]:
    return splits.train, splits.judge, splits.test


def test_shares_are_those_asked_for() -> None:
    """70, 15 and 15 of a hundred prompts."""
    assert [len(part) for part in parts(split_pairs(data(HUNDRED)))] == [70, 15, 15]


def test_no_prompt_is_in_two_splits() -> None:
    """Prompts that differ only in case, spacing or Unicode form are one prompt."""
    spellings = [spelling for q in HUNDRED for spelling in (q, f"  {q.upper()}\n", q.replace("q", "\uff51"))]
    train, judge, test = ({p.prompt_id for p in part} for part in parts(split_pairs(data(spellings))))
    assert len(train) + len(judge) + len(test) == 100


def test_every_pair_is_in_one_split() -> None:
    """Nothing is lost and nothing is doubled."""
    chosen = [p.chosen for part in parts(split_pairs(data(HUNDRED + HUNDRED))) for p in part]
    assert sorted(chosen) == sorted(f"yes {n}" for n in range(200))


def test_the_same_seed_gives_the_same_splits() -> None:
    """Splits are a function of data and seed."""
    assert split_pairs(data(HUNDRED), seed=3) == split_pairs(data(HUNDRED), seed=3)


def test_another_seed_gives_other_splits() -> None:
    """The seed decides who is held out."""
    assert split_pairs(data(HUNDRED), seed=3).test != split_pairs(data(HUNDRED), seed=4).test


def test_the_order_of_rows_does_not_move_a_prompt() -> None:
    """A shuffled file holds out the same prompts."""
    ids = [{p.prompt_id for p in split_pairs(data(questions)).test} for questions in (HUNDRED, list(reversed(HUNDRED)))]
    assert ids[0] == ids[1]


def test_a_split_is_shuffled() -> None:
    """The order of the file is not the order of training."""
    asked = [p.question for p in split_pairs(data(HUNDRED)).train]
    assert asked != sorted(asked, key=HUNDRED.index)


def test_fixed_splits_are_kept() -> None:
    """Data that fixes its splits has them."""
    names = ("train",) * 98 + ("judge", "test")
    splits = split_pairs(data(HUNDRED, names), seed=5)
    assert (splits.judge[0].question, splits.test[0].question) == ("question 98", "question 99")


def test_fixed_splits_that_share_a_prompt_are_refused() -> None:
    """A leak in the data is an error, not a result."""
    with pytest.raises(HarnessError, match="train and test"):
        split_pairs(data(["a", "b", "A"], ("train", "judge", "test")))


def test_an_empty_split_is_refused() -> None:
    """Too few prompts end in one line, not in a bench without held-out prompts."""
    with pytest.raises(HarnessError, match=r"no pairs left in the judge split: 'rows\.json' has 1 "):
        split_pairs(data(["a", "A", "a "]))
