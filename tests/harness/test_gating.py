"""`gate` as a user meets it: exit codes, files, refusals."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.records import TrialScores
from harness.store import read_json, write_json
from tests.harness.door import Finished, harness
from tests.reports.fake_run import CORE, FakeRun, write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of three recipes whose gold win rates are known by prompt."""
    return write_run(tmp_path / "run", FakeRun(characters=CORE[:3]))


def gate(*words: object, folder: Path) -> Finished:
    return harness("gate", *words, cache=folder / "cache")


def worsened(run: Path, folder: Path, recipe: str) -> Path:
    """The run again, in which one recipe loses on every prompt."""
    write_run(folder, FakeRun(characters=CORE[:3]))
    path = folder / "trials" / f"{recipe}@1" / "scores.json"
    scores = read_json(path, TrialScores)
    lost = {metric: dict.fromkeys(values, 0.0) for metric, values in scores.per_prompt.items()}
    write_json(path, dataclasses.replace(scores, per_prompt=lost))
    return folder


def test_the_same_run_again_passes(run: Path, tmp_path: Path) -> None:
    ended = gate(run, "--baseline", run, folder=tmp_path)
    assert ended.code == 0
    assert "No regression" in ended.out


def test_a_worse_run_exits_with_one_and_names_the_recipe(run: Path, tmp_path: Path) -> None:
    ended = gate(worsened(run, tmp_path / "worse", "sft"), "--baseline", run, folder=tmp_path)
    assert ended.code == 1
    assert "Regression: Gold win rate of sft fell" in ended.out


def test_what_cannot_be_told_exits_with_four(run: Path, tmp_path: Path) -> None:
    """sft and a DPO recipe draw their outcomes apart from one another: equal, but far from proven so."""
    ended = gate(run, "--baseline", run, "--recipe", "sft=dpo-beta0.05", folder=tmp_path)
    assert ended.code == 4
    few = write_run(tmp_path / "few", FakeRun(characters=CORE[:3], prompts=8))
    ended = gate(few, "--baseline", few, "--recipe", "sft=dpo-beta0.05", folder=tmp_path)
    assert ended.code == 4
    assert "held-out prompts would settle it" in " ".join(ended.out.split())


def test_a_baseline_file_says_what_its_run_said(run: Path, tmp_path: Path) -> None:
    """One file, the folder gone: the verdict and every number are the same."""
    file, worse = tmp_path / "baseline.json", worsened(run, tmp_path / "worse", "sft")
    assert gate(run, "--save-baseline", file, folder=tmp_path).code == 0
    by_folder = gate(worse, "--baseline", run, folder=tmp_path)
    by_file = gate(worse, "--baseline", file, folder=tmp_path)
    assert by_file.out == by_folder.out
    assert by_file.code == 1


def test_the_files_for_ci_are_written(run: Path, tmp_path: Path) -> None:
    junit, comment = tmp_path / "gate.xml", tmp_path / "gate.md"
    gate(run, "--baseline", run, "--junit", junit, "--markdown", comment, folder=tmp_path)
    assert ElementTree.parse(junit).getroot().get("failures") == "0"
    assert comment.read_text().startswith("## ✓ No regression")


def test_a_baseline_moves_on_unless_the_run_is_worse(run: Path, tmp_path: Path) -> None:
    file, worse = tmp_path / "baseline.json", worsened(run, tmp_path / "worse", "sft")
    gate(run, "--save-baseline", file, folder=tmp_path)
    first = file.read_bytes()
    ended = gate(worse, "--baseline", file, "--update-baseline", folder=tmp_path)
    assert (ended.code, file.read_bytes()) == (1, first)
    assert "left as it was" in ended.out
    gate(worse, "--save-baseline", file, folder=tmp_path)
    ended = gate(run, "--baseline", file, "--update-baseline", folder=tmp_path)
    assert (ended.code, file.read_bytes()) == (0, first)


def test_a_baseline_keeps_a_recipe_that_failed_in_the_run(run: Path, tmp_path: Path) -> None:
    """Or the next run without it would pass."""
    file, less = tmp_path / "baseline.json", write_run(tmp_path / "less", FakeRun(characters=CORE[1:3]))
    gate(run, "--save-baseline", file, folder=tmp_path)
    first = file.read_bytes()
    ended = gate(less, "--baseline", file, "--update-baseline", folder=tmp_path)
    assert (ended.code, file.read_bytes()) == (4, first)


def test_a_rules_file_decides_what_is_checked(run: Path, tmp_path: Path) -> None:
    rules = tmp_path / "gate.toml"
    rules.write_text('[[rule]]\nmetric = "gold_win_rate"\nmargin = "10pp"\nrecipes = ["dpo-*"]\n')
    worse = worsened(run, tmp_path / "worse", "sft")
    assert gate(worse, "--baseline", run, "--rules", rules, folder=tmp_path).code == 0


def test_runs_on_other_ground_are_refused(run: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", FakeRun(characters=CORE[:3], questions={0: "Another question?"}))
    ended = gate(other, "--baseline", run, folder=tmp_path)
    assert ended.code == 2
    assert "held-out prompts differ" in ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--baseline RUN or FILE"),
        (["--junit", "x.xml", "--save-baseline", "b.json"], "--junit needs --baseline"),
        (["--baseline", "nowhere"], "no baseline nowhere"),
        (["--baseline", "RUN", "--update-baseline"], "is a run's folder"),
        (["--baseline", "RUN", "--recipe", "sfft"], "did you mean 'sft'?"),
        (["--baseline", "RUN", "--recipe", "sft=sftt"], "in the baseline: did you mean 'sft'?"),
        (["--baseline", "RUN", "--rules", "none.toml"], "no file none.toml"),
        (["--baseline", "RUN/record.json"], "is no baseline"),
        (["--baseline", "b.json", "--save-baseline", "b.json"], "name the same file"),
        (["--baseline", "RUN", "--junit", "x.xml", "--markdown", "x.xml"], "name the same file"),
        (["--baseline", "b.json", "--update-baseline", "--recipe", "sft"], "leave one out"),
        (["--baseline", "RUN", "--recipe", "sft=sft", "--recipe", "sft=dpo-beta0.1"], "name each once"),
    ],
)
def test_nonsense_is_one_line(run: Path, tmp_path: Path, words: list[str], said: str) -> None:
    ended = gate(run, *(word.replace("RUN", str(run)) for word in words), folder=tmp_path)
    assert ended.code == 2
    assert said in ended.err
    assert len(ended.err.strip().splitlines()) == 1


def test_a_damaged_baseline_is_one_line(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    gate(run, "--save-baseline", file, folder=tmp_path)
    plain = json.loads(file.read_text())
    plain["prompts"] = plain["prompts"][:-1]
    file.write_text(json.dumps(plain))
    ended = gate(run, "--baseline", file, folder=tmp_path)
    assert (ended.code, len(ended.err.strip().splitlines())) == (2, 1)
    assert "damaged" in ended.err
