"""`load_run` reads what the bench wrote, in the bench's order, and says what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HarnessError
from reports.load import load_run, load_runs
from tests.reports.conftest import Loaded
from tests.reports.fake_run import CORE, FakeRun, write_run


def test_trials_stand_in_the_order_of_the_recipes(loaded: Loaded) -> None:
    assert [trial.recipe for trial in loaded(FakeRun()).trials] == [c.recipe for c in CORE]


def test_a_trial_without_scores_is_left_out_and_named(loaded: Loaded) -> None:
    run = loaded(FakeRun(characters=CORE[:2], unfinished=("dpo-beta0.1@1",)))
    assert [trial.recipe for trial in run.trials] == ["sft", "dpo-beta0.05"]
    assert run.unfinished == ("dpo-beta0.1@1",)


def test_a_failed_trial_is_not_called_unfinished_too(loaded: Loaded) -> None:
    run = loaded(FakeRun(characters=CORE[:1], failed={"dpo@1": "out of memory"}, unfinished=("dpo@1",)))
    assert run.unfinished == ()


def test_judges_stand_in_the_order_asked_for(loaded: Loaded) -> None:
    run = loaded(FakeRun(judges=("rule:length", "probe")))
    assert [card.name for card in run.judges] == ["rule:length", "probe"]


def test_a_folder_without_a_run_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="holds no run"):
        load_run(tmp_path)


def test_a_damaged_line_is_named_with_its_file_and_place(tmp_path: Path) -> None:
    path = write_run(tmp_path) / "trials" / "sft@1" / "verdicts.jsonl"
    path.write_text(path.read_text() + "{broken\n")
    with pytest.raises(HarnessError, match=r"verdicts\.jsonl:129 is damaged"):
        load_run(tmp_path)


SMALL = FakeRun(characters=CORE[:1], prompts=4)


def named(tmp_path: Path, *folders: str) -> list[str]:
    return list(load_runs([write_run(tmp_path / folder, SMALL) for folder in folders]))


def test_runs_go_by_the_names_of_their_folders(tmp_path: Path) -> None:
    """Wherever they lie: the names stand in reports."""
    assert named(tmp_path, "b", "deep/within/a") == ["b", "a"]


def test_runs_of_one_name_go_by_their_paths_from_where_both_lie(tmp_path: Path) -> None:
    assert named(tmp_path, "first/run", "second/run", "run") == ["first/run", "second/run", "run"]


def test_a_folder_given_twice_is_refused(tmp_path: Path) -> None:
    """Under whatever name."""
    folder = write_run(tmp_path / "a", SMALL)
    (tmp_path / "b").symlink_to(folder)
    with pytest.raises(HarnessError, match="is given twice"):
        load_runs([folder, tmp_path / "b"])


def test_names_that_only_look_the_same_are_refused(tmp_path: Path) -> None:
    """Else one run would stand for both."""
    with pytest.raises(HarnessError, match="look the same"):
        named(tmp_path, "a b", "a  b")
