"""Files are whole or absent, and a damaged one is named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from harness import store
from harness.errors import HarnessError
from harness.records import Completion, Score, TrainStep

SCORE = Score(value=0.5, low=0.25, high=0.75, n=16, unit="share")
STEP = TrainStep(
    stage=1,
    step=2,
    spent=0.5,
    loss=0.7,
    grad_norm=1.0,
    learning_rate=1e-4,
    num_tokens=300,
    rewards_chosen=0.1,
    logps_rejected=-20.0,
)


def answer(text: str) -> Completion:
    return Completion(prompt_id="p", text=text, tokens=2, truncated=False, token_ids=(65, 258))


def crash(path: Path) -> None:
    path.write_text("half of what was to be wri")
    raise KeyboardInterrupt


def test_a_crash_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    """What stood there before is still there, to the byte."""
    path = tmp_path / "report.md"
    store.write_text(path, "whole\n")
    with pytest.raises(KeyboardInterrupt):
        store.write_atomically(path, crash)
    assert path.read_text() == "whole\n"


def test_a_crash_in_the_middle_leaves_no_temporary_file(tmp_path: Path) -> None:
    """A file that was never there before is not there after."""
    with pytest.raises(KeyboardInterrupt):
        store.write_atomically(tmp_path / "report.md", crash)
    assert list(tmp_path.iterdir()) == []


def test_a_value_that_is_no_record_leaves_the_old_file(tmp_path: Path) -> None:
    """NaN has no place in a record: it is refused before anything is replaced."""
    path = tmp_path / "scores.json"
    store.write_json(path, SCORE)
    with pytest.raises(ValueError, match="JSON"):
        store.write_json(path, {"value": float("nan")})
    assert store.read_json(path, Score) == SCORE


def test_content_is_synced_before_it_is_put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut after the rename cannot leave an empty file: fsync comes first."""
    path, seen = tmp_path / "scores.json", []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append(path.exists()))
    store.write_json(path, SCORE)
    assert seen == [False]


def test_folders_on_the_way_are_made(tmp_path: Path) -> None:
    """A writer need not know whether its folder is there."""
    store.write_json(tmp_path / "trials" / "sft@0" / "scores.json", SCORE)
    assert store.read_json(tmp_path / "trials" / "sft@0" / "scores.json", Score) == SCORE


def test_a_file_can_be_read_by_others(tmp_path: Path) -> None:
    """A temporary file is private; what it becomes is not."""
    store.write_json(tmp_path / "scores.json", SCORE)
    assert (tmp_path / "scores.json").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("text", ["a\u2028b", "a\u2029b", "a\x85b", "a\nb\r\nc", "a\x0bb\x1eb", "🙂 naïve"])
def test_any_text_goes_through_jsonl_unchanged(tmp_path: Path, text: str) -> None:
    """Lines end at newlines only: U+2028 and its like are text."""
    records = (answer(text), answer("after"))
    store.write_jsonl(tmp_path / "completions.jsonl", records)
    assert store.read_jsonl(tmp_path / "completions.jsonl", Completion) == records


def test_jsonl_has_one_record_to_a_line(tmp_path: Path) -> None:
    """Other programs read it line by line."""
    store.write_jsonl(tmp_path / "completions.jsonl", [answer("a\nb"), answer("c")])
    lines = (tmp_path / "completions.jsonl").read_bytes().split(b"\n")
    assert [json.loads(line)["text"] for line in lines[:-1]] == ["a\nb", "c"]
    assert lines[-1] == b""


def test_the_training_log_has_the_fields_own_slashed_names(tmp_path: Path) -> None:
    """A log viewer finds `rewards/chosen` and `logps/rejected`, and no underscored twin."""
    store.write_jsonl(tmp_path / "train.jsonl", [STEP])
    names = set(json.loads((tmp_path / "train.jsonl").read_text()))
    slashed = {"rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen"}
    plain = {"stage", "step", "spent", "loss", "grad_norm", "learning_rate", "num_tokens"}
    assert names == slashed | {"logps/rejected"} | plain


def test_slashed_names_come_back_as_fields(tmp_path: Path) -> None:
    """What is read equals what was written, missing values missing."""
    store.write_jsonl(tmp_path / "train.jsonl", [STEP])
    assert store.read_jsonl(tmp_path / "train.jsonl", TrainStep) == (STEP,)


@pytest.mark.parametrize("content", ['{"value": 0.5, "lo', '{"value": 0.5}', "[]", ""])
def test_a_damaged_record_is_named(tmp_path: Path, content: str) -> None:
    """The error gives the file and what to do, in one line."""
    path = tmp_path / "scores.json"
    path.write_text(content)
    with pytest.raises(HarnessError) as caught:
        store.read_json(path, Score)
    message = str(caught.value)
    assert message.startswith(f"{path} is damaged (")
    assert message.endswith("delete it and run again")
    assert "\n" not in message


def test_a_damaged_line_is_named_by_its_number(tmp_path: Path) -> None:
    """Of a thousand lines the user is told which."""
    path = tmp_path / "completions.jsonl"
    store.write_jsonl(path, [answer("a"), answer("b")])
    path.write_text(path.read_text()[:-10])
    with pytest.raises(HarnessError, match=r"completions\.jsonl:2 is damaged"):
        store.read_jsonl(path, Completion)


def test_bytes_that_are_no_text_are_a_damaged_file(tmp_path: Path) -> None:
    """A disk's garbage is the user's to mend, not a traceback."""
    path = tmp_path / "scores.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(HarnessError, match="is damaged"):
        store.read_json(path, Score)


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    """The message names the path."""
    with pytest.raises(HarnessError, match=r"scores\.json is missing: run the same command again"):
        store.read_json(tmp_path / "scores.json", Score)


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    """Same content, same digest."""
    assert store.digest({"a": 1, "b": (2, 3)}) == store.digest({"b": [2, 3], "a": 1})


def test_a_digest_tells_parts_apart() -> None:
    """Parts are not simply joined: "ab", "c" is not "a", "bc"."""
    assert store.digest("ab", "c") != store.digest("a", "bc")


def test_a_digest_is_the_same_on_every_machine() -> None:
    """The canonical JSON, hashed: a number that no Python version changes."""
    assert store.digest("x", 1, 0.5).startswith("2d300723")
