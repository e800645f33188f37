"""`compare`, and `report` of several runs, as a user meets them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.door import Finished, harness
from tests.harness.test_cli import python
from tests.reports.fake_run import CORE, FakeRun, write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", FakeRun(characters=CORE[:3]))


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Two small runs of the same bench, with one recipe in both."""
    first, second = FakeRun(characters=CORE[:2], prompts=12), FakeRun(characters=CORE[1:3], prompts=12)
    return write_run(tmp_path / "first", first), write_run(tmp_path / "second", second)


def refused(ended: Finished, *words: str) -> None:
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert all(word in ended.err for word in words)


def test_compare_answers_then_shows_the_differences_and_ten_samples(run: Path, tmp_path: Path) -> None:
    ended = harness("compare", run, "sft", "dpo-beta0.1", cache=tmp_path / "cache")
    assert (ended.code, ended.err) == (0, "")
    order = ["dpo-beta0.1 is better than sft", "A: sft", "Gold win rate", "10 telling prompts", "\n10. "]
    places = [ended.out.index(words) for words in order]
    assert places == sorted(places)


def test_compare_writes_nothing(run: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    harness("compare", run, "sft", "dpo-beta0.1", cache=tmp_path / "cache")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_the_number_of_samples_can_be_asked_for(run: Path, tmp_path: Path) -> None:
    ended = harness("compare", run, "sft", "anchor", "--samples", 3, cache=tmp_path / "cache")
    assert "\n3. " in ended.out
    assert "\n4. " not in ended.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sft", "dpo-beta0.2"), "did you mean 'dpo-beta0."),
        (("sft", "sft"), "are the same trial"),
        (("sft",), "Missing argument 'B'"),
        (("sft", "anchor", "--samples", "-1"), "'--samples'"),
    ],
)
def test_what_cannot_be_compared_is_one_line(run: Path, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    refused(harness("compare", run, *words, cache=tmp_path / "cache"), said)


def test_compare_of_a_folder_without_a_run_is_one_line(tmp_path: Path) -> None:
    refused(harness("compare", tmp_path, "a", "b", cache=tmp_path / "cache"), "holds no run")


def test_several_runs_make_one_report(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """And it may be written again over itself."""
    out = tmp_path / "joined"
    for _ in range(2):
        ended = harness("report", *runs, "--out", out, cache=tmp_path / "cache")
        assert (ended.code, ended.err) == (0, "")
        assert f"3 trials in {out / 'report.md'}" in ended.out
    assert sorted(path.name for path in out.iterdir()) == ["figures", "report.html", "report.json", "report.md"]


def test_one_run_can_be_reported_elsewhere(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """Where its own folder may not be written to."""
    out = tmp_path / "elsewhere"
    assert harness("report", runs[0], "--out", out, cache=tmp_path / "cache").code == 0
    assert (out / "report.md").exists()
    assert not (runs[0] / "report.md").exists()


def test_several_runs_need_a_folder_of_their_own(runs: tuple[Path, Path], tmp_path: Path) -> None:
    refused(harness("report", *runs, cache=tmp_path / "cache"), "--out")
    refused(harness("report", *runs, "--out", runs[1], cache=tmp_path / "cache"), "is in the run")


def test_a_run_given_twice_is_one_line(runs: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "joined"
    refused(harness("report", runs[0], runs[0], "--out", out, cache=tmp_path / "cache"), "is given twice")


def test_runs_of_other_prompts_are_refused_and_nothing_is_written(runs: tuple[Path, Path], tmp_path: Path) -> None:
    other, out = write_run(tmp_path / "other", FakeRun(characters=CORE[:2], prompts=9)), tmp_path / "joined"
    refused(
        harness("report", runs[0], other, "--out", out, cache=tmp_path / "cache"),
        "first and other cannot make one report",
        "12 and 9",
        "--eval-prompts",
    )
    assert not out.exists()


@pytest.mark.parametrize("command", ["compare", "report"])
def test_neither_needs_torch(runs: tuple[Path, Path], tmp_path: Path, command: str) -> None:
    """Both answer from records, on any machine, in the time that SciPy takes to load."""
    words = {
        "compare": f"compare {runs[0]} sft anchor",
        "report": f"report {runs[0]} {runs[1]} --out {tmp_path / 'joined'}",
    }
    code = (
        f"import sys; sys.argv = ['harness', *{words[command].split()!r}]\n"
        "from harness.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    ended = python("-c", code)
    assert (ended.returncode, ended.stderr) == (0, "")
