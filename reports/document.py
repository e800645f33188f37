"""report.json, for programs: schema 1. `timing` alone differs when the same run is repeated."""

from __future__ import annotations

import dataclasses
from typing import Any

from harness.plain import visible
from harness.records import SCHEMA, BenchRecord, JudgeCard, Ledger, RunRecord, TrialRecord, TrialScores
from reports.cautions import warnings
from reports.deciding import deciding, first_judge
from reports.summary import answer
from reports.timing import timing

_TIMED = {"device_seconds", "shared_seconds", "peak_memory_bytes", "flops_per_second", "verdicts_per_second"}


def document(run: RunRecord) -> dict[str, Any]:
    """Plain data, ready for JSON."""
    judge = first_judge(run)
    return {
        "schema": SCHEMA,
        "bench": _bench(run.bench),
        "answer": " ".join(answer(run)),
        "warnings": list(warnings(run)),
        "deciding_metric": deciding(run).metric,
        "trials": [_trial(trial) for trial in run.trials],
        "judge": _judge(judge) if judge else None,
        "judges": [_card(card) for card in run.judges],
        "agreements": [dataclasses.asdict(agreement) for agreement in run.agreements],
        "recipes": [_pooled(scores) for scores in run.recipes],
        "rankings": [dataclasses.asdict(ranking) for ranking in run.rankings],
        "paths": [dataclasses.asdict(path) for path in run.paths],
        "comparisons": [dataclasses.asdict(comparison) for comparison in run.comparisons],
        "timing": timing(run),
    }


def _bench(bench: BenchRecord) -> dict[str, Any]:
    return _untimed(dataclasses.asdict(bench))


def _trial(trial: TrialRecord) -> dict[str, Any]:
    return {
        "recipe": trial.recipe,
        "seed": trial.seed,
        "scores": {name: dataclasses.asdict(score) for name, score in sorted(trial.scores.scores.items())},
        "commonest_opening": visible(trial.scores.commonest_opening),
        "ledger": _ledger(trial.ledger),
    }


def _pooled(scores: TrialScores) -> dict[str, Any]:
    """A recipe with all its seeds."""
    found = {name: dataclasses.asdict(score) for name, score in sorted(scores.scores.items())}
    return {"recipe": scores.recipe, "scores": found}


def _ledger(ledger: Ledger) -> dict[str, Any]:
    stages = [_untimed({**dataclasses.asdict(stage), "flops": stage.flops}) for stage in ledger.stages]
    return {**_untimed(dataclasses.asdict(ledger)), "flops": ledger.flops, "stages": stages}


def _untimed(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in _TIMED}


def _judge(card: JudgeCard) -> dict[str, Any]:
    accuracy = card.accuracy
    return {
        "name": card.name,
        "accuracy": {"value": accuracy.value, "low": accuracy.low, "high": accuracy.high, "n": accuracy.n},
        "robust": card.robust,
        "qualified": card.qualified,
    }


def _card(card: JudgeCard) -> dict[str, Any]:
    return {**_untimed(dataclasses.asdict(card)), "qualified": card.qualified}
