"""Figures keep where, when and from what they were made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from benchmarks import record
from benchmarks.record import CHANGED, known, machine, moment, stamped, update


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


def test_figures_have_their_stamp_once() -> None:
    """The topmost stands for what is below it."""
    found = {"share": 0.7, "short": {"share": 0.7}}, {"short": {"cached": {"speedup": 7.0, "phases": {"sft": 1.0}}}}
    made = {"commit": "abc"}
    assert stamped(found[0], made) == {**found[0], "made": made}
    assert stamped(found[1], made) == {"short": {"cached": {**found[1]["short"]["cached"], "made": made}}}


def test_two_processors_of_one_name_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what torch multiplies with."""
    found = []
    for instructions in ("AVX2", "AVX512"):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda instructions=instructions: instructions)
        found.append(machine("float32"))
    assert found[0] != found[1]


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_a_commit_is_told_apart_from_changes_since(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of figures itself is no change; where there is no checkout there is the day alone."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(record, "HERE", tmp_path)
    code, figures, elsewhere = tmp_path / "code.py", tmp_path / "figures.json", tmp_path.parent / "figures.json"
    assert moment(figures).keys() == {"date"}
    code.write_text("1")
    figures.write_text("{}")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    for asked in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *asked], cwd=tmp_path, check=True)
    figures.write_text("{1: 2}")
    assert not moment(figures)["commit"].endswith(CHANGED)
    assert moment(elsewhere)["commit"].endswith(CHANGED)
    code.write_text("2")
    assert moment(figures)["commit"].endswith(CHANGED)
