"""Asks a judge what it was asked before: servers are not deterministic, and an answer from a cache took no time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from evals.judges.protocol import Judge, Question, ask_both_orders
from evals.statistics import share_interval
from evals.winrate import winner
from harness.records import Score, Verdict

MOST_REPEATS = 32  # questions asked again, in both orders


class Repeats(NamedTuple):
    """What asking again showed."""

    agreement: Score | None  # share with the same winner as before; None where none was scored twice
    verdicts_per_second: float | None  # both orders asked; None where it took no time that the clock can tell


def ask_again(
    judge: Judge, questions: Sequence[Question], verdicts: Sequence[Verdict], *, clock: Callable[[], float]
) -> Repeats:
    """The first of the questions again, in both orders and past any cache; `verdicts` are those of the first time."""
    asked = [pair for pair in zip(questions, verdicts, strict=True) if pair[0].first != pair[0].second][:MOST_REPEATS]
    began = clock()
    again = ask_both_orders(_past_cache(judge), [question for question, _ in asked])
    seconds = clock() - began
    same = [
        (before.prompt_id, float(winner(before.p_win) == winner(after.p_win)))
        for (_, before), after in zip(asked, again, strict=True)
        if before.p_win is not None and after.p_win is not None
    ]
    agreement = share_interval([s for _, s in same], clusters=[prompt for prompt, _ in same]) if same else None
    return Repeats(agreement, len(again) / seconds if again and seconds > 0 else None)


def _past_cache(judge: Judge) -> Judge:
    """The judge itself, where what is given remembers its answers."""
    inner: Judge = getattr(judge, "unremembered", judge)
    return inner
