"""Rows without a prompt of their own: cut at different words of a response, they are still of one question."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.data.inspection import inspect
from harness.data.reading import read_source
from harness.data.rows import PairList, load_pairs
from harness.data.sources import find_source
from harness.data.splits import split_pairs
from harness.errors import HarnessError

Texts = dict[str, str]


def two(n: int) -> list[Texts]:
    """Two rows of one question: the responses of the first begin alike, those of the second do not."""
    asked = f"Human: question {n}?\n\nBot:"
    return [
        {"chosen": f"{asked} It is surely so.", "rejected": f"{asked} It is not."},
        {"chosen": f"{asked} Yes.", "rejected": f"{asked} no."},
    ]


FIFTY = [row for n in range(50) for row in two(n)]


def written(tmp_path: Path, rows: list[Texts]) -> str:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return str(path)


def grouped(tmp_path: Path, rows: list[Texts]) -> list[list[int]]:
    """The rows of each group that has more than one, by number."""
    reading = read_source(find_source(written(tmp_path, rows), tmp_path), (), tmp_path)
    pairs = PairList(reading.kept, reading.places, "plain")
    groups, numbers = pairs.groups.tolist(), pairs.column("numbers").tolist()
    found = [[n for n, own in zip(numbers, groups, strict=True) if own == group] for group in dict.fromkeys(groups)]
    return [group for group in found if len(group) > 1]


def test_no_prompt_of_one_split_begins_a_prompt_of_another(tmp_path: Path) -> None:
    """Else a model trains on what it is tested on."""
    splits = split_pairs(load_pairs(written(tmp_path, FIFTY), cache=tmp_path))
    asked = [{pair.question.split("?")[0] for pair in part} for part in (splits.train, splits.judge, splits.test)]
    assert sum(map(len, asked)) == 50


def test_every_question_is_a_group(tmp_path: Path) -> None:
    """Question 1 is no beginning of question 10, which has other words."""
    assert grouped(tmp_path, FIFTY) == [[n, n + 1] for n in range(1, 101, 2)]


def test_a_chain_of_beginnings_is_one_group(tmp_path: Path) -> None:
    """What begins a prompt that begins another is the beginning of both."""
    texts = ("Why? A", "Why? A b", "Why? A b c")
    chain = [{"chosen": f"{text} x", "rejected": f"{text} y"} for text in texts]
    assert grouped(tmp_path, [*chain, *FIFTY])[0] == [1, 2, 3]


def test_an_opening_that_most_prompts_have_groups_nothing(tmp_path: Path) -> None:
    """One row that differs after `Human:` does not make all questions one."""
    odd = {"chosen": "Human: x", "rejected": "Human: y"}
    assert grouped(tmp_path, [odd, *FIFTY])[0] == [2, 3]


def test_prompts_of_their_own_are_no_beginnings(tmp_path: Path) -> None:
    """Where rows have a prompt, `Why?` and `Why? Say more` are two questions."""
    asked = ("Why?", "Why? Say more", "How?", "When?", "Who?")
    assert not grouped(tmp_path, [{"prompt": text, "chosen": "x", "rejected": "y"} for text in asked])


def test_fixed_splits_that_part_a_question_are_counted_and_refused(tmp_path: Path) -> None:
    """`data` counts what `run` refuses."""
    names = ("train", "judge", "test", *["train"] * 97)
    path = written(tmp_path, [{**row, "split": name} for row, name in zip(FIFTY, names, strict=True)])
    found = inspect(read_source(find_source(path, tmp_path), (), tmp_path))
    assert [overlap.prompts for overlap in found.overlaps] == [1, 1, 0]
    with pytest.raises(HarnessError, match="has beginnings of the prompt 'Human: question 0"):
        split_pairs(load_pairs(path, cache=tmp_path))
