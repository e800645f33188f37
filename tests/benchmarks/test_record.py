"""Figures keep where, when and from what they were made."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks import record
from benchmarks.record import CHANGED, known, moment, stamped, update


def test_figures_of_other_parts_stay_where_the_machine_is_the_same(tmp_path: Path) -> None:
    before = {"machine": {"threads": 2}, "dpo_step": {"short": {"speedup": 5.0}}, "ceiling": {"share": 0.7}}
    file = tmp_path / "latest.json"
    file.write_text(json.dumps(before))
    said: list[str] = []
    found = known(file, {"threads": 2}, said.append)
    update(found, {"dpo_step": {"chat": {"speedup": 3.0}}})
    assert found == {**before, "dpo_step": {"short": {"speedup": 5.0}, "chat": {"speedup": 3.0}}}
    assert known(tmp_path / "missing.json", {"threads": 4}, said.append) == {"machine": {"threads": 4}}
    assert not said
    assert known(file, {"threads": 4}, said.append) == {"machine": {"threads": 4}}
    assert "another machine" in said[0]


def test_every_figure_has_its_stamp() -> None:
    found = {"share": 0.7, "short": {"cached": {"speedup": 7.0, "kept": None}}, "rows": [{"x": 1}]}
    assert stamped(found, {"commit": "abc"}) == {
        "share": 0.7,
        "short": {"cached": {"speedup": 7.0, "kept": None, "commit": "abc"}},
        "rows": [{"x": 1}],
        "commit": "abc",
    }


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_a_commit_is_told_apart_from_changes_since(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of figures itself is no change; without git there is the day alone."""
    monkeypatch.setattr(record, "HERE", tmp_path)
    assert moment().keys() == {"date"}
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    code, figures = tmp_path / "code.py", tmp_path / "latest.json"
    code.write_text("1")
    figures.write_text("{}")
    for asked in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *asked], cwd=tmp_path, check=True)
    figures.write_text("{1: 2}")
    assert not moment()["commit"].endswith(CHANGED)
    code.write_text("2")
    assert moment()["commit"].endswith(CHANGED)
