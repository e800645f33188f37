"""The formats of preference rows, guessed from a row's columns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TRANSCRIPT = re.compile(r"\s*(Human|Assistant): ?")
# What a prompt is called elsewhere: where one of these is there, two responses alone are not the whole row.
PROMPT_LIKE = ("question", "query", "input", "instruct", "user", "context", "source", "post", "title", "conversations")
_SCORES = ("score_chosen", "chosen_score", "chosen-rating", "chosen_rating")


@dataclass(frozen=True, kw_only=True)
class Format:
    """How rows are written."""

    name: str
    words: str  # as it is said aloud
    template: str  # that follows from it
    family: str  # rows of another family in one file are a mixture


FORMATS = {
    f.name: f
    for f in (
        Format(name="alpaca", words="Alpaca columns", template="alpaca", family="Alpaca columns"),
        Format(name="text", words="TRL text", template="plain", family="TRL columns in plain text"),
        Format(
            name="text-implicit",
            words="TRL text with implicit prompt",
            template="plain",
            family="two texts without a prompt",
        ),
        Format(
            name="text-system",
            words="text with a system column, as messages",
            template="chat",
            family="TRL columns in plain text",
        ),
        Format(name="hh", words="Anthropic HH transcripts", template="chat", family="two texts without a prompt"),
        Format(
            name="hh-explicit",
            words="Anthropic HH transcripts with explicit prompt",
            template="chat",
            family="TRL columns in plain text",
        ),
        Format(
            name="chat",
            words="TRL messages with explicit prompt",
            template="chat",
            family="TRL columns with messages",
        ),
        Format(
            name="chat-implicit",
            words="TRL messages with implicit prompt",
            template="chat",
            family="TRL columns with messages",
        ),
        Format(
            name="ultrafeedback",
            words="UltraFeedback binarized (messages that repeat the prompt; scores are not used)",
            template="chat",
            family="TRL columns with messages",
        ),
        Format(
            name="unpaired-text",
            words="TRL unpaired text (completion and label)",
            template="plain",
            family="TRL unpaired columns in plain text",
        ),
        Format(
            name="unpaired-chat",
            words="TRL unpaired messages (completion and label)",
            template="chat",
            family="TRL unpaired columns with messages",
        ),
    )
}


def guess(row: Mapping[str, Any]) -> Format | None:
    """The format that a row's columns look like; None where they look like none."""
    name = _guess(row)
    return FORMATS[name] if name else None


def _guess(row: Mapping[str, Any]) -> str | None:
    prompt, chosen, rejected = row.get("prompt"), row.get("chosen"), row.get("rejected")
    if "completion" in row and "chosen" not in row:
        return "unpaired-chat" if are_messages(row["completion"]) or isinstance(prompt, list) else "unpaired-text"
    if are_messages(chosen) or are_messages(rejected) or isinstance(prompt, list):
        if isinstance(prompt, str):
            return "ultrafeedback" if any(name in row for name in _SCORES) else "chat-implicit"
        return "chat" if prompt else "chat-implicit"
    if "instruction" in row:
        return "alpaca"
    if "prompt" in row:
        if isinstance(prompt, str) and is_transcript(prompt):
            return "hh-explicit"
        return "text-system" if "system" in row else "text"
    if isinstance(chosen, str) and isinstance(rejected, str):
        if is_transcript(chosen) and is_transcript(rejected):
            return "hh"
        return "text-implicit" if not named_otherwise(row) else None
    return None


def majority(rows: Sequence[Mapping[str, Any]]) -> Format | None:
    """What most of the first rows look like, so that one odd row at the top decides nothing."""
    votes = Counter(name for row in rows if (name := _guess(row)))
    return FORMATS[votes.most_common(1)[0][0]] if votes else None


def named_otherwise(row: Mapping[str, Any]) -> str | None:
    """The column that seems to hold the prompt under another name."""
    return next((str(name) for name in row if any(like in str(name).lower() for like in PROMPT_LIKE)), None)


def are_messages(value: Any) -> bool:
    """Whether a value is a conversation, or meant to be one."""
    if isinstance(value, dict):
        return "content" in value or "value" in value
    return isinstance(value, list) and any(isinstance(message, dict) for message in value)


def is_transcript(text: str) -> bool:
    """Whether a text is Anthropic's way to write a conversation."""
    begins = TRANSCRIPT.match(text)
    return begins is not None and begins[1] == "Human" and "\n\nAssistant:" in text
