"""A decoder with its tokens, ready to read and write text: what everything that only measures is given."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from models.decoder import Decoder
from models.packing import Row
from models.prepacked import prepack
from models.room import Room, Rooms, unless_out_of_memory
from models.tokens import Tokens

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """A frozen decoder, its matrices in the dtype that it computes in."""

    decoder: Decoder
    tokens: Tokens
    dtype: torch.dtype
    rooms: Rooms = field(default_factory=Rooms, compare=False)

    @classmethod
    def of(cls, decoder: Decoder, tokens: Tokens, dtype: torch.dtype, rooms: Rooms | None = None) -> LanguageModel:
        """From a decoder in float32."""
        computing = decoder.requires_grad_(False)
        if dtype != torch.float32:
            computing = computing.in_dtype(dtype)
            prepack(computing)
        return cls(decoder=computing, tokens=tokens, dtype=dtype, rooms=rooms or Rooms())


def make_row(tokens: Tokens, prompt: str, responses: Sequence[str]) -> Row:
    """A prompt in its template with its responses, each ended; encoded apart, so that their spans are exact."""
    ended = tuple((*tokens.encode(response), tokens.end) for response in responses)
    return Row(prompt=tokens.encode_prompt(prompt), responses=ended)


def batches(rows: Sequence[Row], tokens: int) -> Iterator[list[int]]:
    """Places of the rows, shortest first, in parts of at most `tokens` input tokens (one row at least)."""
    part: list[int] = []
    size = 0
    for place in sorted(range(len(rows)), key=lambda i: rows[i].input_tokens):
        if part and size + rows[place].input_tokens > tokens:
            yield part
            part, size = [], 0
        part.append(place)
        size += rows[place].input_tokens
    if part:
        yield part


def read_in_parts(
    rows: Sequence[Row], room: Room, read: Callable[[list[Row]], T], what: str = "a batch"
) -> Iterator[tuple[list[int], T]]:
    """Places of some of the rows, shortest first, with what `read` gives for them, until all are read.

    A part that does not fit into memory is read again in smaller ones.
    """
    waiting = list(batches(rows, room.most))[::-1]
    while waiting:
        places = waiting.pop()
        part = [rows[i] for i in places]
        tokens = sum(row.input_tokens for row in part)
        if len(part) > 1 and tokens > room.most:
            waiting += [[places[i] for i in smaller] for smaller in batches(part, room.most)][::-1]
        elif (found := unless_out_of_memory(functools.partial(read, part))) is not None:
            yield places, found
        else:
            room.halve(what, tokens, len(part))
            waiting.append(places)
