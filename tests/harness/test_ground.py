"""The data side of a bench's ground: what was asked for reaches the rows."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.ground import lay_ground
from harness.settings import Asked, absolute_data


def write(folder: Path) -> Path:
    path = folder / "rows.jsonl"
    rows = ({"question": f"What is {n}?", "good": f"It is {n}.", "bad": "No." if n else "It is 0."} for n in range(100))
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def asked(folder: Path, model: str, *columns: str) -> Asked:
    return Asked(model=model, data=str(write(folder)), columns=columns, eval_prompts=4)


def test_columns_reach_the_rows_and_what_is_left_out_is_said(tmp_path: Path, tiny_model_folder: Path) -> None:
    """One of a hundred prefers nothing."""
    said: list[str] = []
    wanted = asked(tmp_path, str(tiny_model_folder), "prompt=question", "chosen=good", "rejected=bad")
    ground = lay_ground(wanted, tmp_path, said.append)
    assert said == ["1 of 100 rows have chosen = rejected and are left out: rows 1."]
    assert ground.held_out[0].chosen.startswith("It is")
    assert ground.dataset.reading.endswith("is read as TRL text, 100 rows")
    assert len(ground.terms.pair_rows) == len(ground.terms.chosen_rows) == len(ground.splits.train)


def test_a_mistyped_column_is_told_before_the_model_is_read(tmp_path: Path) -> None:
    """Reading a model takes long."""
    with pytest.raises(HarnessError, match="did you mean 'chosen'"):
        lay_ground(asked(tmp_path, "no such model", "chosn=good"), tmp_path, print)


@pytest.mark.parametrize("data", ["hf:me/set:train", "rows.parquet"])
def test_a_library_that_data_needs_is_asked_for_before_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str
) -> None:
    """Not after its download."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    for library in ("datasets", "pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(HarnessError, match=r"is not installed: pip install 'prefbench\[hf\]'"):
        lay_ground(Asked(model="no such model", data=data), tmp_path, print)


def test_a_pattern_is_kept_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bench is run again from anywhere; sets of the Hub are no paths."""
    monkeypatch.chdir(tmp_path)
    assert absolute_data("rows-*.jsonl") == str(tmp_path / "rows-*.jsonl")
    assert absolute_data("hf:me/set:train") == "hf:me/set:train"
    assert absolute_data("courtesy") == "courtesy"
