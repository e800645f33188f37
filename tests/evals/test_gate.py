"""Which rows a gate has, and what each says."""

from __future__ import annotations

import dataclasses
import random

import pytest

from evals.gate import gate
from harness.records import GateReport, GateRule, Standing, StandingTrial

PROMPTS = tuple(f"p{i}" for i in range(200))
CORRECT = GateRule(metric="correct", margin=0.1, better="higher")
KL = GateRule(metric="kl_nats", margin=0.5, better="lower")


def trial(share: float, *, recipe: str = "dpo", seed: int = 0, kl: float = 2.0) -> StandingTrial:
    draw = random.Random(f"{recipe}{seed}{share}")
    return StandingTrial(
        recipe=recipe,
        seed=seed,
        values={
            "correct": tuple(float(draw.random() < share) for _ in PROMPTS),
            "kl_nats": tuple(kl + draw.gauss(0, 1) for _ in PROMPTS),
            "win_rate[probe]": tuple(draw.random() for _ in PROMPTS),
        },
    )


def standing(*trials: StandingTrial, **changes: object) -> Standing:
    plain = Standing(
        model="tiny",
        model_digest="m",
        data="sums",
        template="plain",
        held_out_digest="h",
        pairs_digest="p",
        max_new_tokens=64,
        judges={"probe": "a head"},
        deciding="correct",
        units={"correct": "share", "kl_nats": "nats", "win_rate[probe]": "share"},
        prompts=PROMPTS,
        anchor=("answer",) * len(PROMPTS),
        trials=trials,
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def checked(before: Standing, now: Standing, *rules: GateRule, pairs: dict[str, str] | None = None) -> GateReport:
    return gate(before, now, rules or (CORRECT,), pairs or {"dpo": "dpo"}, 0.95)


def test_a_worse_recipe_is_a_regression() -> None:
    report = checked(standing(trial(0.8)), standing(trial(0.4, seed=1)))
    assert report.verdict == "regression"
    assert report.rows[0].drop == pytest.approx(0.4, abs=0.12)
    assert report.rows[0].n == 200


def test_an_equal_one_passes() -> None:
    assert checked(standing(trial(0.6)), standing(trial(0.6))).verdict == "pass"


def test_lower_is_better_where_the_rule_says_so() -> None:
    before, now = standing(trial(0.5, kl=2)), standing(trial(0.5, kl=4, seed=1))
    assert checked(before, now, KL).verdict == "regression"
    assert checked(now, before, KL).verdict == "pass"


def test_the_gravest_row_decides() -> None:
    """A pass beside a regression is a regression; beside what cannot be told, it cannot be told."""
    before = standing(trial(0.8, kl=2))
    assert checked(before, standing(trial(0.4, seed=1, kl=2)), CORRECT, KL).verdict == "regression"
    missing = GateRule(metric="gold_win_rate", margin=0.1, better="higher")
    assert checked(before, before, CORRECT, missing).verdict == "cannot tell"


def test_a_metric_measured_against_another_anchor_cannot_be_told() -> None:
    other = standing(trial(0.6), anchor=("another",) * len(PROMPTS))
    report = checked(standing(trial(0.6)), other, KL, CORRECT)
    assert [row.verdict for row in report.rows] == ["cannot tell", "pass"]
    assert "anchors differ" in report.rows[0].reason


def test_a_few_answers_of_the_anchor_that_rounding_turned_cost_their_prompts_only() -> None:
    """The same bench on another machine: wins are compared where the anchor said the same."""
    turned = (*("another",) * 10, *("answer",) * (len(PROMPTS) - 10))
    wins = GateRule(metric="win_rate[probe]", margin=0.1, better="higher")
    report = checked(standing(trial(0.6)), standing(trial(0.6), anchor=turned), wins, KL, CORRECT)
    assert [(row.verdict, row.n) for row in report.rows] == [("pass", 190), ("pass", 200), ("pass", 200)]


def test_win_rates_by_a_changed_judge_cannot_be_told() -> None:
    rule = GateRule(metric="win_rate[probe]", margin=0.1, better="higher")
    report = checked(standing(trial(0.6)), standing(trial(0.6), judges={"probe": "another head"}), rule)
    assert report.verdict == "cannot tell"
    assert "another head" in report.rows[0].reason


def test_a_recipe_that_failed_in_this_run_cannot_be_told() -> None:
    report = checked(standing(trial(0.6)), standing(trial(0.6, recipe="sft")))
    assert report.verdict == "cannot tell"
    assert "it failed, or was not measured" in report.rows[0].reason


def test_a_recipe_can_be_checked_against_another() -> None:
    report = checked(standing(trial(0.8)), standing(trial(0.3, recipe="new")), pairs={"new": "dpo"})
    assert (report.rows[0].recipe, report.rows[0].against, report.verdict) == ("new", "dpo", "regression")


def test_rules_reach_the_recipes_that_they_name() -> None:
    both = standing(trial(0.6), trial(0.6, recipe="sft"))
    rule = dataclasses.replace(CORRECT, recipes=("s*",))
    assert [row.recipe for row in checked(both, both, rule, pairs={"dpo": "dpo", "sft": "sft"}).rows] == ["sft"]


def test_only_prompts_with_a_value_on_both_sides_count() -> None:
    holed = trial(0.6)
    values = {**holed.values, "correct": (None, *holed.values["correct"][1:])}
    report = checked(standing(trial(0.6)), standing(dataclasses.replace(holed, values=values)))
    assert report.rows[0].n == 199


def test_a_judge_that_stopped_answering_does_not_turn_the_gate_green() -> None:
    """Two prompts that are left, both as before, say nothing of the rest."""
    silent = trial(0.6)
    values = {**silent.values, "correct": (*silent.values["correct"][:2], *(None,) * (len(PROMPTS) - 2))}
    report = checked(standing(trial(0.6)), standing(dataclasses.replace(silent, values=values)))
    assert report.verdict == "cannot tell"
    assert "only 2 of the baseline's 200 prompts" in report.rows[0].reason


def test_rewards_on_other_pairs_cannot_be_told() -> None:
    rule = dataclasses.replace(CORRECT, metric="reward_accuracy")
    one = dataclasses.replace(trial(0.6), values={"reward_accuracy": (0.5,) * len(PROMPTS)})
    report = checked(standing(one), standing(one, pairs_digest="q"), rule)
    assert "labelled pairs differ" in report.rows[0].reason


def test_pairs_of_the_same_lengths_are_told_apart_by_their_texts() -> None:
    """Where both have a digest of them: a baseline from before that is read as ever."""
    rule = dataclasses.replace(CORRECT, metric="reward_accuracy")
    one = dataclasses.replace(trial(0.6), values={"reward_accuracy": (0.5,) * len(PROMPTS)})
    old, new, other = (standing(one, labelled_digest=digest) for digest in ("", "a", "b"))
    assert "labelled pairs differ" in checked(new, other, rule).rows[0].reason
    assert not checked(old, new, rule).rows[0].reason


def test_anchors_that_answered_nothing_in_common_are_not_alike() -> None:
    report = checked(standing(trial(0.6)), standing(trial(0.6), anchor=(None,) * len(PROMPTS)), KL)
    assert report.verdict == "cannot tell"


def test_seeds_are_averaged_and_counted() -> None:
    before = standing(trial(0.6), trial(0.6, seed=1))
    report = checked(before, standing(trial(0.6, seed=2), trial(0.6, seed=3), trial(0.6, seed=4)))
    assert report.rows[0].seeds == (2, 3)


def test_more_rows_make_each_interval_wider() -> None:
    """They hold for all rows at once."""
    before, now = standing(trial(0.6)), standing(trial(0.5, seed=1))
    one, two = checked(before, now), checked(before, now, CORRECT, KL)
    assert two.rows[0].high is not None
    assert one.rows[0].high is not None
    assert two.rows[0].high > one.rows[0].high


def test_what_cannot_be_told_says_how_many_prompts_it_takes() -> None:
    few = tuple(PROMPTS[:20])
    short = [
        dataclasses.replace(t, values={"correct": t.values["correct"][:20]}) for t in (trial(0.6), trial(0.6, seed=1))
    ]
    report = checked(*(standing(one, prompts=few, anchor=("answer",) * 20) for one in short))
    assert report.verdict == "cannot tell"
    assert (report.rows[0].needed or 0) > 100
