"""The rows that we accept, checked at the door: Alpaca columns, TRL text, TRL messages."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

SHOWN_CHARACTERS = 40
WANTED = {"string_type": "text", "list_type": "a list", "model_type": "an object with role and content"}


def _filled(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("empty", "empty")
    return _whole(text)


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PydanticCustomError("surrogate", "half a character") from error
    return text


Filled = Annotated[str, AfterValidator(_filled)]
Whole = Annotated[str, AfterValidator(_whole)]


class GoldRow(BaseModel):
    """What a row knows of its prompt's true answer; see `harness.records.Gold`."""

    kind: Literal["number", "word"]
    answers: tuple[Filled, ...]
    wrong: tuple[Filled, ...] = ()
    given: tuple[Filled, ...] = ()

    @model_validator(mode="after")
    def _numbers_are_numbers(self) -> GoldRow:
        for text in (*self.answers, *self.given) if self.kind == "number" else ():
            if not re.fullmatch(r"-?\d[\d,]{0,30}(\.\d{1,30})?", text):
                raise PydanticCustomError("number", "'{text}' is no plain number", {"text": text[:SHOWN_CHARACTERS]})
        return self


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    gold: GoldRow | None = None


class AlpacaRow(_Row):
    """Alpaca columns; `output` may be there and is not read."""

    instruction: Filled
    input: Whole | None = None
    chosen: Filled
    rejected: Filled


class TextRow(_Row):
    """TRL columns in plain text."""

    prompt: Filled
    chosen: Filled
    rejected: Filled


class MessageRow(BaseModel):
    """One message of a conversation."""

    role: Annotated[str, StringConstraints(pattern=r"^\w{1,40}$")]
    content: Filled


class ChatRow(_Row):
    """TRL columns as messages: the prompt on its own, or as the messages that both responses begin with."""

    prompt: list[MessageRow] | Filled | None = None
    chosen: list[MessageRow]
    rejected: list[MessageRow]


PreferenceRow = AlpacaRow | TextRow | ChatRow


def parse_row(columns: dict[str, Any]) -> PreferenceRow | None:
    """The checked row; None where neither an instruction nor a prompt is among its columns."""
    if not isinstance(columns.get("gold"), dict):  # a column of that name which is not ours
        columns = {**columns, "gold": None}
    if "instruction" in columns:
        return AlpacaRow.model_validate(columns)
    if isinstance(columns.get("prompt"), list) or _are_messages(columns.get("chosen")):
        return ChatRow.model_validate(columns)
    return TextRow.model_validate(columns) if "prompt" in columns else None


def _are_messages(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(message, dict) for message in value)


def explain(error: ValidationError, columns: dict[str, Any]) -> str:
    """The first thing wrong with a row, and what to do, to follow "row 3 "."""
    first = error.errors()[0]
    name = _column(first)
    match first["type"]:
        case "missing":
            return missing(f"'{name}'", columns)
        case "empty":
            return f"has an empty '{name}': fill it, or delete the row"
        case "surrogate":
            return f"has half a surrogate pair in '{name}', which is no character: mend the text"
        case kind if kind in WANTED:
            return f"has {_shown(first['input'])} as '{name}': it has to be {WANTED[kind]}"
    return f"has {_shown(first['input'])} as '{name}' ({first['msg']}): mend it, or delete the row"


def missing(names: str, columns: dict[str, Any]) -> str:
    """That a column is not there, and which are."""
    found = ", ".join(f"'{column}'" for column in columns) or "none at all"
    return f"has no column {names} (columns found: {found}): add it, or rename the one that holds it"


def _column(detail: ErrorDetails) -> str:
    """`chosen`, or `chosen[1].content` inside messages; pydantic's own names of union members left out."""
    path = ""
    for part in detail["loc"]:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.isidentifier():
            path += f".{part}" if path else part
    return path


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
