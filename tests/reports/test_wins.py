"""What is left of a win: at equal length, without the judge's errors, over all rivals, and over all seeds."""

from __future__ import annotations

import dataclasses

from harness.records import Ranking, RunRecord, Score
from reports.cautions import warnings
from reports.leading import main_contrast
from reports.summary import answer
from reports.trials import by_recipe
from reports.wins import corrected_table, judged_table, ranking_table, too_weak
from tests.reports.conftest import Loaded
from tests.reports.fake_run import FakeRun


def share(value: float, reach: float) -> Score:
    return Score(value=value, low=value - reach, high=value + reach, n=128, unit="share")


def scored(run: RunRecord, recipe: str, **scores: Score) -> RunRecord:
    """The run with these scores of one trial besides its own."""
    more = {name.replace("__", "[", 1) + ("]" if "__" in name else ""): score for name, score in scores.items()}
    trials = tuple(
        dataclasses.replace(t, scores=dataclasses.replace(t.scores, scores=t.scores.scores | more))
        if t.recipe == recipe
        else t
        for t in run.trials
    )
    return dataclasses.replace(run, trials=trials)


def test_a_win_that_length_explains_is_said_to_be(loaded: Loaded) -> None:
    run = scored(loaded(FakeRun()), "dpo-beta0.1", win_rate__probe=share(0.6, 0.05))
    run = scored(run, "dpo-beta0.1", win_rate_controlled__probe=share(0.5, 0.05))
    (found,) = [warning for warning in warnings(run) if "length explains" in warning]
    assert "dpo-beta0.1 (60%, at equal length 50%" in found


def test_a_win_that_stays_at_equal_length_is_no_warning(loaded: Loaded) -> None:
    run = scored(loaded(FakeRun()), "dpo-beta0.1", win_rate_controlled__probe=share(0.58, 0.05))
    assert [warning for warning in warnings(run) if "length explains" in warning] == []


def test_a_judge_too_weak_to_correct_is_said_to_be(loaded: Loaded) -> None:
    run = scored(loaded(FakeRun()), "sft", win_rate_corrected__probe=share(0.5, 0.3))
    trial = too_weak(run, run.judges[0])
    assert trial is not None
    assert trial.recipe == "sft"
    (found,) = [warning for warning in warnings(run) if "too weak" in warning]
    assert "the win rate of sft lies anywhere from 20% to 80%" in found


def test_a_good_judge_is_not_too_weak(loaded: Loaded) -> None:
    run = scored(loaded(FakeRun()), "sft", win_rate_corrected__probe=share(0.5, 0.1))
    assert too_weak(run, run.judges[0]) is None


def test_columns_are_those_that_somebody_has(loaded: Loaded) -> None:
    bare = loaded(FakeRun())
    assert corrected_table(bare).rows == ()
    run = scored(bare, "sft", win_rate_controlled__probe=share(0.5, 0.1), win_rate_chosen__probe=share(0.3, 0.1))
    assert "At equal length by probe" in [column.title for column in judged_table(run).columns]
    assert [column.title for column in corrected_table(run).columns] == ["Recipe", "Against chosen by probe"]


def test_a_ranking_has_the_strongest_first_and_the_agreement(loaded: Loaded) -> None:
    def order(judge: str, agreement: float | None, **strengths: float) -> Ranking:
        logits = {n: Score(value=v, low=v - 1, high=v + 1, n=9, unit="logits") for n, v in strengths.items()}
        return Ranking(judge=judge, strengths=logits, agreement=agreement)

    rankings = (order("the data's check", None, anchor=0, sft=0.2, dpo=0.9), order("probe", 0.33, anchor=0, dpo=0.4))
    table = ranking_table(dataclasses.replace(loaded(FakeRun()), rankings=rankings))
    assert [row[0].value for row in table.rows] == ["dpo", "sft", "anchor"]
    assert table.rows[1][2].value == "—"
    assert "The order by probe has a Kendall's τ of 0.33 with that by the data's check." in table.note


def pooled(run: RunRecord) -> RunRecord:
    """As if two seeds of each recipe had been pooled: the first seed's scores stand for both."""
    bench = dataclasses.replace(run.bench, seeds=2)
    return dataclasses.replace(run, bench=bench, recipes=tuple(trial.scores for trial in run.trials))


def test_with_seeds_the_answer_speaks_of_recipes(loaded: Loaded) -> None:
    run = pooled(loaded(FakeRun()))
    assert [trial.recipe for trial in by_recipe(run).trials] == [trial.recipe for trial in run.trials]
    assert "2 seeds of each recipe were trained" in " ".join(answer(run))
    assert "these checkpoints" not in " ".join(answer(run))


def test_the_main_contrast_is_the_best_against_the_next(loaded: Loaded) -> None:
    run = loaded(FakeRun())
    found = main_contrast(run)
    assert found is not None
    assert found.difference >= 0
    assert "anchor" not in (found.a, found.b)
    assert main_contrast(dataclasses.replace(run, trials=(), comparisons=())) is None
