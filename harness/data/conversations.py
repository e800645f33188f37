"""Messages taken apart: what comes before the last answer is the prompt, whichever way a row writes it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.data.faults import RowFaultError
from harness.data.formats import TRANSCRIPT
from harness.data.prompts import Ask, Message
from harness.data.schemas import ChatRow, MessageRow, UnpairedChatRow

_TURN = re.compile(r"\n\n(Human|Assistant):[ \t]?")
_ROLES = {"Human": "user", "Assistant": "assistant"}
Prompt = list[MessageRow] | str | None


class PromptMissingError(RowFaultError):
    """Responses without anything that they answer."""


def part_pair(row: ChatRow) -> tuple[Ask, str, str]:
    """The messages before the answers, and the two answers."""
    chosen, rejected = answer(row.chosen, "chosen"), answer(row.rejected, "rejected")
    before = row.chosen[:-1]
    if before != row.rejected[:-1]:
        raise _fault("has 'chosen' and 'rejected' that differ before their last message", "make them alike up to there")
    return Ask(messages=_prompt(row.prompt, before)), chosen, rejected


def part_single(row: UnpairedChatRow) -> tuple[Ask, str]:
    """The messages before the answer, and the answer."""
    return Ask(messages=_prompt(row.prompt, row.completion[:-1])), answer(row.completion, "completion")


def answer(messages: Sequence[MessageRow], name: str) -> str:
    """The last message, which has to be the assistant's."""
    if not messages or messages[-1].role != "assistant":
        found = f"a last message by '{messages[-1].role}'" if messages else "no messages"
        raise _fault(f"has {found} in '{name}'", "it has to end with one by 'assistant'")
    return messages[-1].content


def _prompt(prompt: Prompt, before: Sequence[MessageRow]) -> tuple[Message, ...]:
    """The row's own prompt, or the messages that both responses begin with, or the one followed by the other."""
    if isinstance(prompt, str):
        return _prompt_of_text(prompt, before)
    own, begun = list(prompt or ()), list(before)
    if own and begun and begun[: len(own)] != own:
        raise _fault("has a 'prompt' that its responses do not begin with", "leave one of them out")
    messages = begun or own
    if not messages:
        raise PromptMissingError("has no message before the response", "add a 'prompt' with messages", "conversation")
    return tuple({"role": message.role, "content": message.content} for message in messages)


def _prompt_of_text(prompt: str, before: Sequence[MessageRow]) -> tuple[Message, ...]:
    """A prompt in plain text says what the user asks; where the responses begin with messages, it is one of theirs."""
    if not before:
        return _prompt([MessageRow(role="user", content=prompt)] if prompt.strip() else None, before)
    asked = {message.content.strip() for message in before if message.role == "user"}
    if prompt.strip() and prompt.strip() not in asked:
        raise _fault("has a 'prompt' that its responses do not begin with", "leave one of them out")
    return _prompt(None, before)


def part_transcripts(chosen: str, rejected: str) -> tuple[Ask, str, str]:
    """Two of Anthropic's transcripts that are alike up to their last answer."""
    mine, theirs = _turns(chosen, "chosen"), _turns(rejected, "rejected")
    return part_pair(ChatRow(chosen=mine, rejected=theirs))


def part_transcript_prompt(prompt: str) -> Ask:
    """A transcript that ends where the assistant is to speak."""
    turns = _split(prompt)
    if turns and turns[-1] == ("assistant", ""):
        turns.pop()
    if not turns or turns[-1][0] != "user":
        raise _fault("has a 'prompt' that does not end with 'Human: …'", "end it there, or with an empty 'Assistant:'")
    return Ask(messages=tuple({"role": role, "content": content} for role, content in turns))


def _turns(transcript: str, name: str) -> list[MessageRow]:
    turns = _split(transcript)
    if not turns:
        raise _fault(f"has no 'Human:' and 'Assistant:' in '{name}'", "write it as a transcript, or delete the row")
    if empty := next((role for role, content in turns if not content), None):
        raise RowFaultError(f"has an empty turn by '{empty}' in '{name}'", "fill it, or delete the row", "empty")
    return [MessageRow(role=role, content=content) for role, content in turns]


def _split(transcript: str) -> list[tuple[str, str]]:
    """Speaker and words of each turn, spaces around the words left out."""
    if not TRANSCRIPT.match(transcript):
        return []
    parts = _TURN.split("\n\n" + transcript.lstrip())[1:]
    return [(_ROLES[who], said.strip()) for who, said in zip(parts[::2], parts[1::2], strict=True)]


def part_texts(chosen: str, rejected: str) -> tuple[Ask, str, str]:
    """Two texts cut where they stop to be alike, back to the space before the word that differs.

    TRL cuts at the character (`extract_prompt`), in the middle of a word where two words begin alike; else the same.
    Two rows of one question may be cut at two places: `harness.data.beginnings` keeps them in one split.
    """
    ends = (place for place, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b)
    end = next(ends, min(len(chosen), len(rejected)))
    while end > 0 and not (chosen[end - 1].isspace()):
        end -= 1
    prompt = chosen[:end].rstrip()
    if not prompt:
        raise _fault("has 'chosen' and 'rejected' that do not begin alike, and no 'prompt'", "add the prompt")
    return Ask(instruction=prompt), chosen[len(prompt) :], rejected[len(prompt) :]


def _fault(what: str, remedy: str) -> RowFaultError:
    return RowFaultError(what, remedy, "conversation")
