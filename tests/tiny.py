"""Decoders, rows and pairs small enough to check by hand, all drawn from a seed."""

from __future__ import annotations

import random
from dataclasses import replace

import torch
from torch import Tensor

from harness.records import Pair
from models.architecture import Architecture
from models.decoder import Decoder
from models.families import gpt2
from models.lora import parse_lora
from models.low_rank import own_weights, with_adapter
from models.packing import Row, pack

LLAMA = Architecture(
    family="llama",
    vocabulary=41,
    context=128,
    width=16,
    depth=2,
    heads=4,
    kv_heads=2,
    head_width=4,
    hidden=24,
    norm_eps=1e-5,
)
GPT2 = replace(LLAMA, family="gpt2", kv_heads=4, **gpt2.FEATURES)


def decoder_of(architecture: Architecture = LLAMA, *, seed: int = 0, scale: float = 0.3) -> Decoder:
    """A decoder with normal weights of the given spread, frozen as loaders leave it."""
    decoder = Decoder(architecture)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return decoder.requires_grad_(False)


def adapted_of(architecture: Architecture = LLAMA, *, lora: str = "lora:r=3", seed: int = 0) -> Decoder:
    """The same decoder with an adapter that has learned something: normal A and B."""
    policy = with_adapter(decoder_of(architecture, seed=seed), parse_lora(lora))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in own_weights(policy).values():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)
    return policy


def logits_of(decoder: Decoder, tokens: tuple[int, ...]) -> Tensor:
    """Logits after each token of one text, (N, V) float32."""
    batch = pack([Row(prompt=tokens)])
    with torch.no_grad():
        hidden_ND, _ = decoder(batch.tokens_N, batch.positions_N, batch.attend, dtype=torch.float32)
    return hidden_ND @ decoder.head.T


def row(prompt: int, *responses: int, first: int = 1) -> Row:
    """Of so many tokens: the prompt's are first, 2, 3, …, a response's all its number."""
    return Row(prompt=(first, *range(2, prompt + 1)), responses=tuple((k,) * n for k, n in enumerate(responses)))


def pair_rows(count: int, *, vocabulary: int = 41, prefix: int = 5, shared: int = 2, seed: int = 0) -> list[Row]:
    """Rows of a common beginning, a prompt of their own and two responses, all of uneven lengths.

    The responses of every third row share their first tokens, `shared` of them.
    """
    draw = random.Random(seed)

    def tokens(least: int, most: int) -> tuple[int, ...]:
        return tuple(draw.randrange(vocabulary) for _ in range(draw.randint(least, most)))

    start = tokens(prefix, prefix)

    def responses(begun: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        return begun + tokens(1, 7), begun + tokens(1, 7)

    alike = [start[:shared] if n % 3 == 2 else () for n in range(count)]
    return [Row(prompt=start + tokens(1, 6), responses=responses(begun)) for begun in alike]


def chosen_rows(rows: list[Row]) -> list[Row]:
    """The same rows with their chosen responses alone."""
    return [Row(prompt=row.prompt, responses=row.responses[:1]) for row in rows]


def text_pairs(count: int, *, seed: int = 0) -> list[Pair]:
    """Sums with the right answer chosen and a wrong one rejected."""
    draw = random.Random(seed)
    pairs = []
    for number in range(count):
        a, b = draw.randint(1, 50), draw.randint(1, 50)
        question = f"What is {a} plus {b}?"
        pairs.append(
            Pair(
                prompt_id=f"p{number}",
                question=question,
                prompt=f"Question: {question}\nAnswer: ",
                chosen=f"It is {a + b}, since {a} and {b} make {a + b}.",
                rejected=f"{a + b + draw.randint(1, 9)}, whatever.",
            )
        )
    return pairs
