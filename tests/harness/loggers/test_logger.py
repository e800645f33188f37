"""The names that numbers go by."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from harness.loggers.logger import facts, figures, readings
from harness.records import BenchRecord, Score, TrainStep, TrialScores
from harness.store import read_json
from tests.reports.fake_run import write_run

SFT = TrainStep(stage=0, step=3, spent=0.5, loss=2.0, grad_norm=1.0, learning_rate=1e-4, num_tokens=512)
DPO = dataclasses.replace(SFT, stage=1, rewards_margins=0.25, rewards_accuracies=0.75, logps_chosen=-30.0)


def test_a_steps_readings_are_in_trls_spelling() -> None:
    """A dashboard made for TRL finds them; what a stage has not is left out."""
    assert readings(DPO) == {
        "stage1/loss": 2.0,
        "stage1/grad_norm": 1.0,
        "stage1/learning_rate": 1e-4,
        "stage1/num_tokens": 512.0,
        "stage1/spent": 0.5,
        "stage1/rewards/margins": 0.25,
        "stage1/rewards/accuracies": 0.75,
        "stage1/logps/chosen": -30.0,
    }
    assert not any("rewards" in name for name in readings(SFT))


def test_a_score_brings_its_interval() -> None:
    """No number without how sure it is."""
    score = Score(value=0.6, low=0.5, high=0.7, n=40, unit="share")
    scores = TrialScores(
        recipe="sft",
        seed=0,
        scores={"win_rate[probe]": score},
        per_prompt={},
        commonest_opening="",
        anchor_opening_share=0.0,
    )
    name = "scores/win_rate[probe]"
    assert figures(scores) == {name: 0.6, f"{name}/low": 0.5, f"{name}/high": 0.7, f"{name}/n": 40.0}


def test_a_trials_facts_say_what_it_was_made_with(tmp_path: Path) -> None:
    """The bench's digest, the recipe's knobs and the seed; the anchor has no seed of its own."""
    bench = read_json(write_run(tmp_path / "run") / "record.json", BenchRecord)
    bench = dataclasses.replace(bench, recipe_knobs={"dpo-beta0.1": {"beta": "0.1"}})
    found = facts(bench, "dpo-beta0.1@3")
    assert (found["digest"], found["recipe"], found["seed"], found["knob/beta"]) == (
        bench.digest,
        "dpo-beta0.1",
        3,
        "0.1",
    )
    assert "seed" not in facts(bench, "anchor")
