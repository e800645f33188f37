"""The judges' tables say all that their cards do, and nothing where older cards do not."""

from __future__ import annotations

import dataclasses

from harness.records import JudgeCard, RunRecord
from reports.cards import contrast_table, error_table, reliability_table
from reports.costs import judging_table
from reports.markdown import markdown
from reports.page import Table
from reports.story import page
from tests.reports.conftest import Loaded
from tests.reports.fake_run import FakeRun


def older(run: RunRecord) -> RunRecord:
    """The run with cards as they were before there was more on them than these fields."""
    card = run.judges[0]
    kept = ("name", "description", "accuracy", "contrasts", "position_consistency", "first_slot_rate", "longer_rate")
    fields = {name: getattr(card, name) for name in (*kept, "unscored", "able", "robust")}
    return dataclasses.replace(run, judges=(JudgeCard(**fields),))


def written(table: Table) -> list[list[str]]:
    return [[cell.value for cell in row] for row in table.rows]


def test_the_probabilities_of_each_judge_are_in_a_row(loaded: Loaded) -> None:
    """In the order asked for, each with all its measures."""
    found = written(error_table(loaded(FakeRun(judges=("probe", "ollama:llama3.2")))))
    assert [row[0] for row in found] == ["probe", "ollama:llama3.2"]
    assert found[0][1:] == ["81%", "79%", "0.12", "5%", "100%", "86%"]


def test_reliability_has_a_row_for_each_bin_of_each_judge(loaded: Loaded) -> None:
    found = written(reliability_table(loaded(FakeRun())))
    assert found == [["probe", "56%", "61%", "90"], ["probe", "94%", "99%", "240"]]


def test_new_kinds_of_contrast_are_shown(loaded: Loaded) -> None:
    assert ["half of the chosen response", "24%"] in written(contrast_table(loaded(FakeRun())))


def test_a_caution_stands_beside_the_judges_verdict(loaded: Loaded) -> None:
    """In the report's words, and not among the failings."""
    text = markdown(page(loaded(FakeRun())))
    assert "it is qualified. Half of the chosen response beats the whole one on 24% of 300 prompts" in text


def test_the_speed_of_judges_is_a_cost(loaded: Loaded) -> None:
    assert written(judging_table(loaded(FakeRun()))) == [["probe", "41.3/s"]]


def test_a_run_with_older_cards_has_its_report(loaded: Loaded) -> None:
    """What was not measured then is left out, tables and all."""
    run = older(loaded(FakeRun()))
    text = markdown(page(run))
    assert error_table(run).rows == reliability_table(run).rows == ()
    assert not any(title in text for title in ("worth", "As often right", "Speed of the judges"))
