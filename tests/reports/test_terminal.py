"""The last words of a run fit the window and lead to the report."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from reports.terminal import print_report
from tests.reports.conftest import Loaded
from tests.reports.fake_run import CORE, Character, FakeRun


def printed(loaded: Loaded, fake: FakeRun, width: int) -> str:
    out = io.StringIO()
    print_report(loaded(fake), Console(file=out, width=width), Path("runs/first/report.md"))
    return out.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_no_line_is_wider_than_the_window(loaded: Loaded, width: int) -> None:
    assert max(map(len, printed(loaded, FakeRun(), width).splitlines())) <= width


def test_the_answer_the_scores_and_the_path_are_printed(loaded: Loaded) -> None:
    text = printed(loaded, FakeRun(), 120)
    for words in ("dpo-beta0.1 scores highest", "* dpo-beta0.1", "Gold wins", "KL", "Spent", "runs/first/report.md"):
        assert words in text


def test_rich_markup_in_a_name_is_text(loaded: Loaded) -> None:
    assert "[bold]x[/]" in printed(loaded, FakeRun(characters=(Character(recipe="[bold]x[/]"),)), 120)


def test_a_run_without_finished_trials_prints(loaded: Loaded) -> None:
    fake = FakeRun(characters=(), failed={CORE[0].recipe: "out of memory"})
    assert "nothing to compare" in printed(loaded, fake, 80)
