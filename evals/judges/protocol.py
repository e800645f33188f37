"""What a judge is asked and what it answers. The caller asks both orders; a judge sees one at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.records import Gold, Pair, Verdict


@dataclass(frozen=True, kw_only=True)
class Question:
    """Which of two responses to one prompt is better?"""

    prompt_id: str
    question: str  # the prompt as a person wrote it
    first: str  # the response shown first
    second: str
    gold: Gold | None = None  # the truth of this prompt; only `rule:gold` looks at it
    against: str = "anchor"  # whose response is shown second; no judge looks at it

    @classmethod
    def of(cls, pair: Pair, first: str, second: str, *, against: str = "anchor") -> Question:
        """Two responses to the pair's prompt."""
        return cls(
            prompt_id=pair.prompt_id,
            question=pair.question,
            first=first,
            second=second,
            gold=pair.gold,
            against=against,
        )

    def swap(self) -> Question:
        """The same question with the responses in the other order."""
        return dataclasses.replace(self, first=self.second, second=self.first)


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """A judge's answer to one question: a probability, or why there is none."""

    p_first: float | None  # P(the response shown first is better)
    problem: str | None = None


class Judge(Protocol):
    """Gives one opinion a question, in the same order; where it cannot say, a problem."""

    @property
    def name(self) -> str:
        """As asked for on the command line: "ollama:llama3.2"."""

    @property
    def description(self) -> str:
        """Model, digest, and how it decides."""

    def p_first_wins(self, questions: Sequence[Question]) -> list[Opinion]:
        """P(the first response wins) for each question."""


def ask_both_orders(judge: Judge, questions: Sequence[Question]) -> tuple[Verdict, ...]:
    """One verdict a question, on its `first` response, from both orders; identical responses tie unasked."""
    asked = [question for question in questions if question.first != question.second]
    opinions = judge.p_first_wins([*asked, *(question.swap() for question in asked)]) if asked else []
    assert len(opinions) == 2 * len(asked), f"{judge.name} gave {len(opinions)} opinions"
    answers = iter(zip(opinions[: len(asked)], opinions[len(asked) :], strict=True))
    return tuple(
        _verdict(judge, question, *(_TIED if question.first == question.second else next(answers)))
        for question in questions
    )


_TIED = (Opinion(p_first=0.5), Opinion(p_first=0.5))


def _verdict(judge: Judge, question: Question, shown_first: Opinion, shown_second: Opinion) -> Verdict:
    p_rival = shown_second.p_first  # in the other order the rival stands first
    problems = dict.fromkeys(o.problem for o in (shown_first, shown_second) if o.problem is not None)
    return Verdict(
        judge=judge.name,
        prompt_id=question.prompt_id,
        p_first=shown_first.p_first,
        p_second=None if p_rival is None else 1 - p_rival,
        problem="; ".join(problems) or None,
        against=question.against,
    )
