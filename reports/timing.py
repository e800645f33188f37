"""All that is measured in seconds or bytes: apart, so that the rest is equal when a run is repeated."""

from __future__ import annotations

from typing import Any

from harness.records import RunRecord, StageLedger, TrialRecord
from reports.numbers import flops, percent, seconds
from reports.text import counted, listed
from reports.trials import display_name

# At equal FLOPs a trial may still run longer: a moving reference is memory-bound, a machine is shared.
UNEVEN = 1.1


def timing_notes(run: RunRecord) -> tuple[str, ...]:
    """Says so where device seconds differ by over 10% between trials."""
    timed = sorted(
        (trial for trial in run.trials if trial.ledger.device_seconds > 0),
        key=lambda trial: trial.ledger.device_seconds,
    )
    if not timed:
        return ()
    fast, slow = timed[0], timed[-1]
    ratio = slow.ledger.device_seconds / fast.ledger.device_seconds
    if ratio <= UNEVEN:
        return ()
    return (
        f"Device time differs between trials at the same budget: {_took(run, slow)}, {_took(run, fast)} "
        f"({percent(ratio - 1)}% more). {_why(slow, fast)} The budget is counted in work done, so a slow stage or a "
        "busy machine changes these seconds, not the comparison.",
    )


def _why(slow: TrialRecord, fast: TrialRecord) -> str:
    """The slower trial's stages by the FLOPs that they did in a second, beside the faster trial's."""
    mine, theirs = (listed([_rate(stage) for stage in trial.ledger.stages]) for trial in (slow, fast))
    return (
        f"It did {mine}, against {theirs}: every stage begins slowly, on memory not touched before, which weighs more "
        "the fewer its steps, and a moving reference is read live and refreshed."
    )


def _rate(stage: StageLedger) -> str:
    rate = flops(stage.flops / stage.device_seconds) if stage.device_seconds > 0 else "none"
    return f"{rate} a second in its {stage.objective} stage of {counted(stage.steps, 'step')}"


def _took(run: RunRecord, trial: TrialRecord) -> str:
    return f"{display_name(run, trial)} took {seconds(trial.ledger.device_seconds)}"


def timing(run: RunRecord) -> dict[str, Any]:
    """The part of report.json that differs when the same run is repeated."""
    return {
        "flops_per_second": run.bench.flops_per_second,
        "notes": list(timing_notes(run)),
        "trials": [_trial(trial) for trial in run.trials],
    }


def _trial(trial: TrialRecord) -> dict[str, Any]:
    stages = trial.ledger.stages
    return {
        "recipe": trial.recipe,
        "seed": trial.seed,
        "device_seconds": trial.ledger.device_seconds,
        "shared_seconds": trial.ledger.shared_seconds,
        "peak_memory_bytes": max((stage.peak_memory_bytes for stage in stages), default=0),
        "stages": [
            {"device_seconds": stage.device_seconds, "peak_memory_bytes": stage.peak_memory_bytes} for stage in stages
        ],
    }
