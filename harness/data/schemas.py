"""The rows that we accept, checked at the door: Alpaca columns, TRL text, TRL messages, unpaired completions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from harness.data.faults import RowFaultError

SHOWN_CHARACTERS = 40
_ROLES = {"human": "user", "gpt": "assistant"}  # ShareGPT's names of ours
WANTED = {
    "string_type": "text",
    "list_type": "a list",
    "model_type": "an object with role and content",
    "label": "true or false",
}
_LABELS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def _filled(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("empty", "empty")
    return _whole(text)


def _whole(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise PydanticCustomError("surrogate", "half a character") from error
    return text


def _label(value: Any) -> bool:
    label = _LABELS.get(str(value).strip().lower())
    if label is None:
        raise PydanticCustomError("label", "no label")
    return label


def _listed(value: Any) -> Any:
    """One message as a conversation of one."""
    return [value] if isinstance(value, dict) else value


def _joined(content: Any) -> Any:
    """Content in parts, all of them text, as one text."""
    parts = content if isinstance(content, list) else []
    if parts and all(isinstance(p, dict) and p.get("type") == "text" and isinstance(p.get("text"), str) for p in parts):
        return "".join(part["text"] for part in parts)
    return content


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
    system: Whole | None = None
    chosen: Filled
    rejected: Filled


class TextRow(_Row):
    """TRL columns in plain text."""

    prompt: Filled
    system: Whole | None = None
    chosen: Filled
    rejected: Filled


class TwoTextsRow(_Row):
    """Two texts that begin alike: the prompt is within them."""

    chosen: Filled
    rejected: Filled


class MessageRow(BaseModel):
    """One message of a conversation, in ShareGPT's words too."""

    role: Annotated[str, StringConstraints(pattern=r"^\w{1,40}$")]
    content: Annotated[Filled, BeforeValidator(_joined)]

    @model_validator(mode="before")
    @classmethod
    def _in_our_words(cls, message: Any) -> Any:
        if isinstance(message, dict) and "role" not in message and {"from", "value"} <= message.keys():
            return {"role": _ROLES.get(message["from"], message["from"]), "content": message["value"]}
        return message


class ChatRow(_Row):
    """TRL columns as messages: the prompt on its own, or as the messages that both responses begin with."""

    prompt: list[MessageRow] | Whole | None = None
    chosen: Annotated[list[MessageRow], BeforeValidator(_listed)]
    rejected: Annotated[list[MessageRow], BeforeValidator(_listed)]


class UnpairedTextRow(_Row):
    """One completion, and whether it is a good one."""

    prompt: Filled
    completion: Filled
    label: Annotated[bool, BeforeValidator(_label)]


class UnpairedChatRow(_Row):
    """The same as messages."""

    prompt: list[MessageRow] | Whole | None = None
    completion: Annotated[list[MessageRow], BeforeValidator(_listed)]
    label: Annotated[bool, BeforeValidator(_label)]


def fault(error: ValidationError, columns: Mapping[str, Any]) -> RowFaultError:
    """The first thing wrong with a row, and what to do."""
    first = error.errors()[0]
    name, value = _column(first), first["input"]
    match first["type"]:
        case "missing":
            return missing(f"'{name}'", columns)
        case "empty":
            return RowFaultError(f"has an empty '{name}'", "fill it, or delete the row", "empty")
        case "surrogate":
            what = f"has half a surrogate pair in '{name}', which is no character"
            return RowFaultError(what, "mend the text", "surrogate")
        case kind if kind in WANTED:
            dirt = "null" if value is None else None
            return RowFaultError(f"has {_shown(value)} as '{name}'", f"it has to be {WANTED[kind]}", dirt)
    return RowFaultError(f"has {_shown(value)} as '{name}' ({first['msg']})", "mend it, or delete the row")


def missing(names: str, columns: Mapping[str, Any], hint: str = "") -> RowFaultError:
    """That a column is not there, and which are."""
    found = ", ".join(f"'{column}'" for column in columns) or "none at all"
    ours = names.strip("'") if names.count("'") == 2 else "prompt"
    remedy = f"add it, or name the one that holds it, as --columns {ours}={hint or 'ITS_NAME'}"
    return RowFaultError(f"has no column {names} (columns found: {found})", remedy)


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
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
