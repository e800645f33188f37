"""Wins that style explains: a high win rate that comes with longer, uniform or no more correct responses."""

from __future__ import annotations

from dataclasses import dataclass

from harness.records import JudgeCard, RunRecord, Score, TrialRecord, win_rate_by
from reports.numbers import change_cell, percent, phrase
from reports.text import listed, one_line
from reports.trials import score

# Judges and people prefer longer answers of equal worth; a quarter longer is about where published win rates
# start to move by more than the intervals of a run of this size.
LONGER = 1.25
# Greedy answers to varied prompts rarely share four opening tokens ("The capital of France" is half of one):
# three in ten, and twice as often as the anchor, is a habit that training put there.
SAME_OPENING = 0.3
NEW_OPENING = 2.0


@dataclass(frozen=True, kw_only=True)
class HollowWin:
    """A trial that wins, with the signs that it wins by style."""

    trial: TrialRecord
    metric: str  # of the win
    win: Score
    longer: Score | None  # length ratio, where it is a sign
    opening: Score | None  # opening concentration, where it is a sign
    correct_change: Score | None  # None where the data has no checker
    judge: JudgeCard | None = None  # who says so; None: the data's own check

    @property
    def believed(self) -> bool:
        """Whether who says so may decide anything."""
        return self.judge is None or self.judge.qualified

    @property
    def more_correct(self) -> bool:
        return self.correct_change is not None and self.correct_change.low > 0

    @property
    def less_correct(self) -> bool:
        return self.correct_change is not None and self.correct_change.high < 0


def hollow_wins(run: RunRecord) -> tuple[HollowWin, ...]:
    """Every trial whose win comes with a sign of gaming, the highest win rate first."""
    found = [hollow for trial in run.trials if (hollow := _hollow_win(run, trial)) is not None]
    return tuple(sorted(found, key=lambda hollow: -hollow.win.value))


def _hollow_win(run: RunRecord, trial: TrialRecord) -> HollowWin | None:
    won = _won(run, trial)
    if won is None:
        return None
    metric, win, judge = won
    change = score(trial, "correct_change")
    hollow = HollowWin(
        trial=trial,
        metric=metric,
        win=win,
        longer=_longer(trial),
        opening=_opening(trial),
        correct_change=change,
        judge=judge,
    )
    return hollow if hollow.longer or hollow.opening or hollow.less_correct else None


def _won(run: RunRecord, trial: TrialRecord) -> tuple[str, Score, JudgeCard | None] | None:
    """The highest of its win rates that are above one half: by the truth or a qualified judge, else by any judge."""
    sources = {"gold_win_rate": None, **{win_rate_by(card.name): card for card in run.judges}}
    wins = [(metric, win, card) for metric, card in sources.items() if (win := score(trial, metric)) is not None]
    above = [(metric, win, card) for metric, win, card in wins if win.low > 0.5]
    return max(above, key=lambda won: (won[2] is None or won[2].qualified, won[1].value), default=None)


def _longer(trial: TrialRecord) -> Score | None:
    ratio = score(trial, "length_ratio")
    return ratio if ratio is not None and ratio.value >= LONGER and ratio.low > 1 else None


def _opening(trial: TrialRecord) -> Score | None:
    share = score(trial, "opening_concentration")
    if share is None or not trial.scores.commonest_opening.strip():
        return None
    new = share.value >= NEW_OPENING * trial.scores.anchor_opening_share
    return share if share.value >= SAME_OPENING and new else None


def short_signs(hollow: HollowWin) -> str:
    """The signs in a few words, for a list of warnings."""
    found = (
        "longer responses" if hollow.longer else "",
        "an opening that many share" if hollow.opening else "",
    )
    correct = "more correct" if hollow.more_correct else "less correct" if hollow.less_correct else ""
    return listed([sign for sign in (*found, correct or "correctness not shown to rise") if sign])


def signs(hollow: HollowWin) -> str:
    """The signs in words: what its responses are, beside winning."""
    found = []
    if hollow.longer is not None:
        found.append(f"are {_longer_words(hollow.longer)} than the anchor's")
    if hollow.opening is not None:
        words = one_line(hollow.trial.scores.commonest_opening.strip(), 60)
        before = percent(hollow.trial.scores.anchor_opening_share)
        share = percent(hollow.opening.value)
        found.append(f"begin with the same words (“{words}”) {share}% of the time (the anchor's: {before}%)")
    found.append(_correctness(hollow))
    return listed(found)


def _longer_words(ratio: Score) -> str:
    low, high = percent(ratio.low - 1), percent(ratio.high - 1)
    return f"{percent(ratio.value - 1)}% longer ({low}% to {high}%)"


def _correctness(hollow: HollowWin) -> str:
    if hollow.correct_change is None:
        return "are not checked for correctness (this data has no checker)"
    change = change_cell(hollow.correct_change)
    by = f"({change.value}, {change.interval})"
    if hollow.more_correct:
        return f"are more often correct {by}"
    if hollow.less_correct:
        return f"are less often correct {by}"
    return f"are not shown to be more correct {by}"


def win_words(hollow: HollowWin) -> str:
    """The win in words: "wins 98% (95% to 99%) by judge probe", and what the truth says beside it."""
    if hollow.judge is None:
        return f"wins {phrase(hollow.win)} by the data's own check"
    truth = score(hollow.trial, "gold_win_rate")
    beside = f" and {phrase(truth)} by the data's own check" if truth is not None else ""
    return f"wins {phrase(hollow.win)} by judge {hollow.judge.name}{beside}"


def short_win(hollow: HollowWin) -> str:
    """The win in brackets after a name: "73%", "58% by probe"."""
    return f"{percent(hollow.win.value)}%{f' by {hollow.judge.name}' if hollow.judge else ''}"
