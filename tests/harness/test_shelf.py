"""What judges said before lies on disk: whole, bounded, and safe with two runs at once."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest
from filelock import FileLock

from harness import shelf
from harness.shelf import Shelf


def file_of(root: Path) -> Path:
    (found,) = (root / "verdicts").glob("*.jsonl")
    return found


def test_what_was_kept_is_found_by_a_later_run(tmp_path: Path) -> None:
    """To the last bit."""
    Shelf(tmp_path, "judge").add({"a": 0.1 + 0.2, "b": 1.0})
    later = Shelf(tmp_path, "judge")
    assert (later.get("a"), later.get("b"), later.get("c")) == (0.1 + 0.2, 1.0, None)


def test_each_name_has_a_shelf_of_its_own(tmp_path: Path) -> None:
    """Whatever is in the name."""
    Shelf(tmp_path, "openai:http://x/../y#z").add({"a": 0.5})
    assert Shelf(tmp_path, "another").get("a") is None


@pytest.mark.parametrize(
    "damage",
    [
        b'{"key": "b", "p"',
        b"\xff\xfe\x00",
        b'{"key": "b", "p": 2}',
        b'{"key": "b", "p": NaN}',
        b'{"key": "b", "p": true}',
        b'{"key": "b", "p": "0.5"}',
        b'{"key": 3, "p": 0.5}',
        b'["key", "p"]',
        b"null",
        b"[" * 100_000,
    ],
)
def test_a_damaged_line_is_as_if_it_were_not_there(damage: bytes, tmp_path: Path) -> None:
    """The lines before it and those that are added behind it are read."""
    Shelf(tmp_path, "judge").add({"a": 0.25})
    with file_of(tmp_path).open("ab") as file:
        file.write(damage)  # and no line break, as of a run that was killed
    Shelf(tmp_path, "judge").add({"c": 0.75})
    later = Shelf(tmp_path, "judge")
    assert (later.get("a"), later.get("b"), later.get("c")) == (0.25, None, 0.75)


def test_a_shelf_that_cannot_be_written_costs_no_more_than_asking_again(tmp_path: Path) -> None:
    """This run still knows what it was told."""
    (tmp_path / "verdicts").write_text("a file where the folder should be")
    kept = Shelf(tmp_path, "judge")
    kept.add({"a": 0.5})
    assert (kept.get("a"), Shelf(tmp_path, "judge").get("a")) == (0.5, None)


def add_many(root: Path, name: str) -> None:
    kept = Shelf(root, "judge")
    for n in range(100):
        kept.add({f"{name}{n}": 0.5, f"{name}{n}'": 0.25})


def test_two_runs_add_at_once_and_lose_nothing(tmp_path: Path) -> None:
    """No line is torn."""
    context = multiprocessing.get_context("spawn")
    runs = [context.Process(target=add_many, args=(tmp_path, name)) for name in "xy"]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    later = Shelf(tmp_path, "judge")
    assert all(later.get(f"{name}{n}'") == 0.25 for name in "xy" for n in range(100))
    assert len(file_of(tmp_path).read_text().splitlines()) == 400


def test_a_shelf_that_another_run_writes_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is free again, or for good where it is not in time: nothing is torn, and nobody waits for ever."""
    monkeypatch.setattr(shelf, "LOCK_SECONDS", 0.05)
    Shelf(tmp_path, "judge").add({"a": 0.5})
    with FileLock(tmp_path / "verdicts" / ".lock"):
        Shelf(tmp_path, "judge").add({"b": 0.5})
    later = Shelf(tmp_path, "judge")
    assert (later.get("a"), later.get("b")) == (0.5, None)


def test_a_full_shelf_loses_its_older_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And stays within its bound."""
    monkeypatch.setattr(shelf, "MOST_LINES", 10)
    kept = Shelf(tmp_path, "judge")
    for n in range(11):
        kept.add({f"k{n}": 0.5})
    later = Shelf(tmp_path, "judge")
    assert [later.get(f"k{n}") for n in range(11)] == [None] * 6 + [0.5] * 5
    assert len(file_of(tmp_path).read_text().splitlines()) == 5


def test_the_longest_unused_shelf_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading one is using it."""
    monkeypatch.setattr(shelf, "MOST_SHELVES", 2)
    for age, name in enumerate(("old", "older")):
        Shelf(tmp_path, name).add({"a": 0.5})
        newest = max((tmp_path / "verdicts").glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
        os.utime(newest, (1_000_000 - age, 1_000_000 - age))
    assert Shelf(tmp_path, "older").get("a") == 0.5
    Shelf(tmp_path, "new").add({"a": 0.5})
    assert [Shelf(tmp_path, name).get("a") for name in ("old", "older", "new")] == [None, 0.5, 0.5]
