"""Rows of every format in the one form that they come down to: what is asked, and two responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from harness.data.numbered import NumberedRow, kind_of
from harness.data.prompts import Ask, Message
from harness.data.schemas import (
    AlpacaRow,
    ChatRow,
    GoldRow,
    MessageRow,
    PreferenceRow,
    TextRow,
    explain,
    missing,
    parse_row,
)
from harness.errors import HarnessError
from harness.records import Gold

SPLIT_NAMES = ("train", "judge", "test")
EITHER = "'instruction' or 'prompt'"


@dataclass(frozen=True, kw_only=True)
class LabelledRow:
    """One checked row."""

    at: str  # "FILE:LINE: row N", as errors begin
    row: int
    ask: Ask
    chosen: str
    rejected: str
    gold: Gold | None
    split: str | None
    template: str  # that follows from its format

    @property
    def tied(self) -> bool:
        """Whether the two responses are the same."""
        return self.chosen.strip() == self.rejected.strip()


class _ConversationError(Exception):
    """What is wrong with a row's messages, to follow "row 3 "."""


def label_row(path: Path, row: NumberedRow) -> LabelledRow:
    """The checked row; HarnessError says where and what it lacks."""
    at, columns = f"{path}:{row.line}: row {row.row}", row.value
    if not isinstance(columns, dict):
        raise HarnessError(f"{at} is {kind_of(columns)}, not an object with columns: mend it, or delete it")
    try:
        checked = parse_row(columns)
        if checked is None:
            raise HarnessError(f"{at} {missing(EITHER, columns)}")
        template, ask, responses = _parts(checked)
    except ValidationError as error:
        raise HarnessError(f"{at} {explain(error, columns)}") from error
    except _ConversationError as error:
        raise HarnessError(f"{at} {error}") from error
    return LabelledRow(
        at=at,
        row=row.row,
        ask=ask,
        chosen=responses[0],
        rejected=responses[1],
        gold=_gold(checked.gold),
        split=columns["split"] if columns.get("split") in SPLIT_NAMES else None,
        template=template,
    )


def _parts(row: PreferenceRow) -> tuple[str, Ask, tuple[str, str]]:
    match row:
        case AlpacaRow():
            ask = Ask(instruction=row.instruction, input=row.input or "")
            return "alpaca", ask, (row.chosen, row.rejected)
        case TextRow():
            return "plain", Ask(instruction=row.prompt), (row.chosen, row.rejected)
        case ChatRow():
            responses = _response(row.chosen, "chosen"), _response(row.rejected, "rejected")
            return "chat", Ask(messages=_conversation(row)), responses


def _gold(row: GoldRow | None) -> Gold | None:
    if row is None:
        return None
    return Gold(kind=row.kind, answers=row.answers, wrong=row.wrong, given=row.given)


def _conversation(row: ChatRow) -> tuple[Message, ...]:
    """The messages before the response: the prompt's own, or those that both responses begin with."""
    before = row.chosen[:-1]
    if before != row.rejected[:-1]:
        raise _ConversationError(
            "has 'chosen' and 'rejected' that differ before their last message: make them alike up to there"
        )
    prompt = [MessageRow(role="user", content=row.prompt)] if isinstance(row.prompt, str) else row.prompt
    if prompt and before and prompt != before:
        raise _ConversationError("has a 'prompt' that its responses do not begin with: leave one of them out")
    messages = before or prompt
    if not messages:
        raise _ConversationError("has no message before the response: add a 'prompt' with messages")
    return tuple({"role": message.role, "content": message.content} for message in messages)


def _response(messages: Sequence[MessageRow], name: str) -> str:
    if not messages or messages[-1].role != "assistant":
        found = f"a last message by '{messages[-1].role}'" if messages else "no messages"
        raise _ConversationError(f"has {found} in '{name}': it has to end with one by 'assistant'")
    return messages[-1].content
