"""The tables of what was spent: FLOPs, data, time and memory."""

from __future__ import annotations

from collections.abc import Callable

from harness.records import RunRecord, StageLedger, TrialRecord
from reports.numbers import MISSING, Cell, count_cell, flops_cell, memory, rate_cell, seconds
from reports.page import Table, table
from reports.text import one_line
from reports.trials import display_name


def cost_table(run: RunRecord) -> Table:
    """What each trial was charged, as if it had run alone."""
    rows = tuple((Cell(display_name(run, trial)), *_cost(trial)) for trial in run.trials)
    titles = (
        "Recipe",
        "Spent",
        "Policy",
        "Reference",
        "Updates",
        "Refreshes",
        "Steps",
        "Pairs",
        "Epochs",
        "Tokens",
    )
    note = "Every trial is charged as if it had run alone; “shared” is what was computed once for several."
    return table("What was spent", (*titles, "Reference lag, steps", "Shared"), rows, note=note)


def _cost(trial: TrialRecord) -> tuple[Cell, ...]:
    stages = trial.ledger.stages
    kinds: tuple[Callable[[StageLedger], float], ...] = (
        lambda stage: stage.policy_flops,
        lambda stage: stage.reference_flops,
        lambda stage: stage.update_flops,
        lambda stage: stage.refresh_flops,
    )
    lags = [stage.reference_lag_steps for stage in stages if stage.reference_lag_steps is not None]
    return (
        flops_cell(trial.ledger.flops, strong=True),
        *(flops_cell(sum(kind(stage) for stage in stages)) for kind in kinds),
        count_cell(sum(stage.steps for stage in stages)),
        count_cell(sum(stage.pairs for stage in stages)),
        Cell(f"{sum(stage.epochs for stage in stages):.2f}"),
        count_cell(sum(stage.tokens for stage in stages)),
        Cell(f"{lags[-1]:.1f}" if lags else MISSING),
        flops_cell(trial.ledger.shared_flops),
    )


def time_table(run: RunRecord) -> Table:
    """Measured on this machine, on this day: with the next, the tables that a repeated run changes."""
    rows = tuple((Cell(display_name(run, trial)), *_time(trial)) for trial in run.trials)
    titles = ("Recipe", "Device time", "Of it shared", "Peak memory")
    return table("Time and memory", titles, rows, note="Measured, so different at every run.")


def _time(trial: TrialRecord) -> tuple[Cell, ...]:
    peak = max((stage.peak_memory_bytes for stage in trial.ledger.stages), default=0)
    return (
        *(Cell(seconds(s), order=s) for s in (trial.ledger.device_seconds, trial.ledger.shared_seconds)),
        Cell(memory(peak), order=peak),
    )


def judging_table(run: RunRecord) -> Table:
    """How fast each judge gave its verdicts, likewise."""
    rows = tuple((Cell(one_line(card.name, 60)), rate_cell(card.verdicts_per_second)) for card in run.judges)
    return table("Speed of the judges", ("Judge", "Verdicts, both orders"), rows, note="Measured, past any cache.")


def stage_table(run: RunRecord) -> Table:
    """Stage by stage: objective, reference, spending, and the digest of the checkpoint it made."""
    rows = tuple(
        (
            Cell(display_name(run, trial)),
            Cell(stage.objective),
            Cell(stage.reference),
            flops_cell(stage.flops),
            count_cell(stage.steps),
            count_cell(stage.pairs),
            Cell(stage.digest[:12]),
        )
        for trial in run.trials
        for stage in trial.ledger.stages
    )
    titles = ("Recipe", "Objective", "Reference", "Spent", "Steps", "Pairs", "Checkpoint")
    note = "Stages with the same checkpoint were trained once."
    return table("Stage by stage", titles, rows, note=note, folded=True)
