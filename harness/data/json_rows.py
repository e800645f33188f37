"""JSON arrays and JSONL, a row at a time: an array is parsed by piece, so no file is ever in memory whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.data.numbered import broken, kind_of, parse_json, unreadable
from harness.data.opening import lines, pieces
from harness.errors import HarnessError

Placed = tuple[int | None, Any]
"""The line that a row begins on, where its file has lines, and the row."""

LARGEST_CHARACTERS = 1 << 28  # of one element of an array
_BETWEEN_VALUES = " \t\r\n"
_ENDING = 16  # characters before the end of a piece within which broken JSON may only be cut off


def line_rows(path: Path) -> Iterator[Placed]:
    """Each line's value; empty lines are passed over."""
    for number, line in lines(path):
        if line.strip():
            listed = number == 1 and line.lstrip().startswith("[")
            hint = "mend it there" + (", or name the file .json if it holds a list" if listed else "")
            yield number, parse_json(str(path), line.rstrip(), number, hint)


def array_rows(path: Path) -> Iterator[Placed]:
    """Each element of an array."""
    return _Array(path).elements()


class _Array:
    """A JSON array read in pieces: what was parsed is forgotten."""

    def __init__(self, path: Path) -> None:
        self.path, self.pieces = path, pieces(path)
        self.text, self.at, self.line, self.column = "", 0, 1, 1
        self.ended = False
        self.decoder = json.JSONDecoder()

    def elements(self) -> Iterator[Placed]:
        first = self._next()
        if first == "":
            return
        if first != "[":
            raise self._no_list()
        self._forget(self.at + 1)
        if self._next() == "]":
            raise HarnessError(f"{self.path} holds an empty list: give a file with one preference per row")
        while True:
            self._next()
            line, value = self.line, self._value()
            yield line, value
            match self._next():
                case "]":
                    self._close()
                    return
                case ",":
                    self._forget(self.at + 1)
                case _:
                    raise self._broken("Expecting ',' delimiter")

    def _next(self) -> str:
        """The next character that is not between values; empty at the end."""
        while True:
            while self.at < len(self.text):
                if self.text[self.at] not in _BETWEEN_VALUES:
                    self._forget(self.at)
                    return self.text[self.at]
                self.at += 1
            if not self._read():
                return ""

    def _value(self) -> Any:
        """The value that begins here. One that the piece cuts off is tried again with more of the file."""
        wanted = 0
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.at)
                if end < len(self.text) or self.ended:
                    self._forget(end)
                    return value
            except json.JSONDecodeError as error:
                if self.ended or self._is_broken(error):
                    raise self._broken(error.msg, error.pos) from error
            except (ValueError, RecursionError) as error:
                raise unreadable(str(self.path), self.line, error) from error
            wanted = max(wanted, 2 * (len(self.text) - self.at))
            while len(self.text) - self.at < wanted and self._read():
                pass

    def _is_broken(self, error: json.JSONDecodeError) -> bool:
        """Whether more of the file cannot mend it."""
        cut = error.msg.startswith("Unterminated string") or error.pos >= len(self.text) - _ENDING
        return not cut or len(self.text) - self.at > LARGEST_CHARACTERS

    def _read(self) -> bool:
        """Add a piece; whether there was one."""
        piece = next(self.pieces, None)
        self.ended = piece is None
        self.text += piece or ""
        return piece is not None

    def _forget(self, to: int) -> None:
        """Count the lines up to there. The text itself goes once there is much of it."""
        self.line, self.column = self._place(to)
        if to > len(self.text) // 2:
            self.text, self.at = self.text[to:], 0
            self.counted = 0
        else:
            self.at = self.counted = to

    counted = 0  # characters of the text whose lines are counted

    def _place(self, to: int) -> tuple[int, int]:
        breaks = self.text.count("\n", self.counted, to)
        if breaks:
            return self.line + breaks, to - self.text.rindex("\n", self.counted, to)
        return self.line, self.column + to - self.counted

    def _close(self) -> None:
        """Nothing may follow the array."""
        self._forget(self.at + 1)
        if self._next():
            raise self._broken("Extra data")

    def _no_list(self) -> HarnessError:
        """The file's one value is no list, or the file is no JSON."""
        value = self._value()
        if self._next():
            return self._broken("Extra data", hint=", or name the file .jsonl if it holds one row to a line")
        return HarnessError(
            f"{self.path} holds {kind_of(value)}, not a list of rows: "
            "put the rows in [ ], or one to a line in a .jsonl file"
        )

    def _broken(self, message: str, at: int | None = None, hint: str = "") -> HarnessError:
        line, column = self._place(self.at if at is None else at)
        return broken(str(self.path), json.JSONDecodeError(message, "", 0), line, column, "mend it there" + hint)
