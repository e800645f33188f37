"""Prompt templates by name: what the model reads before its response."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from harness.data.prompts import Ask, Message
from harness.errors import HarnessError
from models.tokens import MARK

RenderChat = Callable[[list[Message]], str]
"""A model's chat template: messages → the text up to where the assistant's response begins."""

TEMPLATES = ("auto", "alpaca", "plain", "chat")

_ALPACA_HEAD = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
)


def render_prompt(template: str, ask: Ask, render_chat: RenderChat | None = None) -> str:
    """The prompt that the model reads, by one of the named templates; `auto` is settled before."""
    match template:
        case "alpaca":
            return _alpaca(ask).replace(MARK, "")  # only a chat template may mark control tokens
        case "plain":
            return ask.question.replace(MARK, "")
        case "chat":
            return _chat(ask, render_chat)
    raise AssertionError(f"{template} is not a settled template")


def check_template(name: str) -> str:
    """The name itself, if there is a template of that name."""
    if name in TEMPLATES:
        return name
    close = difflib.get_close_matches(name, TEMPLATES, n=1)
    guess = f"did you mean '{close[0]}'? " if close else ""
    raise HarnessError(f"no template named '{name}': {guess}there are {', '.join(TEMPLATES)}")


def _alpaca(ask: Ask) -> str:
    """The template of the book's DPO notebook, up to and including the line of the response's header."""
    instruction = ask.question if ask.messages else ask.instruction
    given = f"\n\n### Input:\n{ask.input}" if ask.input else ""
    return f"{_ALPACA_HEAD}\n\n### Instruction:\n{instruction}{given}\n\n### Response:\n"


def _chat(ask: Ask, render_chat: RenderChat | None) -> str:
    if render_chat is None:
        raise HarnessError(
            "messages (the template 'chat') need a model with a chat template, and this one has none: "
            "use --template alpaca or --template plain"
        )
    return render_chat(list(ask.messages) or [{"role": "user", "content": ask.question}])
