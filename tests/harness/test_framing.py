"""A bench's template in the words of other tools."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from harness.data.prompts import Ask
from harness.data.templates import render_prompt
from harness.errors import HarnessError
from harness.framing import frame_of
from models.decoder import Decoder
from models.tokens import MARK, Tokens

QUESTION = 'What is "3" plus {{ 4 }}?'
TEMPLATES = ("alpaca", "plain", "chat")


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_tokenizer_with_this_chat_template_writes_the_benchs_prompt(
    template: str, tiny_model: tuple[Decoder, Tokens], tiny_model_folder: Path
) -> None:
    """In transformers, character by character; what a person wrote stays as it is."""
    from transformers import AutoTokenizer

    tokens = tiny_model[1]
    frame = frame_of(template, tokens)
    theirs = AutoTokenizer.from_pretrained(tiny_model_folder)
    if template != "chat":
        theirs.chat_template = frame.jinja
    message = [{"role": "user", "content": QUESTION}]
    written = theirs.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    prompt = render_prompt(template, Ask(instruction=QUESTION), tokens.render_chat)
    assert written == prompt.replace(MARK, "") == f"{frame.before}{QUESTION}{frame.after}"
    ids = theirs(written, add_special_tokens=False)["input_ids"]
    assert tuple(ids) == tokens.encode_prompt(prompt)


def test_an_alpaca_rows_input_is_a_part_of_its_message(tiny_model: tuple[Decoder, Tokens]) -> None:
    """As the card says to write it."""
    frame = frame_of("alpaca", tiny_model[1])
    row = Ask(instruction="Add.", input="3 and 4")
    assert f"{frame.before}Add.\n\n### Input:\n3 and 4{frame.after}" == render_prompt("alpaca", row)


def test_turns_follow_one_another_as_they_were_trained(tiny_model: tuple[Decoder, Tokens]) -> None:
    """A response, then the end token, then the next question in its frame."""
    from jinja2 import Template

    frame = frame_of("alpaca", tiny_model[1])
    roles = ("system", "user", "assistant", "user")
    messages = [{"role": role, "content": f"<{n}>"} for n, role in enumerate(roles)]
    asked = [f"{frame.before}<{n}>{frame.after}" for n in (1, 3)]
    written = Template(frame.jinja).render(messages=messages)
    assert written == f"<0>\n\n{asked[0]}<2><|im_end|>{asked[1]}"


def test_what_every_text_begins_with_stands_in_the_chat_template(tiny_model: tuple[Decoder, Tokens]) -> None:
    """Since tools tokenize a chat without adding anything."""
    tokens = dataclasses.replace(tiny_model[1], begin=(256,))
    assert frame_of("plain", tokens).begin == "<|endoftext|>"
    assert frame_of("chat", tokens).begin == ""


def test_ollamas_template_is_the_benchs(tiny_model: tuple[Decoder, Tokens]) -> None:
    """In Go's words, ended as it was trained, greedy as it was judged."""
    frame = frame_of("chat", tiny_model[1])
    assert frame.modelfile("x-F16.gguf") == (
        "FROM ./x-F16.gguf\n"
        'TEMPLATE """<|im_start|>user\n{{ .Prompt }}<|im_end|>\n<|im_start|>assistant\n{{ .Response }}<|im_end|>"""\n'
        "PARAMETER temperature 0\n"
        'PARAMETER stop "<|im_end|>"\n'
    )


def test_what_a_chat_template_begins_with_is_not_said_twice_to_ollama(tiny_model: tuple[Decoder, Tokens]) -> None:
    """The GGUF file says that every text begins with it; where it does not, the template has to."""
    own = "{{ '<|endoftext|>' }}" + (tiny_model[1].chat_template or "")
    tokens = dataclasses.replace(tiny_model[1], chat_template=own)
    once = frame_of("chat", tiny_model[1]).go
    assert frame_of("chat", dataclasses.replace(tokens, begin=(256,))).go == once
    assert frame_of("chat", tokens).go == f"<|endoftext|>{once}"


def test_braces_of_a_template_are_text_to_ollama(tiny_model: tuple[Decoder, Tokens]) -> None:
    frame = dataclasses.replace(frame_of("plain", tiny_model[1]), before="{{ .System }}")
    assert frame.go.startswith('{{ "{{" }} .System }}{{ .Prompt }}')


def test_a_template_that_no_modelfile_can_say_is_one_line(tiny_model: tuple[Decoder, Tokens]) -> None:
    frame = dataclasses.replace(frame_of("plain", tiny_model[1]), before='"""')
    with pytest.raises(HarnessError, match="no Modelfile can say: export with --to hf"):
        frame.modelfile("x.gguf")


def test_a_template_that_repeats_the_question_is_one_line(tiny_model: tuple[Decoder, Tokens]) -> None:
    twice = "{% for m in messages %}{{ m['content'] }}{{ m['content'] }}{% endfor %}"
    with pytest.raises(HarnessError, match="writes a question 2 times"):
        frame_of("chat", dataclasses.replace(tiny_model[1], chat_template=twice))
