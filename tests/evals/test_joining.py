"""Several runs become one where their trials can be compared, and are refused with the reason where not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evals.comparison import compare_trials
from evals.joining import join
from harness.errors import HarnessError
from harness.records import RunRecord, TrialRecord, win_rate_by
from reports.load import load_run
from tests.reports.fake_run import CORE, FakeRun, write_run

SFT, SHARP, SOFT = CORE[0], CORE[1], CORE[5]
Make = Callable[..., RunRecord]
Change = Callable[[RunRecord], RunRecord]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes a small fake run of these characters and reads it back."""

    def made(*characters: Any, **settings: Any) -> RunRecord:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        return load_run(write_run(folder, FakeRun(characters=characters, prompts=12, **settings)))

    return made


def joined(**runs: RunRecord) -> RunRecord:
    return join(runs, "the command")


def names(run: RunRecord) -> list[str]:
    return [trial.recipe for trial in run.trials]


def bench(run: RunRecord, **changes: Any) -> RunRecord:
    return dataclasses.replace(run, bench=dataclasses.replace(run.bench, **changes))


def trials(run: RunRecord, change: Callable[[TrialRecord], TrialRecord]) -> RunRecord:
    return dataclasses.replace(run, trials=tuple(map(change, run.trials)))


def retrained(trial: TrialRecord) -> TrialRecord:
    """The same recipe and seed, another checkpoint."""
    last = dataclasses.replace(trial.ledger.stages[-1], digest="f" * 64)
    ledger = dataclasses.replace(trial.ledger, stages=(*trial.ledger.stages[:-1], last))
    return dataclasses.replace(trial, ledger=ledger)


def test_every_trial_of_every_run_is_there_in_the_order_of_the_runs(make: Make) -> None:
    assert names(joined(a=make(SOFT, SFT), b=make(SHARP))) == [SOFT.recipe, SFT.recipe, SHARP.recipe]


def test_what_is_compared_is_what_one_run_of_all_would_compare(make: Make) -> None:
    """Holm's correction is over the pairs of all runs, not of each."""
    apart, whole = joined(a=make(SFT), b=make(SHARP, SOFT)), make(SFT, SHARP, SOFT)
    assert list(apart.comparisons) == compare_trials(["probe"], {t.recipe: t.scores for t in whole.trials})
    assert {c.a for c in apart.comparisons} | {c.b for c in apart.comparisons} == {*names(whole), "anchor"}


def test_the_same_trial_in_two_runs_counts_once(make: Make) -> None:
    assert names(joined(a=make(SFT, SHARP), b=make(SFT, SOFT))) == [SFT.recipe, SHARP.recipe, SOFT.recipe]


def test_another_checkpoint_of_the_same_recipe_is_kept_under_its_runs_name(make: Make) -> None:
    """In both runs, so that neither passes for the real one; comparisons use the same names."""
    both = joined(a=make(SFT, SHARP), b=trials(make(SFT), retrained))
    assert names(both) == ["sft (a)", "sft (b)", SHARP.recipe]
    assert {"sft (a)", "sft (b)"} <= {c.a for c in both.comparisons}
    assert both.bench.recipe_summaries["sft (b)"] == "what sft does"


def test_the_same_checkpoint_with_another_score_is_kept_too(make: Make) -> None:
    """Measured by other code, say: neither number is thrown away in silence."""

    def measured(trial: TrialRecord) -> TrialRecord:
        return dataclasses.replace(trial, scores=dataclasses.replace(trial.scores, per_prompt={"kl_nats": {"p": 9.0}}))

    def known(trial: TrialRecord) -> TrialRecord:
        return dataclasses.replace(trial, scores=dataclasses.replace(trial.scores, per_prompt={"kl_nats": {"p": 8.0}}))

    assert names(joined(a=trials(make(SFT), known), b=trials(make(SFT), measured))) == ["sft (a)", "sft (b)"]


def test_all_seeds_of_a_recipe_that_differs_are_called_by_their_run(make: Make) -> None:
    second = trials(make(SFT), lambda trial: dataclasses.replace(trial, seed=2))
    with_two = dataclasses.replace(second, trials=(*map(retrained, make(SFT).trials), *second.trials))
    both = joined(a=make(SFT), b=with_two)
    assert [trial.name for trial in both.trials] == ["sft (a)@1", "sft (b)@1", "sft (b)@2"]


def test_runs_of_one_seed_each_are_told_apart_by_their_seeds(make: Make) -> None:
    """A run again with another seed is another trial of the recipe, and both together are the recipe."""
    other = trials(make(SFT), lambda trial: dataclasses.replace(trial, seed=7))
    both = joined(a=make(SFT), b=other)
    assert both.bench.seeds == 2
    assert [trial.name for trial in both.trials] == ["sft@1", "sft@7"]
    assert {(c.a, c.b, c.seeds) for c in both.comparisons if "anchor" in (c.a, c.b)} == {("sft", "anchor", 2)}
    assert [recipe.recipe for recipe in both.recipes] == ["sft"]


def test_a_judge_asked_in_one_run_only_adds_its_verdicts_to_the_trial(make: Make) -> None:
    gold = make(dataclasses.replace(SFT, gold=None), judges=("rule:length",))
    both = joined(a=make(dataclasses.replace(SFT, gold=None)), b=gold)
    (trial,) = both.trials
    assert [card.name for card in both.judges] == ["probe", "rule:length"] == list(both.bench.judges)
    assert {verdict.judge for verdict in trial.verdicts} == {"probe", "rule:length"}
    assert {win_rate_by("probe"), win_rate_by("rule:length")} <= trial.scores.per_prompt.keys()


def test_a_trial_that_a_judge_did_not_score_lacks_that_score(make: Make) -> None:
    both = joined(
        a=make(dataclasses.replace(SFT, gold=None)), b=make(dataclasses.replace(SOFT, gold=None), judges=("rule:gold",))
    )
    assert [win_rate_by("rule:gold") in trial.scores.scores for trial in both.trials] == [False, True]


def test_a_failure_is_told_with_its_run(make: Make) -> None:
    both = joined(a=make(SFT), b=make(SHARP, failed={"sft@1": "out of memory"}))
    assert both.bench.failed == {"sft@1 (b)": "out of memory"}


def test_what_another_run_finished_is_not_called_unfinished(make: Make) -> None:
    both = joined(a=make(SFT), b=make(SHARP, unfinished=("sft@1", "ipo@1")))
    assert both.unfinished == ("ipo@1 (b)",)


def test_the_runs_are_named_with_their_digests(make: Make) -> None:
    both = joined(a=make(SFT, SOFT), b=make(SHARP))
    assert [(run.name, run.trials, run.digest) for run in both.bench.runs] == [
        ("a", 2, "c0ffee00" * 8),
        ("b", 1, "c0ffee00" * 8),
    ]
    assert both.bench.command == "the command"


def other_texts(run: RunRecord) -> RunRecord:
    first, *rest = run.anchor_completions
    return dataclasses.replace(run, anchor_completions=(dataclasses.replace(first, text="Other."), *rest))


def other_question(run: RunRecord) -> RunRecord:
    first, *rest = run.prompts
    return dataclasses.replace(run, prompts=(dataclasses.replace(first, question="Why?"), *rest))


def other_card(run: RunRecord) -> RunRecord:
    return dataclasses.replace(run, judges=(dataclasses.replace(run.judges[0], description="fitted otherwise"),))


OTHERWISE: dict[str, tuple[Change, list[str]]] = {
    "model": (lambda r: bench(r, model_digest="abcdef0123456789"), ["b179c9523d0e)", "(abcdef012345)", "--model"]),
    "data": (lambda r: bench(r, data_digest="abcdef0123456789"), ["7d0f7d0f7d0f)", "(abcdef012345)", "--data"]),
    "columns": (
        lambda r: bench(r, columns="chosen=accepted"),
        ["by their own names and chosen=accepted", "--columns"],
    ),
    "template": (lambda r: bench(r, template="chat"), ["alpaca and chat", "--template"]),
    "count": (lambda r: bench(r, eval_prompts=64), ["12 and 64", "--eval-prompts"]),
    "prompts": (other_question, ["1 of the first's 12", "held-out prompts"]),
    "limit": (lambda r: bench(r, max_new_tokens=32), ["64 tokens and 32 tokens", "--max-new-tokens"]),
    "anchor": (other_texts, ["1 of 12 prompts", "the same budget, 60TFLOP", "bench.toml"]),
    "budget": (
        lambda r: bench(other_texts(r), budget="7TFLOP"),
        ["60TFLOP and 7TFLOP", "another budget trains another anchor", "--budget"],
    ),
    "judge": (other_card, ["judge 'probe'", "Bradley-Terry", "“fitted otherwise”", "--judge"]),
}


@pytest.mark.parametrize("what", OTHERWISE)
def test_runs_that_cannot_be_compared_are_refused_in_one_line(make: Make, what: str) -> None:
    """The two runs, both values, and what to do."""
    change, words = OTHERWISE[what]
    known: dict[str, Any] = {"max_new_tokens": 64, "flops_per_second": None}
    good = bench(make(SFT), **known)
    with pytest.raises(HarnessError) as refusal:
        joined(a=good, b=good, c=change(bench(make(SHARP), **known)))
    line = str(refusal.value)
    assert "\n" not in line
    assert all(word in line for word in ["a and c cannot make one report", *words])


def test_records_from_before_the_length_limit_was_kept_still_join(make: Make) -> None:
    assert names(joined(a=make(SFT), b=bench(make(SHARP), max_new_tokens=64))) == [SFT.recipe, SHARP.recipe]


def test_another_dtype_is_a_caution(make: Make) -> None:
    both = joined(a=bench(make(SFT), dtype="float32"), b=bench(make(SHARP), dtype="bfloat16"))
    (note,) = both.bench.run_notes
    assert "a: float32, b: bfloat16" in note


def test_another_budget_from_the_same_anchor_is_a_caution(make: Make) -> None:
    """And neither is passed off as the budget of all."""
    both = joined(a=make(SFT), b=bench(make(SHARP), budget="7TFLOP", budget_flops=7e12))
    (note,) = both.bench.run_notes
    assert "a: 60TFLOP" in note
    assert "b: 7TFLOP" in note
    assert both.bench.budget_flops is None


def test_another_measurement_of_the_same_judge_is_a_caution(make: Make) -> None:
    other = make(SHARP)
    card = dataclasses.replace(other.judges[0], unscored=3)
    (note,) = joined(a=make(SFT), b=dataclasses.replace(other, judges=(card,))).bench.run_notes
    assert "probe was measured otherwise in b than in a" in note


def test_runs_alike_in_all_need_no_caution(make: Make) -> None:
    assert joined(a=make(SFT), b=make(SHARP)).bench.run_notes == ()


def test_unlike_trials_of_one_name_in_one_run_are_refused(make: Make) -> None:
    """No name would tell them apart."""
    run = make(SFT)
    with pytest.raises(HarnessError, match=r"sft \(a\)@1 lies twice"):
        joined(a=dataclasses.replace(run, trials=(*run.trials, *map(retrained, run.trials))))
