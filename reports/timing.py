"""All that is measured in seconds or bytes: apart, so that the rest is equal when a run is repeated."""

from __future__ import annotations

from typing import Any

from harness.records import RunRecord, TrialRecord
from reports.numbers import flops, percent, seconds
from reports.text import listed
from reports.trials import display_name

# At equal FLOPs a trial may still run longer: a moving reference is memory-bound, a machine is shared.
UNEVEN = 1.1


def timing_notes(run: RunRecord) -> tuple[str, ...]:
    """Says which trials took over 10% longer than the fastest, at which rates, and what the ledger shows of why."""
    timed = sorted(
        (trial for trial in run.trials if trial.ledger.device_seconds > 0),
        key=lambda trial: trial.ledger.device_seconds,
    )
    if len({trial.ledger.budget_flops for trial in timed}) > 1:  # joined runs: more time was what they asked for
        return ()
    slow = [t for t in timed if t.ledger.device_seconds > UNEVEN * timed[0].ledger.device_seconds]
    if not slow:
        return ()
    fast = timed[0]
    took = listed([_took(run, trial, fast) for trial in slow])
    fastest = f"{display_name(run, fast)}'s {seconds(fast.ledger.device_seconds)} at {_rate(fast)}"
    moving = [display_name(run, trial) for trial in slow if _reads_live(trial)]
    live = f" {listed(moving)} {'read' if len(moving) > 1 else 'reads'} a moving reference live." if moving else ""
    return (
        f"Device time differs at the same budget, against {fastest}: {took}.{live} The budget is counted in work "
        "done, so a slow stage or a busy machine changes these seconds, not the comparison.",
    )


def _took(run: RunRecord, trial: TrialRecord, fast: TrialRecord) -> str:
    more = percent(trial.ledger.device_seconds / fast.ledger.device_seconds - 1)
    took = seconds(trial.ledger.device_seconds)
    return f"{display_name(run, trial)} took {took} ({more}% more, at {_rate(trial)})"


def _rate(trial: TrialRecord) -> str:
    """FLOPs a second, stage by stage."""
    stages = [s for s in trial.ledger.stages if s.device_seconds > 0]
    return " and ".join(f"{flops(s.flops / s.device_seconds)} a second in {s.objective}" for s in stages)


def _reads_live(trial: TrialRecord) -> bool:
    return any(stage.reference in ("soft", "hard") for stage in trial.ledger.stages)


def timing(run: RunRecord) -> dict[str, Any]:
    """The part of report.json that differs when the same run is repeated."""
    return {
        "flops_per_second": run.bench.flops_per_second,
        "notes": list(timing_notes(run)),
        "trials": [_trial(trial) for trial in run.trials],
        "judges": [{"name": card.name, "verdicts_per_second": card.verdicts_per_second} for card in run.judges],
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
