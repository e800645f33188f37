"""A decoder with its tokens, ready to read and write text: what everything that only measures is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from models.decoder import Decoder
from models.packing import Row
from models.tokens import Tokens


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """A frozen decoder, its matrices in the dtype that it computes in."""

    decoder: Decoder
    tokens: Tokens
    dtype: torch.dtype

    @classmethod
    def of(cls, decoder: Decoder, tokens: Tokens, dtype: torch.dtype) -> LanguageModel:
        """From a decoder in float32."""
        frozen = decoder.requires_grad_(False)
        return cls(decoder=frozen if dtype == torch.float32 else frozen.in_dtype(dtype), tokens=tokens, dtype=dtype)


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
