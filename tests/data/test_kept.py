"""Rows kept on disk are the rows that were read, found by their place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from harness.data import json_rows, kept, opening, reading
from harness.data.reading import ROWS
from harness.data.rows import DataSet, PairList, load_pairs
from harness.data.splits import split_pairs
from harness.errors import HarnessError

GOLD = {"kind": "number", "answers": ["3"], "wrong": ["4"], "given": []}
ROW = {"instruction": "Add. ☃", "input": "1 + 2", "chosen": "It is 3.\n", "rejected": "3, duh.\x00", "gold": GOLD}


def write(folder: Path, count: int = 200) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{json.dumps({**ROW, 'input': str(n)})}\n" for n in range(count)))
    return path


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any row is too many for memory."""
    monkeypatch.setattr(kept, "IN_MEMORY_BYTES", 100)


def large(folder: Path) -> DataSet:
    return load_pairs(folder / "rows.jsonl", cache=folder)


def kept_folder(folder: Path) -> Path:
    (found,) = (entry for entry in (folder / "rows").iterdir() if entry.is_dir())
    return found


def test_rows_on_disk_are_those_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs, order, splits and digest do not hang on where rows lie."""
    few = load_pairs(write(tmp_path), cache=tmp_path)
    monkeypatch.setattr(kept, "IN_MEMORY_BYTES", 100)
    many = large(tmp_path)
    assert kept_folder(tmp_path).is_dir()
    assert (many.pairs, many.digest, split_pairs(many)) == (few.pairs, few.digest, split_pairs(few))


@pytest.mark.usefixtures("on_disk")
def test_kept_rows_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time they are found by the file's digest."""
    write(tmp_path)
    first = large(tmp_path)
    monkeypatch.setattr(reading, "_Reader", None)
    assert large(tmp_path) == first


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("file", ["rows.jsonl", "index.safetensors", "meta.json"])
def test_damaged_rows_are_read_again(tmp_path: Path, file: str) -> None:
    """A kept file that was cut off is not believed."""
    write(tmp_path)
    first = list(large(tmp_path).pairs)
    damaged = kept_folder(tmp_path) / file
    damaged.write_bytes(damaged.read_bytes()[:-7])
    assert list(large(tmp_path).pairs) == first


@pytest.mark.usefixtures("on_disk")
def test_rows_cut_off_while_they_are_read_are_one_line(tmp_path: Path) -> None:
    """Not a traceback in the middle of training."""
    write(tmp_path)
    data = large(tmp_path)
    with (kept_folder(tmp_path) / ROWS).open("r+b") as file:
        file.truncate(50)
    with pytest.raises(HarnessError, match="is damaged: delete its folder"):
        _ = data.pairs[100]


@pytest.mark.usefixtures("on_disk")
def test_pruned_rows_can_be_read_to_the_end(tmp_path: Path) -> None:
    """The cache may be tidied while a bench uses them."""
    write(tmp_path)
    data = large(tmp_path)
    (kept_folder(tmp_path) / ROWS).unlink()
    assert data.pairs[-1].question.endswith("199")


def test_a_list_of_pairs_is_a_sequence(tmp_path: Path) -> None:
    """Length, places from either end, slices, iteration, equality."""
    pairs = load_pairs(write(tmp_path, 10), cache=tmp_path).pairs
    assert isinstance(pairs, PairList)
    assert (len(pairs), len(pairs[2:5]), pairs[-1]) == (10, 3, pairs[9])
    assert list(pairs[2:5]) == [pairs[2], pairs[3], pairs[4]]
    assert pairs == tuple(pairs)
    assert pairs[:3] != pairs[1:4]
    with pytest.raises(IndexError):
        _ = pairs[10]


def test_everything_a_row_knows_comes_back(tmp_path: Path) -> None:
    """Gold, control characters and line ends too."""
    pair = load_pairs(write(tmp_path, 1), cache=tmp_path).pairs[0]
    assert pair.gold is not None
    assert (pair.gold.answers, pair.gold.wrong, pair.chosen, pair.rejected) == (
        ("3",),
        ("4",),
        "It is 3.\n",
        "3, duh.\x00",
    )


def test_repeated_rows_are_left_out_and_said(tmp_path: Path) -> None:
    """Word for word the same, however many there are; another answer to the same prompt stays."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in (ROW, ROW, {**ROW, "chosen": "3."}, ROW)))
    data = load_pairs(path, cache=tmp_path)
    assert len(data.pairs) == 2
    assert data.warnings == ("2 of 4 rows repeat an earlier row word for word and are left out: rows 2, 4.",)


@pytest.mark.parametrize("piece", [1, 7, 64, 1000])
def test_an_array_is_the_same_in_pieces_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    """Characters, escapes, numbers and rows may be cut anywhere."""
    monkeypatch.setattr(opening, "PIECE_BYTES", piece)
    rows = [{**ROW, "input": f"{n}", "n": -1.5e-3, "ok": True, "deep": [[{"a": None}]], "☃": '\\"é'} for n in range(9)]
    path = tmp_path / "rows.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(rows, indent=2, ensure_ascii=False).encode() + b"\n\n")
    found = list(json_rows.array_rows(path))
    assert [value for _, value in found] == rows
    text = path.read_text(encoding="utf-8-sig").split("\n")
    assert all(text[(line or 0) - 1].strip() == "{" for line, _ in found)


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[\n{"a": 1},\n{"a": tru}]', ":3: column 7: broken JSON (Expecting value)"),
        ('[\n{"a": 1},\n', "broken JSON (Expecting value)"),
        ('[{"a": "never ended]', "Unterminated string"),
        ('[{"a": 1}\n{"a": 2}]', ":2: column 1: broken JSON (Expecting ',' delimiter)"),
        ('[{"a": 1},]', "broken JSON (Expecting value)"),
        ('{"a": 1}\n{"a": 2}', "name the file .jsonl"),
        ('{"rows": [1]}', "holds an object, not a list"),
        ("nonsense", "Expecting value"),
    ],
)
def test_a_broken_array_is_named_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, problem: str, piece: int
) -> None:
    """Whatever piece it is broken in."""
    monkeypatch.setattr(opening, "PIECE_BYTES", piece)
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(HarnessError) as caught:
        list(json_rows.array_rows(path))
    assert problem in str(caught.value)


def test_a_file_that_is_packed_is_known_by_its_bytes(tmp_path: Path) -> None:
    """Whatever its name says."""
    path = write(tmp_path, 3)
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert len(load_pairs(path, cache=tmp_path).pairs) == 3


def test_a_packed_file_that_is_cut_off_is_one_line(tmp_path: Path) -> None:
    """Half a download."""
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(ROW).encode() * 50)[:-20])
    with pytest.raises(HarnessError, match="is damaged or cut off"):
        load_pairs(path, cache=tmp_path)
