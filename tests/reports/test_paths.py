"""Tables of the trials' ways: by the deciding metric where it was measured there, only where paths have been."""

from __future__ import annotations

import dataclasses

from reports.markdown import markdown
from reports.paths import matched_table, paths_shown, way_table
from reports.story import page
from tests.reports.conftest import Loaded
from tests.reports.fake_run import CORE, FakeRun

WAYS = FakeRun(ways=True)


def test_the_deciding_metric_is_shown(loaded: Loaded) -> None:
    """The best trial first."""
    shown = paths_shown(loaded(WAYS))
    assert {path.metric for path in shown} == {"gold_win_rate"}
    assert [path.trial for path in shown][:2] == ["dpo-beta0.1", "dpo-beta0.05"]


def test_reward_accuracy_stands_in(loaded: Loaded) -> None:
    """Where the judge that decides was not asked on the way."""
    silent = tuple(dataclasses.replace(c, gold=None) for c in CORE)
    run = loaded(FakeRun(ways=True, characters=silent))
    assert {path.metric for path in paths_shown(run)} == {"reward_accuracy"}
    assert matched_table(run).caption.startswith("Reward accuracy at the same KL")


def test_a_kl_that_a_path_did_not_pass_is_a_dash(loaded: Loaded) -> None:
    """SFT ends at 2.1 nats and dpo-beta0.5 at 3.3; the others pass 4. Every other cell has interval and n."""
    table = matched_table(loaded(WAYS))
    assert [column.title for column in table.columns] == ["Recipe", "at 1.00 nats", "at 4.00 nats"]
    assert {row[0].value for row in table.rows if row[2].value == "—"} == {"sft", "dpo-beta0.5"}
    assert all(row[1].interval for row in table.rows)
    assert "(n = 12)" in table.caption
    assert "scored on 12 prompts" in table.note


def test_every_point_of_the_figure_is_in_a_table(loaded: Loaded) -> None:
    table = way_table(loaded(WAYS))
    assert len(table.rows) == 5 * len(CORE)
    assert [row[0].value for row in table.rows[:2]] == ["dpo-beta0.1, 0% spent", "dpo-beta0.1, 25% spent"]


def test_a_run_without_ways_says_nothing_of_them(loaded: Loaded) -> None:
    """As before there were any."""
    text = markdown(page(loaded(FakeRun())))
    assert "same KL" not in text
    assert "Thin lines" not in text


def test_the_report_has_both_tables(loaded: Loaded) -> None:
    text = markdown(page(loaded(WAYS)))
    assert "Gold win rate at the same KL to the anchor" in text
    assert "On the way" in text
    assert "Thin lines" in text


def test_a_path_of_a_trial_that_is_gone_is_not_shown(loaded: Loaded) -> None:
    run = loaded(WAYS)
    assert len(paths_shown(dataclasses.replace(run, trials=run.trials[:2]))) == 2
