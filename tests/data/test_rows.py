"""Rows from files: every accepted format gives the same pairs, every fault one line that says where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.data.rows import load_pairs
from harness.errors import HarnessError

RASBT = Path(__file__).parents[3] / "shared" / "data" / "instruction-data-with-preference.json"
GOOD = {"instruction": "Add.", "input": "1 + 2", "output": "3", "chosen": "It is 3.", "rejected": "3, duh."}
ASKED = [{"role": "user", "content": "Hello?"}]


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def write_lines(folder: Path, *rows: object) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def write_array(folder: Path, *rows: object) -> Path:
    path = folder / "rows.json"
    path.write_text(json.dumps(rows, indent=2))
    return path


def fault(path: Path | str) -> str:
    with pytest.raises(HarnessError) as caught:
        load_pairs(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_alpaca_row_gives_its_question_and_responses(tmp_path: Path) -> None:
    """Instruction and input make the question; the responses come as they are."""
    (pair,) = load_pairs(write_array(tmp_path, GOOD)).pairs
    assert (pair.question, pair.chosen, pair.rejected) == ("Add.\n\n1 + 2", "It is 3.", "3, duh.")


def test_array_and_lines_give_the_same_pairs(tmp_path: Path) -> None:
    """JSON and JSONL are two spellings of the same data."""
    rows = [GOOD, {**GOOD, "input": ""}]
    assert load_pairs(write_array(tmp_path, *rows)).pairs == load_pairs(write_lines(tmp_path, *rows)).pairs


def test_trl_text_is_read_as_it_stands(tmp_path: Path) -> None:
    """A text prompt gets no template unless one is asked for."""
    path = write_lines(tmp_path, {"prompt": "Q: hello\nA:", "chosen": " hi", "rejected": " go away"})
    data = load_pairs(path)
    assert (data.template, data.pairs[0].prompt) == ("plain", "Q: hello\nA:")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": ASKED, "chosen": said("Hi!"), "rejected": said("What?")},
        {"prompt": "Hello?", "chosen": ASKED + said("Hi!"), "rejected": ASKED + said("What?")},
        {"chosen": ASKED + said("Hi!"), "rejected": ASKED + said("What?")},
    ],
    ids=["prompt apart", "prompt as text too", "prompt within"],
)
def test_every_form_of_messages_gives_one_pair(tmp_path: Path, row: dict[str, object]) -> None:
    """The prompt goes through the model's chat template, wherever the row keeps it."""
    data = load_pairs(write_lines(tmp_path, row), render_chat=lambda messages: f"<{messages[0]['content']}>")
    (pair,) = data.pairs
    assert (pair.question, pair.prompt, pair.chosen, pair.rejected) == ("Hello?", "<Hello?>", "Hi!", "What?")


def test_messages_without_a_chat_template_are_refused(tmp_path: Path) -> None:
    """A model that has no chat template is told which templates to use instead."""
    row = {"prompt": ASKED, "chosen": said("Hi!"), "rejected": said("What?")}
    assert "--template alpaca" in fault(write_lines(tmp_path, row))


def test_gold_comes_with_the_row(tmp_path: Path) -> None:
    """A row that knows its true answer keeps it."""
    gold = {"kind": "number", "answers": ["3"], "given": ["1", "2"]}
    (pair,) = load_pairs(write_lines(tmp_path, {**GOOD, "gold": gold})).pairs
    assert pair.gold is not None
    assert pair.gold.answers == ("3",)


def test_a_foreign_gold_column_is_ignored(tmp_path: Path) -> None:
    """A column of that name that is not an object is somebody else's."""
    (pair,) = load_pairs(write_lines(tmp_path, {**GOOD, "gold": "It is 3."})).pairs
    assert pair.gold is None


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    """Other rows, another digest."""
    one, two = (load_pairs(write_lines(tmp_path, {**GOOD, "input": text})).digest for text in ("1 + 2", "2 + 1"))
    assert one != two


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (
            {k: v for k, v in GOOD.items() if k != "rejected"},
            "no column 'rejected' (columns found: 'instruction'",
        ),
        ({"question": "Add.", "chosen": "3", "rejected": "4"}, "no column 'instruction'"),
        ({**GOOD, "chosen": "  "}, "an empty 'chosen'"),
        ({**GOOD, "rejected": None}, "null as 'rejected': it has to be text"),
        ({**GOOD, "rejected": 12}, "12 as 'rejected': it has to be text"),
        ({**GOOD, "chosen": ["3"]}, """["3"] as 'chosen': it has to be text"""),
        ({**GOOD, "chosen": 1000 * [7]}, "…"),
        ({**GOOD, "chosen": "\ud800"}, "half a surrogate pair in 'chosen'"),
        ({**GOOD, "chosen": " 3, duh. "}, "chosen = rejected"),
        ({"prompt": "Add.", "chosen": "3", "rejected": "4"}, "put them into two files"),
        ("Add.", "is text, not an object"),
        ({**GOOD, "gold": {"kind": "number"}}, "'gold.answers'"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path: Path, row: object, problem: str) -> None:
    """File, line, row and problem stand in one line, in both kinds of file."""
    lines, array = (
        write_lines(tmp_path, GOOD, row if isinstance(row, dict) else json.dumps(row)),
        tmp_path / "a.json",
    )
    array.write_text(f"[\n{json.dumps(GOOD)},\n\n{json.dumps(row)}\n]")
    assert fault(lines).startswith(f"{lines}:2: row 2 ")
    assert fault(array).startswith(f"{array}:4: row 2 ")
    assert problem in fault(lines)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"prompt": ASKED, "chosen": said("Hi!"), "rejected": ASKED}, "last message by 'user' in 'rejected'"),
        ({"prompt": ASKED, "chosen": [], "rejected": said("Hi!")}, "no messages in 'chosen'"),
        ({"prompt": ASKED, "chosen": said(""), "rejected": said("Hi!")}, "an empty 'chosen[0].content'"),
        ({"prompt": ASKED, "chosen": "Hi!", "rejected": "No."}, "'chosen': it has to be a list"),
        ({"chosen": said("Hi!"), "rejected": said("No.")}, "no message before the response"),
        ({"chosen": ASKED + said("Hi!"), "rejected": said("No.")}, "differ before their last message"),
        ({"prompt": ASKED, "chosen": said("Hi!"), "rejected": said("Hi!")}, "chosen = rejected"),
    ],
)
def test_bad_messages_are_named(tmp_path: Path, row: dict[str, object], problem: str) -> None:
    """A conversation without an answer, or with two, is a fault of its row."""
    assert problem in fault(write_lines(tmp_path, row))


def test_broken_json_is_named_with_file_and_line(tmp_path: Path) -> None:
    """The line is the file's, in an array and in lines."""
    lines, array = write_lines(tmp_path, GOOD, "", '{"instruction": '), tmp_path / "a.json"
    array.write_text(f"[\n{json.dumps(GOOD)},\n{{'instruction'}}\n]")
    assert fault(lines).startswith(f"{lines}:3: ")
    assert fault(array).startswith(f"{array}:3: ")


def test_lines_in_a_json_file_get_a_hint(tmp_path: Path) -> None:
    """One row to a line under the name .json is a common slip."""
    path = tmp_path / "rows.json"
    path.write_text(f"{json.dumps(GOOD)}\n{json.dumps(GOOD)}\n")
    assert ".jsonl" in fault(path)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("rows.json", b"", "is empty"),
        ("rows.jsonl", b"\n\n", "is empty"),
        ("rows.json", b"[]", "holds an empty list"),
        ("rows.json", b'{"rows": []}', "holds an object, not a list"),
        ("rows.xlsx", b"a,b", "ends in '.xlsx'"),
        ("rows.csv", b"prompt,chosen,rejected\n", "is empty"),
        ("rows.csv", b"prompt,prompt\n", "the column 'prompt' twice"),
        ("rows.csv", b"prompt,chosen,rejected\na,b\n", ":2: 2 cells under 3 columns"),
        ("rows.csv", b'prompt,chosen,rejected\na,b,"c\n', "close its quotes"),
        ("rows.csv", b"prompt,chosen,rejected\na,\"[{'role': 1}]\",c\n", "as Python prints them"),
        ("rows.parquet", b"PAR1", "is no Parquet file"),
        ("rows.jsonl", b"\x1f\x8bnothing", "is damaged or cut off"),
        ("rows.jsonl", b'[{"prompt": 1},\n', "name the file .json"),
        ("rows.json", b'[{"prompt": "a"} {"prompt": "b"}]', "Expecting ',' delimiter"),
        ("rows.json", b'[{"prompt": "a"}] true', "Extra data"),
        ("rows.jsonl", b'{}\n{"chosen": "caf\xe9"}', ":2: byte 0xe9 is not UTF-8"),
        ("rows.json", b"[" * 100_000, "JSON that cannot be read"),
        ("rows.json", b"[" + b"9" * 5000 + b"]", "JSON that cannot be read"),
    ],
)
def test_a_file_without_rows_is_refused(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    """Empty, no list, no known format, no UTF-8, no end: one line each."""
    path = tmp_path / name
    path.write_bytes(content)
    assert problem in fault(path)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    """Files saved by Windows editors are read."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode())
    assert len(load_pairs(path).pairs) == 1


@pytest.mark.parametrize(("name", "meant"), [("curtesy", "'courtesy'"), ("rasbtt", "'rasbt'")])
def test_a_mistyped_name_gets_a_suggestion(name: str, meant: str) -> None:
    """The nearest name is offered."""
    assert f"did you mean {meant}" in fault(name)


def test_a_mistyped_path_gets_a_suggestion(tmp_path: Path) -> None:
    """The nearest file beside it is offered."""
    path = write_lines(tmp_path, GOOD)
    assert f"did you mean '{path}'" in fault(tmp_path / "row.jsonl")


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("fodler/rows.jsonl", "rows.jsonl"), ("folder/row*.json", "rows.jsonl"), ("foldr/*.jsonl", "*.jsonl")],
)
def test_a_mistyped_folder_or_pattern_gets_a_suggestion(tmp_path: Path, asked: str, meant: str) -> None:
    """The nearest that is there."""
    (tmp_path / "folder").mkdir()
    write_lines(tmp_path / "folder", GOOD)
    assert f"did you mean '{tmp_path / 'folder' / meant}'?" in fault(tmp_path / asked)


def test_a_folder_without_rows_is_refused(tmp_path: Path) -> None:
    """A folder of something else is no data."""
    assert "is a folder" in fault(tmp_path)


def test_an_unknown_template_gets_a_suggestion(tmp_path: Path) -> None:
    """A typo in --template is answered before any row is read."""
    with pytest.raises(HarnessError, match="did you mean 'alpaca'"):
        load_pairs(write_lines(tmp_path, GOOD), "alpacca")


def test_an_asked_for_template_overrules_the_data(tmp_path: Path) -> None:
    """A text prompt becomes an Alpaca instruction when that is asked for, and the data set says so."""
    data = load_pairs(write_lines(tmp_path, {"prompt": "Add.", "chosen": "3", "rejected": "4"}), "alpaca")
    assert data.template == "alpaca"
    assert "### Instruction:\nAdd.\n\n### Response:\n" in data.pairs[0].prompt


def test_one_tie_in_a_hundred_is_left_out_and_said(tmp_path: Path) -> None:
    """Real data has a few rows that prefer nothing."""
    rows = [{**GOOD, "input": f"{n}"} for n in range(99)]
    data = load_pairs(write_lines(tmp_path, *rows, {**GOOD, "rejected": GOOD["chosen"]}))
    assert len(data.pairs) == 99
    assert data.warnings == ("1 of 100 rows have chosen = rejected and are left out: rows 100.",)


def test_two_ties_in_a_hundred_are_an_error(tmp_path: Path) -> None:
    """More than that means that a column is wrong."""
    tie = {**GOOD, "rejected": GOOD["chosen"]}
    assert "2 of 100 rows" in fault(write_lines(tmp_path, *(98 * [GOOD]), tie, tie))


def test_own_splits_are_read_where_all_three_are_named(tmp_path: Path) -> None:
    """A `split` column fixes the splits only where it is ours."""
    named = [{**GOOD, "input": name, "split": name} for name in ("train", "judge", "test")]
    assert load_pairs(write_lines(tmp_path, *named)).splits == ("train", "judge", "test")
    assert load_pairs(write_lines(tmp_path, *named[:2])).splits is None


@pytest.mark.parametrize(("column", "columns"), [("split", ()), ("part", ("split=part",))])
def test_own_splits_that_are_not_used_are_said_in_a_run(tmp_path: Path, column: str, columns: tuple[str, ...]) -> None:
    """Under whatever name: rows that were held out for a test would be trained on."""
    named = [{**GOOD, "input": name, column: name} for name in ("train", "test")]
    (warning,) = load_pairs(write_lines(tmp_path, *named), columns=columns, cache=tmp_path).warnings
    assert "The 'split' column is not used: not every row names one of train, judge, test" in warning


@pytest.mark.skipif(not RASBT.exists(), reason="the book's file is not beside this checkout")
def test_the_books_file_is_read_whole() -> None:
    """1,100 rows, of which six prefer nothing and are left out."""
    data = load_pairs(RASBT)
    assert (len(data.pairs), data.template, len(data.warnings)) == (1094, "alpaca", 1)
