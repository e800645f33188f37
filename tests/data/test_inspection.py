"""What is known of data without a model, on data small enough to count by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.data.inspection import LONGEST_SHOWN, Inspection, inspect
from harness.data.reading import read_source
from harness.data.sources import find_source


def inspected(folder: Path, rows: list[dict[str, Any]]) -> Inspection:
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return inspect(read_source(find_source(str(path), folder), (), folder))


def row(prompt: object, chosen: str = "yes!", rejected: str = "no") -> dict[str, Any]:
    return {"prompt": f"{prompt}?", "chosen": chosen, "rejected": rejected}


HUNDRED = [row(n) for n in range(100)]


def test_splits_are_those_of_a_bench(tmp_path: Path) -> None:
    """70, 15 and 15 of a hundred prompts, and none in two."""
    found = inspected(tmp_path, HUNDRED)
    assert [(part.name, part.pairs, part.prompts) for part in found.splits] == [
        ("train", 70, 70),
        ("judge", 15, 15),
        ("test", 15, 15),
    ]
    assert (found.drawn, [overlap.prompts for overlap in found.overlaps], found.refused) == (True, [0, 0, 0], None)


def test_prompts_in_two_fixed_splits_are_counted_and_refused(tmp_path: Path) -> None:
    """Shown, not raised: a bench would refuse them."""
    names = ["train"] * 98 + ["judge", "test"]
    rows = [{**row(n), "split": name} for n, name in enumerate(names)]
    rows[99]["prompt"] = rows[0]["prompt"]
    found = inspected(tmp_path, rows)
    assert [(o.splits, o.prompts) for o in found.overlaps if o.prompts] == [(("train", "test"), 1)]
    assert "in the splits train and test: give all its rows the same 'split'" in str(found.refused)


def test_length_bias_has_an_interval(tmp_path: Path) -> None:
    """The chosen one is longer in three quarters of pairs; a tie is half."""
    rows = [row(n, "longer", "short") if n % 2 else row(n, "abc", "abd") for n in range(100)]
    longer, difference = inspected(tmp_path, rows).longer, inspected(tmp_path, rows).difference
    assert longer.value == 0.75
    assert longer.low is not None
    assert longer.low == pytest.approx(0.75 - 1.96 * 0.25 / 99**0.5)
    assert difference.value == 0.5


def test_pairs_of_one_prompt_count_once(tmp_path: Path) -> None:
    """Ten answers to one question say no more of length than one."""
    apart = inspected(tmp_path, [row(n, f"longer {n}") if n % 3 else row(n, "a", f"longer {n}") for n in range(60)])
    prompts = [{**r, "prompt": f"{n % 6}?"} for n, r in enumerate([row(n, f"longer {n}") for n in range(60)])]
    prompts = [r if n % 3 else {**r, "chosen": "a", "rejected": f"longer {n}"} for n, r in enumerate(prompts)]
    together = inspected(tmp_path, prompts)
    assert apart.longer.value == together.longer.value
    widths = [(e.high or 0) - (e.low or 0) for e in (apart.longer, together.longer)]
    assert widths[1] > 2 * widths[0]


def test_contradictions_are_counted(tmp_path: Path) -> None:
    """The same prompt with the same two responses the other way round."""
    found = inspected(tmp_path, [*HUNDRED, row(3, "no", "yes!"), row(4, "other", "yes!")])
    assert (found.contradicting, found.several) == (2, 2)


def test_what_is_left_out_is_counted_by_kind(tmp_path: Path) -> None:
    """With the numbers of its rows, and what a bench would say of so much."""
    found = inspected(tmp_path, [*HUNDRED, row(1), row(200, "same", "same"), row(201, " ")])
    assert {d.kind: (d.count, d.rows) for d in found.dropped} == {
        "tied": (1, (102,)),
        "empty": (1, (103,)),
        "repeated": (1, (101,)),
    }
    assert "(so have 1 of 103 rows, 1 more have other faults, together more than 1%)" in str(found.refused)


def test_a_foreign_split_column_is_noted(tmp_path: Path) -> None:
    """It is not used, and that is said."""
    (note,) = inspected(tmp_path, [{**r, "split": "validation"} for r in HUNDRED]).notes
    assert "not used: it has 'validation'" in note


def test_examples_are_three_and_short(tmp_path: Path) -> None:
    """The first, the middle and the last row, long texts cut."""
    examples = inspected(tmp_path, [row(n, 1000 * "a") for n in range(100)]).examples
    assert [example.row for example in examples] == [1, 51, 100]
    assert len(examples[0].chosen) < LONGEST_SHOWN + 30
    assert examples[0].chosen.endswith("… (1,000 characters)")
