"""The last words of a run fit the window and lead to the report."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.cells import cell_len
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


def knobs(count: int) -> tuple[Character, ...]:
    """Recipes whose names are alike at their beginnings, or at both ends."""
    names = [
        f"dpo_beta={beta}_reference={kind}_learning_rate={rate}"
        for beta in (0.05, 0.1, 0.2, 0.3, 0.5)
        for kind in ("frozen", "soft", "hard")
        for rate in ("1e-5", "5e-5")
    ]
    return tuple(Character(recipe=name) for name in names[:count])


def table(text: str) -> list[str]:
    """The lines from the heading on to the last trial."""
    lines = text.splitlines()
    rule = next(place for place, line in enumerate(lines) if line.startswith("─"))
    return lines[rule - 2 : next(place for place, line in enumerate(lines) if place > rule and not line.strip())]


WIDTHS = pytest.mark.parametrize("width", [60, 80, 100, 140])
RUNS = pytest.mark.parametrize("fake", [FakeRun(), FakeRun(characters=knobs(30))], ids=["7 trials", "30 trials"])


@WIDTHS
@RUNS
def test_no_two_recipes_look_the_same(loaded: Loaded, fake: FakeRun, width: int) -> None:
    """However little room there is."""
    rows = [line[2:] for line in table(printed(loaded, fake, width))[3:] if line[2] != " "]
    assert len({row.split()[0] for row in rows}) == len(rows) == len(fake.characters)


@WIDTHS
@RUNS
def test_no_number_and_no_heading_is_cut(loaded: Loaded, fake: FakeRun, width: int) -> None:
    """What has no room is left out whole; only a long name is cut."""
    heading, second, _, *rows = table(printed(loaded, fake, width))
    assert "…" not in heading + second
    assert not any("…" in " ".join(row[2:].split()[1:]) for row in rows)


@WIDTHS
@RUNS
def test_a_trial_is_one_line_or_two_with_its_intervals(loaded: Loaded, fake: FakeRun, width: int) -> None:
    """Nothing wraps."""
    rows = table(printed(loaded, fake, width))[3:]
    intervals = any(" to " in row for row in rows)
    assert len(rows) == len(fake.characters) * (2 if intervals else 1)


@pytest.mark.parametrize(("width", "words"), [(60, "KL"), (80, "Length"), (100, " to "), (140, "Spent")])
def test_a_wider_window_shows_more(loaded: Loaded, width: int, words: str) -> None:
    """The deciding metric always, then the others by importance, intervals where they fit, what was spent last."""
    text = printed(loaded, FakeRun(), width)
    assert words in "\n".join(table(text))


def test_judges_with_long_names_can_be_told_apart(loaded: Loaded) -> None:
    """Two probes on two models are two columns."""
    fake = FakeRun(judges=("probe:a-folder-of-models-one", "probe:a-folder-of-models-two"))
    heading = " ".join(table(printed(loaded, fake, 140))[:2]).split()
    cut = [word for word in heading if word.startswith("probe:")]
    assert len(cut) == len(set(cut)) == 2


def test_a_name_in_wide_letters_leaves_the_columns_in_line(loaded: Loaded) -> None:
    """Chinese takes two cells a letter."""
    fake = FakeRun(characters=(Character(recipe="偏好" * 20), Character(recipe="偏好" * 20 + "二"), CORE[0]))
    for line in table(printed(loaded, fake, 80)):
        assert cell_len(line) <= 80
