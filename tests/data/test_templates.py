"""Templates: the exact text that the model reads."""

from __future__ import annotations

import pytest

from harness.data.prompts import Ask, prompt_id_of
from harness.data.templates import render_prompt
from harness.errors import HarnessError

HEAD = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
TALK = Ask(messages=({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}))


def test_alpaca_with_input() -> None:
    """The book's template to the letter, with an input."""
    wanted = f"{HEAD}\n\n### Instruction:\nAdd.\n\n### Input:\n1 + 2\n\n### Response:\n"
    assert render_prompt("alpaca", Ask(instruction="Add.", input="1 + 2")) == wanted


def test_alpaca_without_input() -> None:
    """No input, no header of an input."""
    wanted = f"{HEAD}\n\n### Instruction:\nAdd.\n\n### Response:\n"
    assert render_prompt("alpaca", Ask(instruction="Add.")) == wanted


def test_plain_is_the_question() -> None:
    """Nothing is added to a plain prompt."""
    assert render_prompt("plain", Ask(instruction="Add.", input="1 + 2")) == "Add.\n\n1 + 2"


def test_chat_renders_the_messages_given() -> None:
    """The model's own template sees the roles and contents of the row."""
    assert render_prompt("chat", TALK, lambda messages: messages[1]["content"]) == "Yes?"


def test_chat_makes_a_text_prompt_the_users_message() -> None:
    """A text prompt is said by the user."""
    rendered = render_prompt("chat", Ask(instruction="Add."), lambda messages: repr(messages))
    assert rendered == "[{'role': 'user', 'content': 'Add.'}]"


def test_chat_without_a_chat_template_is_refused() -> None:
    """The error offers the other templates."""
    with pytest.raises(HarnessError, match="--template plain"):
        render_prompt("chat", TALK)


def test_alpaca_takes_a_conversation_as_instruction() -> None:
    """Messages under another template keep their speakers."""
    assert "### Instruction:\nuser: Hi\n\nassistant: Yes?\n\n###" in render_prompt("alpaca", TALK)


@pytest.mark.parametrize("spelling", ["what is it?", "What  is\nIT? ", "\uff37hat is it?"])
def test_a_prompts_identity_forgets_case_spacing_and_form(spelling: str) -> None:
    """Normalised alike, one prompt."""
    assert prompt_id_of(spelling) == prompt_id_of("What is it?")


def test_a_prompts_identity_is_16_hex_digits() -> None:
    """The identity is a digest that fits in a file."""
    assert len(prompt_id_of("x")) == 16
    assert int(prompt_id_of("x"), 16) >= 0


def test_different_prompts_differ() -> None:
    """Another word, another prompt."""
    assert prompt_id_of("What is it?") != prompt_id_of("What was it?")
