"""Each thing that should make a reader doubt a number has its sentence, and nothing else has one."""

from __future__ import annotations

import dataclasses

import pytest

from reports.cautions import warnings
from reports.timing import timing_notes
from tests.reports.conftest import Loaded
from tests.reports.fake_run import CORE, Character, FakeRun

MODEL_NOTE = "smollm2-135m is a 4-bit export of an instruct-tuned model"


def test_a_sound_run_warns_of_the_model_alone(loaded: Loaded) -> None:
    found = warnings(loaded(FakeRun()))
    assert [warning.partition(":")[0] for warning in found] == [MODEL_NOTE]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"chosen_shift": -2.0}, "Likelihood displacement"),
        ({"repetition": 0.5}, "repeats itself: 50%"),
        ({"judged": 0.99}, "Judge probe and the data's own check disagree on the win rates: dpo-beta0.1"),
    ],
)
def test_a_trial_with_a_flaw_is_named_with_it(loaded: Loaded, change: dict[str, float], words: str) -> None:
    flawed = dataclasses.replace(CORE[2], **change)
    found = [w for w in warnings(loaded(FakeRun(characters=(CORE[0], flawed)))) if words in w]
    assert len(found) == 1
    assert "dpo-beta0.1" in found[0]


def test_trials_with_the_same_flaw_share_one_sentence(loaded: Loaded) -> None:
    flawed = tuple(dataclasses.replace(character, chosen_shift=-2.0) for character in CORE[1:4])
    (found,) = [w for w in warnings(loaded(FakeRun(characters=(CORE[0], *flawed)))) if "displacement" in w]
    assert all(character.recipe in found for character in flawed)


def test_trials_that_win_by_the_same_signs_share_them(loaded: Loaded) -> None:
    longer = tuple(dataclasses.replace(c, length_ratio=1.5, correct_change=0.0) for c in CORE[1:4])
    (found,) = [w for w in warnings(loaded(FakeRun(characters=(CORE[0], *longer)))) if "style" in w]
    assert found.count("longer responses") == 1
    assert all(f"{character.recipe} (" in found for character in longer)


def test_an_unqualified_judge_is_named_with_its_reasons(loaded: Loaded) -> None:
    found = " ".join(warnings(loaded(FakeRun(qualified=False))))
    assert "Judge probe is not qualified, so its win rates decide nothing: a constant response" in found


def test_failed_and_unfinished_trials_are_named_with_the_reason(loaded: Loaded) -> None:
    run = loaded(FakeRun(failed={"x@1": "loss is not finite"}, unfinished=("y@1",)))
    assert warnings(run)[0] == "x@1 failed and is left out: loss is not finite"
    assert warnings(run)[1].startswith("y@1 is not finished and is left out")


def test_unscored_verdicts_are_counted(loaded: Loaded) -> None:
    run = loaded(FakeRun(characters=CORE[:1]))
    trial = run.trials[0]
    lost = dataclasses.replace(trial.verdicts[0], p_first=None, problem="reply was 'maybe'")
    trial = dataclasses.replace(trial, verdicts=(lost, *trial.verdicts[1:]))
    found = " ".join(warnings(dataclasses.replace(run, trials=(trial,))))
    assert "no readable verdict on 1 of 128 prompts (the first: reply was 'maybe')" in found


def test_a_budget_in_pairs_that_spends_unequal_flops_is_said(loaded: Loaded) -> None:
    assert "The budget is counted in pairs" in " ".join(warnings(loaded(FakeRun(budget_pairs=800))))


def test_uneven_device_time_is_a_note_on_time_and_no_warning(loaded: Loaded) -> None:
    slow = dataclasses.replace(CORE[2], seconds=60.0)
    run = loaded(FakeRun(characters=(CORE[0], slow)))
    assert "against sft's 50.0 s" in timing_notes(run)[0]
    assert "dpo-beta0.1 took 60.0 s (20% more, at " in timing_notes(run)[0]
    assert "took" not in " ".join(warnings(run))


def test_every_trial_that_took_longer_is_named(loaded: Loaded) -> None:
    slow = tuple(dataclasses.replace(c, seconds=60.0 + i) for i, c in enumerate(CORE[2:4]))
    (note,) = timing_notes(loaded(FakeRun(characters=(CORE[0], *slow))))
    assert all(character.recipe in note for character in slow)


def test_times_on_different_budgets_are_not_held_against_one_another(loaded: Loaded) -> None:
    """Trials of joined runs may have had more to spend."""
    run = loaded(FakeRun(characters=(CORE[0], dataclasses.replace(CORE[2], seconds=90.0))))
    first, second = run.trials
    dearer = dataclasses.replace(second, ledger=dataclasses.replace(second.ledger, budget_flops=120e12))
    assert timing_notes(run)
    assert timing_notes(dataclasses.replace(run, trials=(first, dearer))) == ()


@pytest.mark.parametrize(("character", "moves"), [(CORE[5], True), (CORE[2], False)])
def test_a_moving_reference_is_a_cause_only_where_there_is_one(
    loaded: Loaded, character: Character, moves: bool
) -> None:
    slow = dataclasses.replace(character, seconds=60.0)
    (note,) = timing_notes(loaded(FakeRun(characters=(CORE[0], slow))))
    assert (f"{slow.recipe} reads a moving reference live" in note) is moves


def test_few_steps_are_said(loaded: Loaded) -> None:
    run = loaded(FakeRun(characters=CORE[:1]))
    stage = dataclasses.replace(run.trials[0].ledger.stages[-1], steps=5, pairs=74)
    ledger = dataclasses.replace(run.trials[0].ledger, stages=(stage,))
    short = dataclasses.replace(run, trials=(dataclasses.replace(run.trials[0], ledger=ledger),))
    assert "last stages took 5 steps on 74 of 1,540 training pairs" in " ".join(warnings(short))
    assert "Few steps" not in " ".join(warnings(run))


def test_even_device_time_needs_no_note(loaded: Loaded) -> None:
    assert timing_notes(loaded(FakeRun())) == ()
