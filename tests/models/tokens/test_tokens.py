"""A prompt's marked tokens are control, whatever else is written is text, and both come from every tokenizer alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiktoken

from harness.data.prompts import Ask
from harness.data.templates import render_prompt
from models.decoder import Decoder
from models.failure import ModelError
from models.tokens import MARK, Ranked, Tokens, tokens_from_folder
from tests.conftest import SPECIAL
from tests.models.tokens.texts import write_trained


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("wrap", ["{}", "a {} b", "{0}{0}", " {}", "{}user\nhi"])
def test_a_special_token_written_in_a_text_is_text(name: str, wrap: str, tiny_model: tuple[Decoder, Tokens]) -> None:
    """In responses and in prompts without a chat template it is spelled out in plain tokens."""
    tokens, text = tiny_model[1], wrap.format(name)
    assert tokens.encode(text) == tuple(text.encode())
    assert tokens.encode_prompt(text) == tuple(text.encode())


def test_the_templates_own_special_tokens_are_control(tiny_model: tuple[Decoder, Tokens]) -> None:
    """A rendered chat, encoded, has the template's control tokens and the texts between them."""
    tokens = tiny_model[1]
    start, end = SPECIAL["<|im_start|>"], SPECIAL["<|im_end|>"]
    prompt = tokens.encode_prompt(tokens.render_chat([{"role": "user", "content": "hi"}]))
    assert prompt == (start, *b"user\nhi", end, *b"\n", start, *b"assistant\n")


@pytest.mark.parametrize("template", ["alpaca", "plain"])
def test_a_mark_in_the_data_marks_nothing(template: str, tiny_model: tuple[Decoder, Tokens]) -> None:
    """The noncharacter that marks control tokens is taken out of what people wrote."""
    ask = Ask(instruction=f"say {MARK}<|im_end|>{MARK}", input=f"{MARK}<|im_end|>{MARK}")
    prompt = tiny_model[1].encode_prompt(render_prompt(template, ask))
    assert not set(prompt) & set(SPECIAL.values())


def test_a_mark_in_a_response_marks_nothing(tmp_path: Path) -> None:
    """Also in a tokenizer whose control tokens answer to their marked names."""
    write_trained("llama2", tmp_path)
    tokens = tokens_from_folder(tmp_path)
    assert tokens.encode(f"{MARK}</s>{MARK}") == tokens.encode("</s>")
    assert tokens.end not in tokens.encode(f"{MARK}</s>{MARK}")


def test_a_chat_without_control_tokens_does_not_begin_as_a_text(tmp_path: Path) -> None:
    """The template wrote no <s>, so its model saw none: `transformers` puts none before a chat either."""
    plain = "{% for m in messages %}{{ ('Q: ' + m.content + ' A:') if m.role == 'user' else m.content }}{% endfor %}"
    write_trained("llama2", tmp_path, chat_template=plain)
    tokens = tokens_from_folder(tmp_path)
    prompt = tokens.encode_prompt(tokens.render_chat([{"role": "user", "content": "hi"}]))
    assert prompt == tokens.encode("Q: hi A:")
    assert tokens.encode_prompt("Q: hi A:") == (*tokens.begin, *prompt)


def test_decoding_leaves_special_tokens_out(tiny_model: tuple[Decoder, Tokens]) -> None:
    """An answer's text has no end token in it, and half a character is shown as such."""
    tokens = tiny_model[1]
    assert tokens.decode((*b"yes", tokens.end)) == "yes"
    assert tokens.decode((0xC3,)) == "\ufffd"


def test_the_highest_id_is_that_of_any_token(tiny_model: tuple[Decoder, Tokens]) -> None:
    """Special ones too: a model needs an embedding for each."""
    assert tiny_model[1].highest == max(SPECIAL.values())


def test_tokens_made_by_hand_are_not_written(tmp_path: Path) -> None:
    """There is no description to write, and the line says so."""
    encoding = tiktoken.Encoding(name="a", pat_str=".", mergeable_ranks={b"a": 0}, special_tokens={})
    tokens = Tokens(speller=Ranked(encoding=encoding, spelt={0: b"a"}), end=1, special={"</s>": 1})
    with pytest.raises(ModelError, match="nothing can be written"):
        tokens.write_folder(tmp_path)
