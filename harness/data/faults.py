"""What is wrong with a row: some of it is the dirt of real data, some means that the file is not what it seems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TOLERATED = 0.01  # share of rows that is left out for the faults below; the book's file has 6 in 1,100
LISTED = 10  # row numbers told of each kind

# Kinds of dirt, as "3 of 400 rows …" goes on. Any other fault ends the reading.
KINDS = {
    "tied": "have chosen = rejected",
    "empty": "have an empty text",
    "null": "have null where a text belongs",
    "surrogate": "have half a surrogate pair in a text",
    "conversation": "have messages that are no prompt with two responses to it",
    "too long": "are longer than the model's context",
    "refused": "have messages that the model's chat template refuses",
    "alone": "have no completion with the other label to be paired with",
    "repeated": "repeat an earlier row word for word",
}
# What is left out however much of it there is: it means no column is wrong.
HARMLESS = ("alone", "repeated")


class RowFaultError(Exception):
    """One thing wrong with one row, to follow "row 3 "; `kind` is None where it ends the reading."""

    def __init__(self, what: str, remedy: str, kind: str | None = None) -> None:
        assert kind is None or kind in KINDS, kind
        super().__init__(f"{what}: {remedy}")
        self.what, self.remedy, self.kind = what, remedy, kind


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """Rows that are left out for one reason."""

    kind: str  # of KINDS
    count: int
    rows: tuple[int, ...]  # the first of them, counted from 1
    at: str  # where the first one stands
    what: str  # is wrong with the first one
    remedy: str

    def sentence(self, of: int) -> str:
        """For the report: how many rows, why, which."""
        where = ", ".join(map(str, self.rows)) + (", …" if self.count > len(self.rows) else "")
        return f"{counted(self.count)} of {counted(of)} rows {KINDS[self.kind]} and are left out: rows {where}."


def counted(number: int) -> str:
    """A number for a sentence: thousands are parted where there are many."""
    return f"{number:,}" if number >= 10_000 else str(number)


class Tally:
    """Counts what is left out while rows are read."""

    def __init__(self) -> None:
        self.found: dict[str, Dropped] = {}

    def add(self, kind: str, row: int, at: str, what: str, remedy: str) -> None:
        """One more row."""
        before = self.found.get(kind)
        if before is None:
            self.found[kind] = Dropped(kind=kind, count=1, rows=(row,), at=at, what=what, remedy=remedy)
            return
        rows = before.rows if before.count >= LISTED else (*before.rows, row)
        self.found[kind] = Dropped(**{**vars(before), "count": before.count + 1, "rows": rows})

    @property
    def grave(self) -> int:
        """Rows whose faults count towards what is tolerated."""
        return sum(d.count for d in self.found.values() if d.kind not in HARMLESS)


def refusal(dropped: Mapping[str, Dropped], rows: int) -> str | None:
    """One line where more rows are faulty than real data has; None where it is no more."""
    grave = [d for d in dropped.values() if d.kind not in HARMLESS]
    if sum(d.count for d in grave) <= TOLERATED * rows:
        return None
    worst = max(grave, key=lambda d: d.count)
    others = sum(d.count for d in grave) - worst.count
    more = f"{counted(others)} more have other faults, together " if others else ""
    told = f" (so have {counted(worst.count)} of {counted(rows)} rows, {more}more than {TOLERATED:.0%})"
    return f"{worst.at} {worst.what}{told if worst.count + others > 1 else ''}: {worst.remedy}"
