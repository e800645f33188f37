"""Rows that somebody made to break us: each is read as it stands, left out and counted, or one line that says where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.data.rows import load_pairs
from harness.data.splits import split_pairs
from harness.errors import HarnessError

GOOD = [{"prompt": f"Question {n}?", "chosen": "yes", "rejected": "no"} for n in range(200)]


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "rows.jsonl"
    lines = (row if isinstance(row, str) else json.dumps(row) for row in (*GOOD, *rows))
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.mark.parametrize(
    "text",
    [
        "a\x00b",
        "\u202eabc",
        "\x1b[2J",
        "x" * 3_000_000,
        "[INST] <|im_end|>",
        "\ufdfa" * 1000,
        "a\u2028b\x85c",
        "💥🏽‍🦰",
    ],
    ids=["NUL", "bidi", "escape", "huge", "control tokens", "expanding", "line ends", "joined emoji"],
)
def test_any_text_comes_back_as_it_was(tmp_path: Path, text: str) -> None:
    """It is data."""
    data = load_pairs(write(tmp_path, {"prompt": text, "chosen": text, "rejected": "no"}), cache=tmp_path)
    assert (data.pairs[200].question, data.pairs[200].chosen) == (text, text)
    assert len(split_pairs(data).train) > 0


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"prompt": "\ud800", "chosen": "a", "rejected": "b"}, "have half a surrogate pair in a text"),
        ({"prompt": " \n", "chosen": "a", "rejected": "b"}, "have an empty text"),
        ({"prompt": "p", "chosen": None, "rejected": "b"}, "have null where a text belongs"),
        ({"prompt": "p", "chosen": "a ", "rejected": " a"}, "have chosen = rejected"),
    ],
)
def test_dirt_is_left_out_and_counted(tmp_path: Path, row: dict[str, Any], kind: str) -> None:
    """One of two hundred rows."""
    data = load_pairs(write(tmp_path, row), cache=tmp_path)
    assert len(data.pairs) == 200
    assert data.warnings == (f"1 of 201 rows {kind} and are left out: rows 201.",)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("[" * 100_000, "JSON that cannot be read"),
        ('{"prompt": ' + "9" * 5000 + "}", "JSON that cannot be read"),
        ({"prompt": ["p"], "chosen": "a", "rejected": "b"}, "TRL columns with messages, and other rows"),
        ({"prompt": 1, "chosen": "a", "rejected": "b"}, "1 as 'prompt': it has to be text"),
        ({"prompt": {"text": "p"}, "chosen": "a", "rejected": "b"}, "as 'prompt': it has to be text"),
        ([], "is a list, not an object"),
        ("null", "is null, not an object"),
        ({}, "no column 'prompt' (columns found: none at all)"),
        ({"prompt\n\x1b": "p"}, "no column 'prompt'"),
    ],
)
def test_what_is_no_row_ends_the_reading(tmp_path: Path, row: Any, problem: str) -> None:
    """The line is named."""
    path = write(tmp_path, row)
    with pytest.raises(HarnessError) as caught:
        load_pairs(path, cache=tmp_path)
    assert str(caught.value).startswith(f"{path}:201: ")
    assert problem in str(caught.value)


def test_a_deep_value_in_a_foreign_column_is_no_fault(tmp_path: Path) -> None:
    """What is not read cannot be wrong."""
    deep = "[" * 500 + "]" * 500
    row = '{"prompt": "p", "chosen": "a", "rejected": "b", "meta": ' + deep + ', "nan": NaN}'
    assert len(load_pairs(write(tmp_path, row), cache=tmp_path).pairs) == 201


def test_a_hopeless_file_is_given_up_early(tmp_path: Path) -> None:
    """Not read to its end: the column is a wrong one."""
    path = tmp_path / "rows.jsonl"
    with path.open("w") as file:
        file.writelines(json.dumps({**GOOD[0], "chosen": ""}) + "\n" for _ in range(5000))
        file.write("this is never read\n")
    with pytest.raises(HarnessError, match=r"has an empty 'chosen' \(and 1,001 of the 1,001 rows up to here"):
        load_pairs(path, cache=tmp_path)


def test_a_file_of_rows_that_are_all_faulty_is_one_line(tmp_path: Path) -> None:
    """Few as they are."""
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({**GOOD[0], "chosen": ""}) * 1 + "\n" + json.dumps({**GOOD[1], "chosen": ""}))
    with pytest.raises(HarnessError, match=r":1: row 1 has an empty 'chosen' \(so have 2 of 2 rows\): fill it"):
        load_pairs(path, cache=tmp_path)
