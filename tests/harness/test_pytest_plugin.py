"""The plug-in as a team's own tests use it, in a pytest of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.test_gating import worsened
from tests.reports.fake_run import CORE, FakeRun, write_run

TESTS = """
from harness.pytest_plugin import assert_no_regression

def test_it_is_right_often_enough(bench):
    assert bench["dpo-beta0.1"]["correct"].value > 0.5

def test_it_is_no_worse(bench):
    assert_no_regression(bench)

def test_it_may_be_unsure(bench):
    assert_no_regression(bench, recipes=["sft=dpo-beta0.05"], allow_unsure=True)
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "test_mine.py").write_text(TESTS)
    return write_run(tmp_path / "run", FakeRun(characters=CORE[:3], prompts=8))


def pytest_in(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_run_that_is_no_worse_passes(run: Path, tmp_path: Path) -> None:
    ended = pytest_in(tmp_path, "--bench", run, "--bench-baseline", run)
    assert ended.returncode == 0, ended.stdout
    assert "3 passed" in ended.stdout


def test_a_worse_run_fails_with_the_gates_table(run: Path, tmp_path: Path) -> None:
    write_run(run, FakeRun(characters=CORE[:3]))
    worse = worsened(run, tmp_path / "worse", "sft")
    ended = pytest_in(tmp_path, "--bench", worse, "--bench-baseline", run, "-k", "no_worse")
    assert ended.returncode == 1
    assert "Regression: Gold win rate of sft fell" in " ".join(ended.stdout.split())
    assert "Traceback" not in ended.stdout


def test_what_cannot_be_told_fails_unless_allowed(run: Path, tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(TESTS.replace(", allow_unsure=True", ""))
    ended = pytest_in(tmp_path, "--bench", run, "--bench-baseline", run, "-k", "unsure")
    assert ended.returncode == 1
    assert "Cannot tell" in ended.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no run was named: pytest --bench runs/NAME"),
        (["--bench", "RUN"], "no baseline was named"),
        (["--bench", "nowhere", "--bench-baseline", "RUN"], "nowhere"),
        (["--bench", "RUN", "--bench-baseline", "nowhere"], "no baseline nowhere"),
    ],
)
def test_what_is_missing_is_said_in_one_line(run: Path, tmp_path: Path, words: list[str], said: str) -> None:
    ended = pytest_in(tmp_path, *(run if word == "RUN" else word for word in words), "-k", "no_worse")
    assert ended.returncode == 1
    assert said in ended.stdout


def test_a_trial_that_is_not_there_says_which_are(run: Path, tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("def test_it(bench):\n    bench['dpo']\n")
    assert "it has sft, dpo-beta0.05, dpo-beta0.1" in pytest_in(tmp_path, "--bench", run).stdout


def test_loading_it_imports_nothing_heavy() -> None:
    """Every pytest in the environment loads it."""
    code = "import sys, harness.pytest_plugin; sys.exit(bool({'torch', 'rich', 'numpy'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
