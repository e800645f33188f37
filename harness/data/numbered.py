"""Rows with the place where each stands, so that an error can point at it; and what JSON says of itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from harness.errors import HarnessError


@dataclass(frozen=True, kw_only=True, slots=True)
class NumberedRow:
    """One value of a source and where it stands, counted from 1."""

    source: str  # the file's path, or the data set's name
    line: int | None  # None where the source has no lines
    row: int  # over all files
    value: Any

    @property
    def at(self) -> str:
        """As errors begin."""
        return f"{self.source}:{self.line}: row {self.row}" if self.line else f"{self.source}: row {self.row}"


def parse_json(source: str, text: str, line: int, hint: str = "mend it there") -> Any:
    """The value of JSON text that begins on this line."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise broken(source, error, line + error.lineno - 1, error.colno, hint) from error
    except (ValueError, RecursionError) as error:
        raise unreadable(source, line, error) from error


def broken(source: str, error: json.JSONDecodeError, line: int, column: int, hint: str) -> HarnessError:
    """What is wrong with JSON text, and where."""
    return HarnessError(f"{source}:{line}: column {column}: broken JSON ({error.msg}): {hint}")


def unreadable(source: str, line: int, error: Exception) -> HarnessError:
    """JSON that is right and too much: nested too deep, or a number too long."""
    return HarnessError(f"{source}:{line}: JSON that cannot be read ({str(error).splitlines()[0]}): mend or delete it")


def kind_of(value: Any) -> str:
    """A JSON value's kind in words, as an error says it."""
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
