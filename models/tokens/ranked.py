"""Byte-level BPE in tiktoken: used only where it is proven to give the ids that the model's own tokenizer gives."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import tiktoken
from tokenizers import Tokenizer, normalizers
from tokenizers.models import BPE

from models.failure import ModelError
from models.tokens.library import Library
from models.tokens.marks import any_of
from models.tokens.origin import Description

LONG = 50_000  # characters from which on tiktoken's regular expressions may give up, on a run of blanks for one


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A tiktoken encoding, and `tokenizers` for the rare texts that tiktoken cannot do exactly."""

    encoding: tiktoken.Encoding
    spelt: Mapping[int, bytes]  # each id's bytes, special tokens too
    elsewhere: re.Pattern[str] | None = None  # characters that tiktoken would spell or cut otherwise
    composed: bool = False  # Unicode's NFC first, as Qwen has it
    prefix_space: bool = False
    added: Mapping[str, int] = field(default_factory=dict)  # tokens that are themselves in any text, and no control
    added_special: tuple[str, ...] = ()  # special tokens, which hide the added ones that they overlap
    description: Description | None = None

    @property
    def highest(self) -> int:
        """The largest id."""
        return max(self.spelt)

    def encode(self, text: str) -> list[int]:
        """Ids of plain text."""
        if len(text) > LONG or (self.elsewhere and self.elsewhere.search(text)):
            return self._library.encode(text)
        ids: list[int] = []
        for part in self._parts(text):
            ids += (self.added[part],) if part in self.added else self._merged(part)
        return ids

    def encode_pieces(self, parts: Sequence[tuple[str, int | None]]) -> list[int]:
        """Ids of text and control tokens in turn."""
        ids: list[int] = []
        for text, control in parts:
            ids += self.encode(text) if control is None else (control,)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids."""
        return b"".join(self.spelt.get(i, b"") for i in ids).decode(errors="replace")

    def _merged(self, text: str) -> list[int]:
        if self.composed:
            text = _COMPOSE.normalize_str(text)
        if self.prefix_space and text and not text.startswith(" "):
            text = f" {text}"
        return self.encoding.encode_ordinary(text)

    def _parts(self, text: str) -> Iterator[str]:
        """Added tokens, and the text between them."""
        if not self.added:
            yield text
            return
        assert self._names is not None
        done = 0
        for found in self._names.finditer(text):
            if found[0] in self.added:
                yield from (text[done : found.start()], found[0])
                done = found.end()
        yield text[done:]

    @cached_property
    def _names(self) -> re.Pattern[str] | None:
        return any_of((*self.added, *self.added_special))

    @cached_property
    def _library(self) -> Library:
        if self.description is None:
            raise ModelError("a text that tiktoken cannot cut exactly, and no description of the tokenizer beside it")
        return Library(self.description, self.added_special)


_COMPOSE = normalizers.NFC()


def printable_bytes() -> dict[int, str]:
    """Each byte's stand-in character in a byte-level vocabulary: itself if printable, else from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    table = {byte: chr(byte) for byte in printable}
    others = (byte for byte in range(256) if byte not in table)
    return table | {byte: chr(0x100 + n) for n, byte in enumerate(others)}


class _ToByte(dict[int, int]):
    """Character → byte, and for any other character a number that is no byte."""

    def __missing__(self, char: int) -> int:
        return 0x100


_TO_BYTE = _ToByte({ord(char): byte for byte, char in printable_bytes().items()})


def bytes_of(token: str) -> bytes | None:
    """What a token of a byte-level vocabulary spells; None where it is not spelled in such characters."""
    try:
        return token.translate(_TO_BYTE).encode("latin-1")
    except UnicodeEncodeError:
        return None


def ranks_of(model: Mapping[str, Any], special: Mapping[str, int]) -> dict[bytes, int] | None:
    """Bytes → id of every token that merging can reach; None where merging by lowest id may differ from the merges.

    The proof. tiktoken merges any two neighbours whose union is a token, the lowest id first; the original merges the
    pairs of a list, the earliest first. Let the list's results be numbered in its order, and let `ranks` hold just the
    tokens that the original, given a token's own bytes, puts together again. Inside a span that no merge has crossed
    both do what they would do with the span alone, so where two neighbours' union is such a token, its own merging
    passes through this very pair: the pair is in the list, at that token's place. So both choose the same merge.
    """
    vocabulary, merges = model["vocab"], pairs_of(model["merges"])
    results = [vocabulary[left + right] for left, right in merges]
    in_order = all(a <= b for a, b in itertools.pairwise(results))
    if not in_order or not set(results).isdisjoint(special.values()):
        return None
    plain = {name: i for name, i in vocabulary.items() if name not in special and bytes_of(name)}
    whole = reached(plain, vocabulary, merges)
    if model.get("ignore_merges") and len(whole) < len(plain):
        return None  # tokens that only a whole word can become
    return {spelt: i for name, i in whole.items() if (spelt := bytes_of(name)) is not None}


def reached(plain: Mapping[str, int], vocabulary: Mapping[str, int], merges: list[tuple[str, str]]) -> dict[str, int]:
    """The plain tokens that the merges put together again out of their own characters."""
    try:
        bare = Tokenizer(BPE(vocab=dict(vocabulary), merges=merges))
    except Exception as error:  # the library raises no narrower kind
        raise ValueError(f"tokenizers: {error}") from error
    encodings = bare.encode_batch_fast(list(plain), add_special_tokens=False)
    return {name: i for (name, i), e in zip(plain.items(), encodings, strict=True) if e.ids == [i]}


def pairs_of(merges: Sequence[Any]) -> list[tuple[str, str]]:
    """Merges as pairs, from either way of writing them."""
    split = (tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in merges)
    return [(left, right) for left, right in split]


# Bytes that no UTF-8 has, and the characters that begin with a byte of the planes where none is assigned.
_NEVER = {0xC0, 0xC1, *range(0xF5, 0x100)}
_PLANES = {0xF1: "\U00040000-\U0007ffff", 0xF2: "\U00080000-\U000bffff"}


def missing_from(ranks: Mapping[bytes, int]) -> str:
    """Characters that need a byte which has no token, as a regular expression's set; ValueError for letters."""
    missing = {byte for byte in range(256) if bytes([byte]) not in ranks} - _NEVER
    if letters := [byte for byte in missing if byte >= 0x80 and byte not in _PLANES]:
        raise ValueError(f"the byte {min(letters):#x} has no token")
    return "".join(_PLANES.get(byte) or re.escape(chr(byte)) for byte in sorted(missing))
