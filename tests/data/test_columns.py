"""`--columns`: other people's names for what a row holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.data.columns import Columns
from harness.data.rows import load_pairs
from harness.errors import HarnessError
from harness.records import Pair


def load(folder: Path, row: dict[str, Any], *columns: str) -> Pair:
    path = folder / "rows.jsonl"
    path.write_text(json.dumps(row))
    (pair,) = load_pairs(path, columns=columns, render_chat=lambda m: json.dumps(m), cache=folder).pairs
    return pair


def test_other_names_are_read_as_ours(tmp_path: Path) -> None:
    """StackExchange's columns, say."""
    row = {"question": "Why?", "response_j": "So.", "response_k": "No."}
    pair = load(tmp_path, row, "prompt=question", "chosen=response_j", "rejected=response_k")
    assert (pair.question, pair.chosen, pair.rejected) == ("Why?", "So.", "No.")


def test_what_is_named_overrules_what_is_there(tmp_path: Path) -> None:
    """A row with an instruction is read by its prompt, where that is asked for."""
    row = {"instruction": "I", "prompt": "P", "q": "Q", "chosen": "a", "rejected": "b", "best": "c"}
    pair = load(tmp_path, row, "prompt=q", "chosen=best")
    assert (pair.question, pair.chosen) == ("Q", "c")


def test_a_path_leads_into_a_column(tmp_path: Path) -> None:
    """Objects by name, lists by number, from the end too."""
    row = {"prompt": "P", "answers": [{"text": "good"}, {"text": "bad"}], "a.b": "x"}
    pair = load(tmp_path, row, "chosen=answers.0.text", "rejected=answers.-1.text")
    assert (pair.chosen, pair.rejected) == ("good", "bad")


def test_a_system_column_becomes_its_message(tmp_path: Path) -> None:
    """A system's word and a prompt in plain text are a conversation."""
    row = {"context": "Be kind.", "question": "Why?", "chosen": "So.", "rejected": "No."}
    pair = load(tmp_path, row, "system=context", "prompt=question")
    assert [message["role"] for message in json.loads(pair.prompt)] == ["system", "user"]


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        (("chosn=accepted",), "no 'chosn' to give a column to: did you mean 'chosen'?"),
        (("chosen=acepted",), "has no column 'acepted', which --columns names: did you mean 'accepted'?"),
        (("chosen=accepted.text",), "null as 'chosen'"),
        (("chosen",), "'chosen' says no column"),
        (("chosen=",), "'chosen' says no column"),
        (("chosen=accepted", "chosen=declined"), "names 'chosen' twice"),
        (("chosen=accepted",), "no column 'rejected'"),
    ],
)
def test_a_slip_is_one_line_with_the_way_out(tmp_path: Path, columns: tuple[str, ...], problem: str) -> None:
    """A typo in either half gets a suggestion."""
    row = {"prompt": "P", "accepted": "a", "declined": "b"}
    given = columns if problem.startswith("no column") else (*columns, "rejected=declined")
    with pytest.raises(HarnessError) as caught:
        load(tmp_path, row, *given)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_prompt_column_is_suggested(tmp_path: Path) -> None:
    """Two responses and a question: the option is written out."""
    with pytest.raises(HarnessError, match=r"no column 'instruction' or 'prompt' .*--columns prompt=question"):
        load(tmp_path, {"question": "Why?", "chosen": "a", "rejected": "b"})


def test_nothing_named_changes_nothing() -> None:
    """The row itself comes back."""
    row = {"prompt": "P"}
    assert Columns.parse(()).rename(row) is row
