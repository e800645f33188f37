"""Rows of every format in the one form that they come down to: what is asked, and two responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from harness.data.conversations import (
    PromptMissingError,
    part_pair,
    part_single,
    part_texts,
    part_transcript_prompt,
    part_transcripts,
)
from harness.data.faults import RowFaultError
from harness.data.formats import Format, are_messages, named_otherwise
from harness.data.prompts import Ask
from harness.data.schemas import (
    AlpacaRow,
    ChatRow,
    GoldRow,
    TextRow,
    TwoTextsRow,
    UnpairedChatRow,
    UnpairedTextRow,
    fault,
)
from harness.records import Gold

SPLIT_NAMES = ("train", "judge", "test")
_SCHEMAS: dict[str, type[BaseModel]] = {
    "alpaca": AlpacaRow,
    "text": TextRow,
    "text-implicit": TwoTextsRow,
    "text-system": TextRow,
    "hh": TwoTextsRow,
    "hh-explicit": TextRow,
    "chat": ChatRow,
    "chat-implicit": ChatRow,
    "ultrafeedback": ChatRow,
    "unpaired-text": UnpairedTextRow,
    "unpaired-chat": UnpairedChatRow,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledRow:
    """One checked row."""

    row: int  # where it stands in its source, from 1
    ask: Ask
    chosen: str
    rejected: str
    gold: Gold | None = None
    split: str | None = None  # its own, where that is one of ours


@dataclass(frozen=True, kw_only=True, slots=True)
class SingleRow:
    """One checked row that says of one completion whether it is good."""

    row: int
    ask: Ask
    completion: str
    good: bool
    split: str | None


def label_row(columns: dict[str, Any], row: int, form: Format) -> LabelledRow | SingleRow:
    """The row, checked as its file's format has it; RowFaultError says what it lacks."""
    if not isinstance(columns.get("gold"), dict):  # a column of that name which is not ours
        columns = {**columns, "gold": None}
    if form.template == "chat" and "prompt" not in columns and isinstance(columns.get("instruction"), str):
        columns = {**columns, "prompt": columns["instruction"]}
    try:
        checked = _SCHEMAS[form.name].model_validate(columns)
    except ValidationError as error:
        raise fault(error, {name: value for name, value in columns.items() if name != "gold" or value}) from error
    split = columns["split"] if columns.get("split") in SPLIT_NAMES else None
    try:
        if isinstance(checked, UnpairedTextRow | UnpairedChatRow):
            ask, completion = _single(checked)
            return SingleRow(row=row, ask=ask, completion=completion, good=checked.label, split=split)
        ask, chosen, rejected = _pair(checked, form.name)
    except PromptMissingError as error:
        raise _with_column(error, columns) from error
    if chosen.strip() == rejected.strip():
        raise RowFaultError("has chosen = rejected", "mend or delete them", "tied")
    gold = _gold(getattr(checked, "gold", None))
    return LabelledRow(row=row, ask=ask, chosen=chosen, rejected=rejected, gold=gold, split=split)


def _with_column(error: PromptMissingError, columns: dict[str, Any]) -> RowFaultError:
    """The same fault, naming the column that seems to hold the prompt, as ShareGPT's `conversations` does."""
    own = ("chosen", "rejected", "completion")
    listed = (name for name, value in columns.items() if name not in own and are_messages(value))
    name = next(listed, None) or named_otherwise(columns)
    remedy = f"{error.remedy}, or name the column that holds it, as --columns prompt={name}" if name else error.remedy
    return RowFaultError(error.what, remedy, error.kind)


def _pair(row: BaseModel, form: str) -> tuple[Ask, str, str]:
    match row:
        case AlpacaRow():
            instruction = "\n\n".join(part for part in (row.system, row.instruction) if part and part.strip())
            return Ask(instruction=instruction, input=row.input or ""), row.chosen, row.rejected
        case TextRow() if form == "hh-explicit":
            return part_transcript_prompt(row.prompt), row.chosen.strip(), row.rejected.strip()
        case TextRow():
            return _text(row.prompt, row.system, form), row.chosen, row.rejected
        case TwoTextsRow() if form == "hh":
            return part_transcripts(row.chosen, row.rejected)
        case TwoTextsRow():
            ask, chosen, rejected = part_texts(row.chosen, row.rejected)
            _refuse_empty(chosen, rejected)
            return ask, chosen, rejected
        case ChatRow():
            return part_pair(row)
    raise AssertionError(row)


def _single(row: UnpairedTextRow | UnpairedChatRow) -> tuple[Ask, str]:
    if isinstance(row, UnpairedChatRow):
        return part_single(row)
    return Ask(instruction=row.prompt), row.completion


def _text(prompt: str, system: str | None, form: str) -> Ask:
    """A prompt in plain text; with a system's word before it, a conversation."""
    if form != "text-system":
        return Ask(instruction=prompt)
    said = [("system", system)] if system and system.strip() else []
    return Ask(messages=tuple({"role": role, "content": text} for role, text in (*said, ("user", prompt))))


def _refuse_empty(chosen: str, rejected: str) -> None:
    for name, text in (("chosen", chosen), ("rejected", rejected)):
        if not text.strip():
            raise RowFaultError(f"has nothing in '{name}' after what both begin with", "add the response", "empty")


def _gold(row: GoldRow | None) -> Gold | None:
    if row is None:
        return None
    return Gold(kind=row.kind, answers=row.answers, wrong=row.wrong, given=row.given)
