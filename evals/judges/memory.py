"""A judge that is not asked twice: its opinions are kept by all that they hang on, word for word."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from evals.judges.protocol import Judge, Opinion, Question

CHUNK = 64  # questions asked before their answers are kept: what an interrupt costs at most


@runtime_checkable
class Costly(Judge, Protocol):
    """A judge that is worth remembering."""

    def content(self, question: Question) -> str:
        """All that its answer hangs on besides its description: what is asked, and how."""


class Shelf(Protocol):
    """Where probabilities lie by key."""

    def get(self, key: str) -> float | None:
        """The probability under this key, if there is one."""

    def add(self, found: Mapping[str, float]) -> None:
        """Keep these."""


class Remembering:
    """A judge and its shelf. What has a problem is not kept, so that it is asked again."""

    def __init__(self, judge: Costly, shelf: Shelf) -> None:
        self.unremembered = judge  # who means to measure the judge itself asks this one
        self.name, self.description = judge.name, judge.description
        self._shelf = shelf

    def p_first_wins(self, questions: Sequence[Question]) -> list[Opinion]:
        """Opinions in the questions' order, those from the shelf unasked."""
        keys = [_key(self.description, self.unremembered.content(question)) for question in questions]
        known = {key: Opinion(p_first=p) for key in keys if (p := self._shelf.get(key)) is not None}
        missing = {key: question for key, question in zip(keys, questions, strict=True) if key not in known}
        unknown = list(missing.items())
        for start in range(0, len(unknown), CHUNK):
            known |= self._ask(dict(unknown[start : start + CHUNK]))
        return [known[key] for key in keys]

    def _ask(self, asked: Mapping[str, Question]) -> dict[str, Opinion]:
        opinions = dict(zip(asked, self.unremembered.p_first_wins(list(asked.values())), strict=True))
        readable = {key: o.p_first for key, o in opinions.items() if o.p_first is not None and o.problem is None}
        if readable:
            self._shelf.add(readable)
        return opinions


def _key(description: str, content: str) -> str:
    return hashlib.sha256(json.dumps([description, content]).encode()).hexdigest()[:32]
