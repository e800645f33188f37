"""Judges that follow one written rule: a yardstick (`rule:gold`) and a warning (`rule:length`)."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from evals.gold import judge_gold
from evals.judges.protocol import Judge, Opinion, Question
from harness.errors import HarnessError


def make(detail: str | None) -> Judge:
    """`rule:length` or `rule:gold`."""
    if detail == "length":
        return LengthRule()
    if detail == "gold":
        return GoldRule()
    close = difflib.get_close_matches(detail or "", ("length", "gold"), n=1)
    hint = f"did you mean 'rule:{close[0]}'?" if close else "there are rule:length and rule:gold"
    raise HarnessError(f"no judge named {f'rule:{detail or str()}'!r}: {hint}")


class LengthRule:
    """The longer response in characters wins; a judge that agrees with it much is counting words."""

    name = "rule:length"
    description = "the longer response in characters wins"

    def p_first_wins(self, questions: Sequence[Question]) -> list[Opinion]:
        return [_opinion(len(question.first), len(question.second)) for question in questions]


class GoldRule:
    """The response of higher gold utility wins: the truth, where the data knows it."""

    name = "rule:gold"
    description = "the response that the data's own checker rates higher wins"

    def p_first_wins(self, questions: Sequence[Question]) -> list[Opinion]:
        return [_gold_opinion(question) for question in questions]


def _gold_opinion(question: Question) -> Opinion:
    if question.gold is None:
        raise HarnessError(
            f"judge 'rule:gold' needs gold answers, {question.question[:60]!r} has none: use --judge probe"
        )
    return _opinion(
        judge_gold(question.gold, question.first).utility, judge_gold(question.gold, question.second).utility
    )


def _opinion(first: float, second: float) -> Opinion:
    return Opinion(p_first=0.5 if first == second else float(first > second))
