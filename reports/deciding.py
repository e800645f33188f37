"""Which metric the answer rests on: the data's truth, else a qualified judge, else reward accuracy."""

from __future__ import annotations

from dataclasses import dataclass

from harness.records import JudgeCard, RunRecord, Score, TrialRecord, win_rate_by
from reports.trials import score


@dataclass(frozen=True, kw_only=True)
class Deciding:
    """The metric that ranks the trials, and the judge behind it where there is one."""

    metric: str
    judge: JudgeCard | None = None

    @property
    def by_truth(self) -> bool:
        return self.metric == "gold_win_rate"

    @property
    def by_win_rate(self) -> bool:
        return self.by_truth or self.judge is not None


def deciding(run: RunRecord) -> Deciding:
    """Gold where every trial has it, else the first qualified judge, else reward accuracy."""
    if _everywhere(run, "gold_win_rate"):
        return Deciding(metric="gold_win_rate")
    for card in run.judges:
        if card.qualified and _everywhere(run, win_rate_by(card.name)):
            return Deciding(metric=win_rate_by(card.name), judge=card)
    return Deciding(metric="reward_accuracy")


def first_judge(run: RunRecord) -> JudgeCard | None:
    """The judge that report.json shows first: the first qualified one, else the first asked for."""
    qualified = (card for card in run.judges if card.qualified)
    return next(qualified, run.judges[0] if run.judges else None)


def ranked(run: RunRecord, metric: str) -> tuple[tuple[TrialRecord, Score], ...]:
    """Trials that have this metric, the highest first; equal ones keep the order of the recipes."""
    scored = [(trial, s) for trial in run.trials if (s := score(trial, metric)) is not None]
    return tuple(sorted(scored, key=lambda pair: -pair[1].value))


def best_first(run: RunRecord, metric: str) -> tuple[TrialRecord, ...]:
    """All trials, those without this metric last."""
    standing = tuple(trial for trial, _ in ranked(run, metric))
    return (*standing, *(trial for trial in run.trials if trial not in standing))


def _everywhere(run: RunRecord, metric: str) -> bool:
    return bool(run.trials) and all(score(trial, metric) is not None for trial in run.trials)
