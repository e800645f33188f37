"""Tokens are those of the model's own tokenizer, whatever the kind, and go through tiktoken where that is proven."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE

from models.tokens import MARK, Ranked, Tokens, tokens_from_folder, tokens_from_gguf
from models.tokens.ranked import LONG
from tests.models.tokens.texts import OTHERS, RANKED, SPECIAL, hard_texts, write_trained

TEXTS = hard_texts(20_000, seed=5)
KINDS = (*RANKED, *OTHERS)
COMMON = ("gpt2", "smollm", "llama3", "qwen2", "qwen3")


def disagreements(tokens: Tokens, theirs: Tokenizer, texts: list[str]) -> list[str]:
    """Texts on which the two differ."""
    encodings = theirs.encode_batch(texts, add_special_tokens=False)
    return [t for t, e in zip(texts, encodings, strict=True) if tokens.encode(t) != tuple(e.ids)]


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_those_of_the_tokenizer(kind: str, tmp_path: Path) -> None:
    """On 20,000 texts of many scripts, digits, blanks, emoji, special tokens; on 6,000 for rarer kinds."""
    theirs = write_trained(kind, tmp_path)
    tokens = tokens_from_folder(tmp_path)
    assert isinstance(tokens.speller, Ranked) == (kind in RANKED)
    # To Unigram's own tokenizer a control token's name is the token, whatever is asked of it; not to ours.
    texts = [t for t in TEXTS[:6000] if not any(name in t for name in SPECIAL)] if kind == "unigram" else TEXTS
    texts = texts if kind in COMMON else texts[:6000]
    assert disagreements(tokens, theirs, texts) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "smollm", "llama3", "qwen2"])
def test_every_character_is_cut_alike(kind: str, tmp_path: Path) -> None:
    """Also those that Unicode has not assigned yet, on which the tables of two libraries may differ."""
    theirs = write_trained(kind, tmp_path)
    tokens = tokens_from_folder(tmp_path)
    planes = (range(0xD800), range(0xE000, 0xFDD0), range(0xFDD1, 0x40000), range(0xE0000, 0xE1000))
    texts = [f"a{c}1 {c}{c}'{c} .{c}\n" for plane in planes for c in map(chr, plane)]
    assert disagreements(tokens, theirs, texts) == []


@pytest.mark.parametrize("kind", ["gpt2", "llama3"])
def test_a_text_of_a_million_blanks_is_read(kind: str, tmp_path: Path) -> None:
    """One row of a data set may hold anything."""
    theirs = write_trained(kind, tmp_path)
    assert disagreements(tokens_from_folder(tmp_path), theirs, ["x" + " " * 10**6 + "y"]) == []


@pytest.mark.parametrize("kind", ["gpt2", "smollm", "llama3", "qwen2"])
@pytest.mark.parametrize("blank", [" ", "\n", " \n", "\t1", "'", "a"])
def test_long_runs_are_read_alike(kind: str, blank: str, tmp_path: Path) -> None:
    """Up to where tiktoken is asked, and from there on."""
    theirs = write_trained(kind, tmp_path)
    texts = [blank * (length // len(blank)) + "x" for length in (5_000, LONG - 1, LONG + 1)]
    assert disagreements(tokens_from_folder(tmp_path), theirs, texts) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_comes_back(kind: str, tmp_path: Path) -> None:
    """As the tokenizer itself gives it back, special tokens left out, ids that no token has too."""
    theirs = write_trained(kind, tmp_path)
    tokens = tokens_from_folder(tmp_path)
    theirs.encode_special_tokens = True
    for text in (t for t in TEXTS[::40] if not any(name in t for name in SPECIAL)):
        ids = theirs.encode(text, add_special_tokens=False).ids
        assert tokens.decode((*ids, tokens.end, 10**6)) == theirs.decode(ids)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["</s>", "<unk>", "<s>", "<|endoftext|>"])
def test_a_special_token_written_in_a_text_is_text(kind: str, name: str, tmp_path: Path) -> None:
    """In responses and in prompts, also where the vocabulary itself lists the token, as Unigram's does."""
    write_trained(kind, tmp_path)
    tokens = tokens_from_folder(tmp_path)
    unknown = {tokens.special.get("<unk>")} if kind in ("unigram", "wordpiece") else set()
    control = set(tokens.special.values()) - unknown  # what they have for characters they do not know
    for text in (name, f"a {name} b", f"{name}{name}", f" {name}\n"):
        assert not control & set(tokens.encode(text))
        assert not control & set(tokens.encode_prompt(text)[len(tokens.begin) :])


@pytest.mark.parametrize("kind", KINDS)
def test_a_marked_token_is_read_as_the_tokenizer_reads_its_name(kind: str, tmp_path: Path) -> None:
    """A prompt of control tokens and texts has the ids of the same prompt in the tokenizer's own hands."""
    theirs = write_trained(kind, tmp_path)
    theirs.encode_special_tokens = False
    tokens = tokens_from_folder(tmp_path)
    end = tokens.decode(()) + next(name for name, i in tokens.special.items() if i == tokens.end)
    for texts in (("", "hi there", ""), ("a  1", " b", "  c\n"), ("你好", "\n", " x ")):
        ours = tokens.encode_prompt(f"{MARK}{end}{MARK}".join(texts))
        assert list(ours) == theirs.encode(end.join(texts), add_special_tokens=False).ids


def lists_the_wrong_way_round(description: dict[str, Any]) -> None:
    """Merges that are not in the order of the ids."""
    description["model"]["merges"].reverse()


def lacks_a_step(description: dict[str, Any]) -> None:
    """A merge less, so that a token cannot be put together any more, and tiktoken would."""
    del description["model"]["merges"][300]


def says_whole_words(description: dict[str, Any]) -> None:
    """Words that are tokens are taken whole, also such as no merges lead to."""
    del description["model"]["merges"][300]
    description["model"]["ignore_merges"] = True


def knows_a_byte_less(description: dict[str, Any]) -> None:
    """As SmolLM 2's vocabulary lacks six control characters."""
    model = description["model"]
    model["vocab"]["a rest"] = model["vocab"].pop("Ā")
    model["merges"] = [pair for pair in model["merges"] if "Ā" not in pair[0] + pair[1]]


@pytest.mark.parametrize("odd", [lists_the_wrong_way_round, lacks_a_step, says_whole_words, knows_a_byte_less])
def test_an_odd_vocabulary_still_gives_its_own_ids(odd: Any, tmp_path: Path) -> None:
    """The proof of equality fails, and what it fails for goes through the library."""
    write_trained("gpt2", tmp_path)
    description = json.loads((tmp_path / "tokenizer.json").read_text())
    odd(description)
    (tmp_path / "tokenizer.json").write_text(json.dumps(description))
    theirs = Tokenizer.from_str(json.dumps(description))
    theirs.encode_special_tokens = True
    assert disagreements(tokens_from_folder(tmp_path), theirs, [*TEXTS[:4000], ".\x00.\x00 a  \x00b", "\x00"]) == []


@pytest.fixture(scope="module")
def smollm2_path_tokens(smollm2_path: Path) -> tuple[Tokens, Tokenizer]:
    """The embedded model's tokens, and Hugging Face's tokenizer made of its GGUF's vocabulary and merges."""
    fields = {name: f.contents() for name, f in gguf.GGUFReader(smollm2_path).fields.items()}
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"]]
    vocabulary = {name: i for i, name in enumerate(fields["tokenizer.ggml.tokens"])}
    theirs = Tokenizer(BPE(vocab=vocabulary, merges=merges))
    digits, level = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.pre_tokenizer = pre_tokenizers.Sequence([digits, level])
    return tokens_from_gguf(fields, smollm2_path), theirs


def test_smollm2_tokens_are_those_of_its_tokenizer(smollm2_path_tokens: tuple[Tokens, Tokenizer]) -> None:
    """On the same 20,000 texts, with 49,152 tokens; what it cannot spell is left out as there."""
    tokens, theirs = smollm2_path_tokens
    assert isinstance(tokens.speller, Ranked)
    unspelt = ["a\x04b", "\x13", "one \x1d two", "3\x16 3", "\x06\x14", ".\x04.", "a  \x04", "a\U00050000b"]
    assert disagreements(tokens, theirs, [*TEXTS, *unspelt]) == []


def test_every_token_of_smollm2_is_its_own(smollm2_path_tokens: tuple[Tokens, Tokenizer]) -> None:
    """49,152 of them, 17 special, and the end of a turn ends a response."""
    tokens, _ = smollm2_path_tokens
    assert tokens.highest == 49_151
    assert len(tokens.special) == 17
    assert tokens.special["<|im_end|>"] == tokens.end


def test_smollm2_renders_its_own_template(smollm2_path_tokens: tuple[Tokens, Tokenizer]) -> None:
    """Its system prompt comes by itself, then the message, then the assistant's turn is opened."""
    said = smollm2_path_tokens[0].render_chat([{"role": "user", "content": "hi"}]).replace(MARK, "")
    assert said.endswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")
    assert said.startswith("<|im_start|>system\n")
