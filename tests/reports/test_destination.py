"""A report of several runs goes to a folder of its own, and nothing else is written over."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.store import write_json
from reports.build import build_report
from reports.destination import joining_command, own_folder
from tests.reports.fake_run import CORE, FakeRun, write_run


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [write_run(tmp_path / name, FakeRun(characters=CORE[:2], prompts=8)) for name in ("a", "b")]


def test_a_folder_has_to_be_named(runs: list[Path]) -> None:
    with pytest.raises(HarnessError, match="name it with --out"):
        own_folder(None, runs)


@pytest.mark.parametrize("within", ["a", "b/figures", "b/new/deep"])
def test_a_run_is_never_written_into(tmp_path: Path, runs: list[Path], within: str) -> None:
    with pytest.raises(HarnessError, match="is in the run"):
        own_folder(tmp_path / within, runs)


def test_nor_by_another_name(tmp_path: Path, runs: list[Path]) -> None:
    (tmp_path / "link").symlink_to(runs[0])
    with pytest.raises(HarnessError, match="is in the run"):
        own_folder(tmp_path / "link", runs)


def test_another_runs_folder_is_left_as_it_is(tmp_path: Path, runs: list[Path]) -> None:
    """It has a report too, of its own."""
    build_report(write_run(tmp_path / "c", FakeRun(characters=CORE[:2], prompts=8)))
    with pytest.raises(HarnessError, match="holds other files"):
        own_folder(tmp_path / "c", runs)


@pytest.mark.parametrize("name", ["notes.txt", "report.md"])
def test_a_folder_of_other_files_is_left_as_it_is(tmp_path: Path, runs: list[Path], name: str) -> None:
    """Be they called like ours."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / name).write_text("mine")
    with pytest.raises(HarnessError, match="holds other files"):
        own_folder(tmp_path / "own", runs)


@pytest.mark.parametrize("content", ["[]", "{", '{"bench": {"runs": []}}', '{"bench": 3}'])
def test_a_strangers_report_json_is_not_ours(tmp_path: Path, runs: list[Path], content: str) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "report.json").write_text(content)
    with pytest.raises(HarnessError, match="holds other files"):
        own_folder(tmp_path / "own", runs)


def test_a_file_is_no_folder(tmp_path: Path, runs: list[Path]) -> None:
    (tmp_path / "own").write_text("mine")
    with pytest.raises(HarnessError, match="is a file"):
        own_folder(tmp_path / "own", runs)


@pytest.mark.parametrize("made", [False, True])
def test_a_new_or_empty_folder_is_taken(tmp_path: Path, runs: list[Path], made: bool) -> None:
    if made:
        (tmp_path / "own").mkdir()
    assert own_folder(tmp_path / "own", runs) == tmp_path / "own"


def test_an_earlier_report_of_several_runs_may_be_written_anew(tmp_path: Path, runs: list[Path]) -> None:
    """Also one that was cut short: report.json is its first file."""
    write_json(tmp_path / "own" / "report.json", {"bench": {"runs": [{"name": "a"}]}})
    assert own_folder(tmp_path / "own", runs) == tmp_path / "own"


def test_the_command_names_the_runs_as_seen_from_the_report(tmp_path: Path) -> None:
    out, run = tmp_path / "joined", tmp_path / "my runs" / "first"
    command = joining_command(out, [run])
    assert str(tmp_path) not in command
    seen = shlex.split(command)[4]
    assert Path(os.path.normpath(out / seen)) == run
