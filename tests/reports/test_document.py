"""report.json keeps its schema, and keeps measured time apart from everything else."""

from __future__ import annotations

import dataclasses
import json

from reports.document import document
from tests.reports.conftest import Loaded
from tests.reports.fake_run import CORE, FakeRun


def test_schema_one_has_its_keys(loaded: Loaded) -> None:
    found = document(loaded(FakeRun()))
    assert found["schema"] == 1
    assert {"bench", "trials", "judge", "judges", "comparisons", "agreements", "answer", "warnings", "timing"} <= set(
        found
    )
    trial = found["trials"][0]
    assert {"recipe", "seed", "scores", "ledger"} <= set(trial)
    assert set(trial["scores"]["reward_accuracy"]) == {"value", "low", "high", "n", "unit"}
    assert set(found["judge"]) == {"name", "accuracy", "robust", "qualified"}
    assert set(found["judge"]["accuracy"]) == {"value", "low", "high", "n"}
    assert set(found["comparisons"][0]) == {
        "a",
        "b",
        "metric",
        "difference",
        "low",
        "high",
        "p",
        "p_holm",
        "n",
        "detectable",
        "seeds",
    }
    assert isinstance(found["answer"], str)


def test_times_and_memory_stand_in_timing_alone(loaded: Loaded) -> None:
    quick = loaded(FakeRun())
    slow = loaded(FakeRun(characters=tuple(dataclasses.replace(c, seconds=c.seconds * 3) for c in CORE)))
    first, second = document(quick), document(slow)
    assert first.pop("timing") != second.pop("timing")
    assert json.dumps(first) == json.dumps(second)


def test_a_judges_speed_stands_in_timing_alone(loaded: Loaded) -> None:
    """Its card says nothing that differs from one day to the next."""
    run = loaded(FakeRun())
    faster = dataclasses.replace(
        run, judges=tuple(dataclasses.replace(c, verdicts_per_second=99.0) for c in run.judges)
    )
    first, second = document(run), document(faster)
    assert (first.pop("timing")["judges"], second.pop("timing")["judges"]) == (
        [{"name": "probe", "verdicts_per_second": 41.3}],
        [{"name": "probe", "verdicts_per_second": 99.0}],
    )
    assert json.dumps(first) == json.dumps(second)


def test_a_run_without_judge_or_trial_has_a_document(loaded: Loaded) -> None:
    found = document(loaded(FakeRun(characters=(), judges=())))
    assert found["judge"] is None
    assert found["trials"] == []
