"""Text to token ids and back: byte-level BPE as an exact `tiktoken.Encoding`, made from a model's own vocabulary."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiktoken
from jinja2.sandbox import ImmutableSandboxedEnvironment

from models.failure import ModelError

# How text is cut before merging. GPT-2's own pattern, from its published vocabulary's documentation.
GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# The same after every digit was split off on its own, so white space before a digit ends a piece and stays whole.
DIGITS_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\p{N}|\s+(?=\p{N})|\s+(?!\S)|\s+"


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A model's vocabulary. Special tokens written in a text are text, never control."""

    encoding: tiktoken.Encoding
    end: int  # id of the token that ends a response
    special: Mapping[str, int]
    chat_template: str | None = None
    unreadable: re.Pattern[str] | None = None  # characters that the vocabulary has no bytes for

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of plain text; a character that the vocabulary cannot spell is left out, as `tokenizers` does."""
        parts = self.unreadable.split(text) if self.unreadable else [text]
        try:
            return tuple(token for part in parts for token in self.encoding.encode_ordinary(part))
        except BaseException as error:  # tiktoken gives up on a million blanks with a panic, which is no Exception
            if type(error).__name__ != "PanicException":
                raise
            raise ModelError(f"a text of {len(text):,} characters cannot be tokenized: shorten that row") from error

    def encode_prompt(self, text: str) -> tuple[int, ...]:
        """Token ids of a prompt in its template; marked special tokens (see `render_chat`) are control tokens."""
        ids: list[int] = []
        for place, piece in enumerate(text.split(MARK)):
            control = place % 2 and piece in self.special  # every second piece stands between two marks
            ids += (self.special[piece],) if control else self.encode(piece)
        return tuple(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, special tokens left out; bytes that are no UTF-8 become U+FFFD."""
        control = set(self.special.values())
        known = [i for i in ids if i not in control and i < self.encoding.n_vocab]
        return self.encoding.decode(known, errors="replace")

    def render_chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Messages in the model's chat template, ready for the answer, with MARK around each control token.

        What people wrote cannot become control: their texts are swapped for place-holders while the template runs.
        """
        if self.chat_template is None:
            raise ModelError("this model has no chat template: bring text prompts, or --template alpaca")
        for role in (m["role"] for m in messages):
            if not re.fullmatch(r"\w{1,40}", role):
                raise ModelError(f"a message has the role {role!r}, which is no word: name it user or assistant")
        contents = [m["content"].replace(MARK, "") for m in messages]
        shown = [{"role": m["role"], "content": f"{MARK}{n}{MARK}"} for n, m in enumerate(messages)]
        try:
            template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
            text = template.from_string(self.chat_template).render(messages=shown, add_generation_prompt=True)
        except Exception as error:  # the template is the model's own code
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise ModelError(f"the model's chat template failed ({reason}): try --template alpaca") from error
        names = "|".join(re.escape(name) for name in sorted(self.special, key=len, reverse=True))

        def filled(found: re.Match[str]) -> str:
            return contents[int(found[1])] if found[1] else f"{MARK}{found[0]}{MARK}"

        # In one pass, so that what was filled in is never looked at again.
        return re.sub(f"{MARK}([0-9]+){MARK}" + (f"|{names}" if names else ""), filled, text)


MARK = "\ufdd0"  # a Unicode noncharacter: never in honest text


def byte_level(
    vocabulary: Mapping[str, int],
    *,
    pattern: str,
    end: int,
    special: Mapping[str, int],
    chat_template: str | None = None,
) -> Tokens:
    """An exact encoding from a byte-level BPE vocabulary (token spelled in GPT-2's printable bytes → id).

    Merging by lowest id is merging by rank, because these vocabularies number their tokens in merge order.
    """
    to_byte = {char: byte for byte, char in printable_bytes().items()}
    ranks = {bytes(to_byte[c] for c in token): rank for token, rank in vocabulary.items() if token not in special}
    if len(set(ranks.values())) < len(ranks):
        raise ValueError("two tokens have one id")
    encoding = tiktoken.Encoding(
        name="from-vocabulary", pat_str=pattern, mergeable_ranks=ranks, special_tokens=dict(special)
    )
    return Tokens(
        encoding=encoding, end=end, special=special, chat_template=chat_template, unreadable=_unreadable(ranks)
    )


# Bytes that no UTF-8 has, and the characters that begin with a byte of the planes where none is assigned.
_NEVER = {0xC0, 0xC1, *range(0xF5, 0x100)}
_PLANES = {0xF1: "\U00040000-\U0007ffff", 0xF2: "\U00080000-\U000bffff"}


def _unreadable(ranks: Mapping[bytes, int]) -> re.Pattern[str] | None:
    """Characters that need a byte which has no token; ValueError where these are letters."""
    missing = {byte for byte in range(256) if bytes([byte]) not in ranks} - _NEVER
    if letters := [byte for byte in missing if byte >= 0x80 and byte not in _PLANES]:
        raise ValueError(f"the byte {min(letters):#x} has no token")
    spelt = "".join(_PLANES.get(byte) or re.escape(chr(byte)) for byte in sorted(missing))
    return re.compile(f"[{spelt}]") if spelt else None


def printable_bytes() -> dict[int, str]:
    """Each byte's stand-in character in a byte-level vocabulary: itself if printable, else from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    table = {byte: chr(byte) for byte in printable}
    others = (byte for byte in range(256) if byte not in table)
    return table | {byte: chr(0x100 + n) for n, byte in enumerate(others)}


def tokens_from_folder(folder: Path) -> Tokens:
    """The tokens of a model folder in Hugging Face layout: tokenizer.json, or GPT-2's vocab.json."""
    try:
        return _tokens_from_folder(folder)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ModelError(f"{folder}: the tokenizer cannot be read ({reason}): copy it again") from error


def _tokens_from_folder(folder: Path) -> Tokens:
    if (folder / "tokenizer.json").exists():
        return _from_tokenizer_json(folder)
    if (folder / "vocab.json").exists():
        vocabulary = read_json(folder / "vocab.json")
        if "<|endoftext|>" not in vocabulary:
            raise ModelError(f"{folder}/vocab.json has no <|endoftext|>, so nothing would end a response")
        end = vocabulary["<|endoftext|>"]
        return byte_level(vocabulary, pattern=GPT2_PATTERN, end=end, special={"<|endoftext|>": end})
    raise ModelError(f"{folder} has neither tokenizer.json nor vocab.json: copy the tokenizer beside the weights")


def _from_tokenizer_json(folder: Path) -> Tokens:
    description = read_json(folder / "tokenizer.json")
    special = {t["content"]: t["id"] for t in description.get("added_tokens", []) if t["special"]}
    settings = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
    end_token = settings.get("eos_token", "<|endoftext|>")
    end_text = end_token["content"] if isinstance(end_token, dict) else end_token
    if end_text not in special:
        raise ModelError(f"{folder}: the end token {end_text!r} is not among tokenizer.json's special tokens")
    return byte_level(
        description["model"]["vocab"],
        pattern=_pattern(description, folder),
        end=special[end_text],
        special=special,
        chat_template=settings.get("chat_template"),
    )


def _pattern(description: dict[str, Any], folder: Path) -> str:
    """Which of the two known ways of cutting text this tokenizer uses; others are refused, not guessed."""
    cutter = description["pre_tokenizer"] or {}
    steps = cutter.get("pretokenizers", [cutter])
    kinds = [step.get("type") for step in steps]
    exact = description["model"]["type"] == "BPE" and not description.get("normalizer")
    if exact and kinds == ["ByteLevel"] and not steps[0]["add_prefix_space"]:
        return GPT2_PATTERN
    if exact and kinds == ["Digits", "ByteLevel"] and steps[0]["individual_digits"]:
        return DIGITS_PATTERN
    raise ModelError(
        f"{folder}/tokenizer.json cuts text by {kinds}: only byte-level BPE in GPT-2's or SmolLM's way is known"
    )


def read_json(path: Path) -> Any:
    """A file of a model's folder; ModelError when it is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read ({error}): copy the model's folder again") from error
