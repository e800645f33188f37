"""`--columns chosen=accepted`: which of a source's columns holds what, where their names do not say it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import HarnessError

# What a row may hold, by our names.
KNOWN = (
    *("prompt", "instruction", "input", "system", "chosen", "rejected"),
    *("completion", "label", "split"),
)
# A prompt and an instruction are two formats: who names one does not mean the other, whatever else a row has.
_RIVALS = {"prompt": ("instruction", "input"), "instruction": ("prompt",), "chosen": ("completion", "label")}


class ColumnMissingError(Exception):
    """What is wrong with the columns that were asked for, to follow "row 3 "."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Our name → theirs: a column, or a path into one with dots (`answers.0.text`)."""

    theirs: Mapping[str, str]

    @classmethod
    def parse(cls, given: Sequence[str]) -> Columns:
        """From `chosen=accepted` and the like; HarnessError where one cannot be meant."""
        pairs = [text.partition("=") for text in given if text.strip()]
        for ours, equals, theirs in pairs:
            if not (equals and theirs.strip()):
                raise HarnessError(f"--columns {ours!r} says no column: write it as chosen=accepted,rejected=declined")
            if ours.strip() not in KNOWN:
                raise HarnessError(f"--columns has no {ours!r} to give a column to: {_nearest(ours.strip(), KNOWN)}")
        named = [ours.strip() for ours, _, _ in pairs]
        for ours in named:
            if named.count(ours) > 1:
                raise HarnessError(f"--columns names {ours!r} twice: leave one of them out")
        return cls(theirs={ours.strip(): theirs.strip() for ours, _, theirs in pairs})

    def rename(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row with our names for what they name; ColumnMissingError where it has no such column."""
        if not self.theirs:
            return row
        found = {ours: _value(row, theirs) for ours, theirs in self.theirs.items()}
        hidden = {rival for ours in found for rival in _RIVALS.get(ours, ()) if rival not in found}
        return {name: value for name, value in row.items() if name not in hidden} | found


def _value(row: dict[str, Any], path: str) -> Any:
    """A column's value, or what a path leads to in it; None where the path ends early."""
    if path in row:
        return row[path]
    head, *rest = path.split(".")
    if head not in row or not rest:
        raise ColumnMissingError(
            f"has no column {path!r}, which --columns names: {_nearest(path, [str(name) for name in row])}"
        )
    value = row[head]
    for part in rest:
        value = _within(value, part)
    return value


def _within(value: Any, part: str) -> Any:
    if isinstance(value, dict):
        return value.get(part)
    if isinstance(value, list) and part.lstrip("-").isdecimal() and -len(value) <= int(part) < len(value):
        return value[int(part)]
    return None


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, 1, 0.5)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known) or 'none at all'}"
