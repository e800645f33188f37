"""Tokens of a model's folder: which files say what, and what is wrong with them in one line."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from tiktoken.load import data_gym_to_mergeable_bpe_ranks
from transformers import GPT2Tokenizer

from models.failure import ModelError
from models.tokens import GPT2_PATTERN, MARK, Ranked, byte_level, printable_bytes, tokens_from_folder
from tests.conftest import SPECIAL, write_byte_tokenizer
from tests.models.tokens.texts import hard_texts, trained, write_trained


def write_gpt2(folder: Path) -> None:
    """vocab.json and merges.txt numbered as GPT-2's: bytes, merges, the end of a text."""
    merges = [tuple(pair) for pair in json.loads(trained("gpt2"))["model"]["merges"]]
    names = [*printable_bytes().values(), *(left + right for left, right in merges), "<|endoftext|>"]
    vocabulary = {name: i for i, name in enumerate(names)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges), ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture
def gpt2(tmp_path: Path) -> Path:
    write_gpt2(tmp_path)
    return tmp_path


def test_gpt2s_old_layout_is_tiktokens_own_gpt2(gpt2: Path) -> None:
    """Read from the same two files by tiktoken's own reader, with its own pattern."""
    ranks = data_gym_to_mergeable_bpe_ranks(str(gpt2 / "merges.txt"), str(gpt2 / "vocab.json"))
    own = tiktoken.Encoding(name="gpt2", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={})
    tokens = tokens_from_folder(gpt2)
    assert isinstance(tokens.speller, Ranked)
    assert [t for t in hard_texts(20_000, seed=6) if list(tokens.encode(t)) != own.encode_ordinary(t)] == []
    assert tokens.end == tokens.special["<|endoftext|>"] == len(ranks)


def test_gpt2s_old_layout_is_that_of_transformers(gpt2: Path) -> None:
    """GPT2Tokenizer on the same two files."""
    theirs = GPT2Tokenizer.from_pretrained(gpt2)
    tokens = tokens_from_folder(gpt2)
    texts = [t for t in hard_texts(3000, seed=7) if "<|" not in t]
    assert [t for t in texts if list(tokens.encode(t)) != theirs(t).input_ids] == []


def test_a_vocabulary_without_merges_is_read_by_its_ids(gpt2: Path) -> None:
    """vocab.json alone is enough: ids are ranks."""
    whole = tokens_from_folder(gpt2)
    (gpt2 / "merges.txt").unlink()
    tokens = tokens_from_folder(gpt2)
    assert [t for t in hard_texts(2000, seed=8) if tokens.encode(t) != whole.encode(t)] == []


def test_a_vocabulary_without_a_letters_byte_is_refused() -> None:
    """Text in that script would vanish."""
    vocabulary = {char: byte for byte, char in printable_bytes().items() if byte != 0xC3}
    with pytest.raises(ValueError, match="the byte 0xc3 has no token"):
        byte_level(vocabulary, pattern=GPT2_PATTERN, end=0, special={})


def test_a_text_begins_as_the_tokenizer_begins_it(tmp_path: Path) -> None:
    """Llama 2 puts <s> before a text, once: not where the chat template has written it."""
    write_trained("llama2", tmp_path, bos_token="<s>", chat_template="{{ bos_token }}{{ messages[0].content }}")
    tokens = tokens_from_folder(tmp_path)
    first = tokens.special["<s>"]
    assert tokens.encode_prompt("hello")[0] == first
    assert first not in tokens.encode("hello")
    assert tokens.encode_prompt(f"{MARK}<s>{MARK}hello") == tokens.encode_prompt("hello")


def test_a_chat_template_in_a_file_of_its_own_is_read_where_no_other_is(tmp_path: Path) -> None:
    """chat_template.json, as processors kept it; what is written has it where transformers looks today."""
    (tmp_path / "in").mkdir()
    write_trained("llama2", tmp_path / "in", bos_token="<s>")
    own = "{{ messages[0].content }}</s>"
    (tmp_path / "in" / "chat_template.json").write_text(json.dumps({"chat_template": own}))
    tokens = tokens_from_folder(tmp_path / "in")
    tokens.write_folder(tmp_path / "out")
    assert tokens.chat_template == tokens_from_folder(tmp_path / "out").chat_template == own
    (tmp_path / "in" / "chat_template.jinja").write_text("{{ messages[0].content }}")
    assert tokens_from_folder(tmp_path / "in").chat_template == "{{ messages[0].content }}"


def test_the_end_that_the_settings_number_is_taken_where_none_is_named(tmp_path: Path) -> None:
    """By generation_config.json before config.json."""
    write_byte_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": SPECIAL["<|im_start|>"]}))
    assert tokens_from_folder(tmp_path).end == SPECIAL["<|im_start|>"]
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [SPECIAL["<|im_end|>"], 5]}))
    assert tokens_from_folder(tmp_path).end == SPECIAL["<|im_end|>"]


def test_a_token_that_only_the_settings_add_is_known(tmp_path: Path) -> None:
    """tokenizer_config.json may have more of them than tokenizer.json."""
    write_byte_tokenizer(tmp_path)
    late = {"300": {"content": "<|late|>", "special": True, "lstrip": False, "rstrip": False, "normalized": False}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|late|>", "added_tokens_decoder": late}))
    tokens = tokens_from_folder(tmp_path)
    assert tokens.end == tokens.highest == 300


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    """The line says which files are missing."""
    with pytest.raises(ModelError, match=r"neither tokenizer\.json nor vocab\.json"):
        tokens_from_folder(tmp_path)


def test_sentencepieces_own_file_alone_is_refused(tmp_path: Path) -> None:
    """With the way to the file that is read."""
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x0e")
    with pytest.raises(ModelError, match=r"just SentencePiece's tokenizer\.model: save tokenizer\.json with"):
        tokens_from_folder(tmp_path)


def test_an_end_token_that_is_none_is_refused(tmp_path: Path) -> None:
    """The line names it."""
    write_byte_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    with pytest.raises(ModelError, match="end token '</s>'"):
        tokens_from_folder(tmp_path)


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    """Nothing would end a response."""
    write_trained("llama2", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ModelError, match="no token ends a response: name one as eos_token"):
        tokens_from_folder(tmp_path)


def spoil(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda description: description | changes


def spoil_model(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda description: description | {"model": description["model"] | changes}


def spoil_token(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def spoilt(description: dict[str, Any]) -> dict[str, Any]:
        first, *rest = description["added_tokens"]
        return description | {"added_tokens": [first | changes, *rest]}

    return spoilt


DAMAGE = {
    "no model": spoil(model=None),
    "no vocabulary": spoil_model(vocab=None),
    "a list of ids": spoil_model(vocab=[1, 2]),
    "ids that are words": spoil_model(vocab={"a": "b"}),
    "merges of unknown tokens": spoil_model(merges=[["xx", "yy"]]),
    "merges of three": spoil_model(merges=[["a", "b", "c"]]),
    "merges that are numbers": spoil_model(merges=[1]),
    "an unknown kind": spoil_model(type="Runes"),
    "an unknown step": spoil(pre_tokenizer={"type": "Scissors"}),
    "a step that is a word": spoil(pre_tokenizer="ByteLevel"),
    "an unknown pattern": spoil(pre_tokenizer={"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"}),
    "added tokens of no kind": spoil(added_tokens=[1]),
    "an id that is a word": spoil_token(id="zero"),
    "an id below zero": spoil_token(id=-4),
    "a name that is a number": spoil_token(content=7),
    "no name": spoil_token(content=""),
    "a post-processor of no kind": spoil(post_processor={"type": "TemplateProcessing"}),
    "a list": lambda description: [description],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_tokenizer_is_one_line(damage: str, tmp_path: Path) -> None:
    """That names the folder, and no traceback."""
    write_byte_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(DAMAGE[damage](json.loads(path.read_text()))))
    with pytest.raises(ModelError, match="copy") as caught:
        tokens_from_folder(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("text", ["{", "", "[1]", "\x00", '"x"', "[" * 100_000])
def test_a_file_that_is_no_object_is_one_line(name: str, text: str, tmp_path: Path) -> None:
    """Say so, and what to do."""
    write_byte_tokenizer(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(ModelError, match="copy") as caught:
        tokens_from_folder(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("setting", ["chat_template", "eos_token", "added_tokens_decoder", "bos_token"])
@pytest.mark.parametrize("value", [3, [3], {"content": 3}, [[]], {"3": None}])
def test_odd_settings_are_one_line_or_none(setting: str, value: object, tmp_path: Path) -> None:
    """They are read as what they can be, or refused, and break nothing."""
    write_byte_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", setting: value}))
    with contextlib.suppress(ModelError):
        tokens_from_folder(tmp_path)
