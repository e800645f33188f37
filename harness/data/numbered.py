"""JSON and JSONL files as values with the line that each begins on, so that an error can point at it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError

SUFFIXES = (".json", ".jsonl", ".ndjson")
_BETWEEN_VALUES = " \t\r\n,"


@dataclass(frozen=True, kw_only=True)
class NumberedRow:
    """One value of a file and where it stands, counted from 1."""

    line: int
    row: int
    value: Any


def read_numbered(path: Path) -> tuple[NumberedRow, ...]:
    """Every row of a JSON array or JSONL file; HarnessError names file and line where it cannot be read."""
    if path.suffix.lower() not in SUFFIXES:
        raise HarnessError(
            f"{path} ends in '{path.suffix}', which is no format of rows: "
            f"give a file that ends in {', '.join(SUFFIXES)}"
        )
    text = _read_text(path)
    if not text.strip():
        raise HarnessError(f"{path} is empty: give a file with one preference per row")
    rows = _array_rows(path, text) if path.suffix.lower() == ".json" else _line_rows(path, text)
    if not rows:
        raise HarnessError(f"{path} holds an empty list: give a file with one preference per row")
    return rows


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        byte = error.object[error.start]
        raise HarnessError(f"{path}:{line}: byte 0x{byte:02x} is not UTF-8: save the file as UTF-8") from error
    except OSError as error:
        raise HarnessError(f"{path} cannot be read ({error.strerror}): check the path") from error


def _line_rows(path: Path, text: str) -> tuple[NumberedRow, ...]:
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    return tuple(
        NumberedRow(line=number, row=row, value=_parse(path, line, number))
        for row, (number, line) in enumerate(lines, 1)
    )


def _array_rows(path: Path, text: str) -> tuple[NumberedRow, ...]:
    values = _parse(path, text, 1)
    if not isinstance(values, list):
        raise HarnessError(
            f"{path} holds {kind_of(values)}, not a list of rows: "
            "put the rows in [ ], or one to a line in a .jsonl file"
        )
    return tuple(
        NumberedRow(line=line, row=row, value=value)
        for row, (line, value) in enumerate(zip(_element_lines(text), values, strict=True), 1)
    )


def _element_lines(text: str) -> list[int]:
    """The line on which each element of a valid JSON array begins."""
    decoder = json.JSONDecoder()
    lines, line, counted = [], 1, 0
    at = _skip(text, text.index("[") + 1)
    while text[at] != "]":
        line += text.count("\n", counted, at)
        counted = at
        lines.append(line)
        at = _skip(text, decoder.raw_decode(text, at)[1])
    return lines


def _skip(text: str, at: int) -> int:
    while text[at] in _BETWEEN_VALUES:
        at += 1
    return at


def _parse(path: Path, text: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"{path}:{line + error.lineno - 1}: column {error.colno}"
        hint = "mend it there" + _jsonl_hint(path, error)
        raise HarnessError(f"{where}: broken JSON ({error.msg}): {hint}") from error
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise HarnessError(f"{path}:{line}: JSON that cannot be read ({reason}): mend or delete it") from error


def _jsonl_hint(path: Path, error: json.JSONDecodeError) -> str:
    one_to_a_line = path.suffix.lower() == ".json" and error.msg == "Extra data"
    return ", or name the file .jsonl if it holds one row to a line" if one_to_a_line else ""


def kind_of(value: Any) -> str:
    """A JSON value's kind in words, as an error says it."""
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
