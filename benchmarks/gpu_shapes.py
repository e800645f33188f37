"""Models and pairs of real sizes with nothing in them: random weights, random tokens."""

from __future__ import annotations

import random

import torch

from benchmarks.profiles import SEED, Profile
from models.architecture import Architecture
from models.decoder import Decoder
from models.families import gpt2
from models.packing import Row

GPT2_124M = Architecture(
    family="gpt2",
    vocabulary=50257,
    context=1024,
    width=768,
    depth=12,
    heads=12,
    kv_heads=12,
    head_width=64,
    hidden=3072,
    norm_eps=1e-5,
    **gpt2.FEATURES,
)
LLAMA_1B = Architecture(  # the sizes of Llama 3.2 1B
    family="llama",
    vocabulary=128256,
    context=8192,
    width=2048,
    depth=16,
    heads=32,
    kv_heads=8,
    head_width=64,
    hidden=8192,
    norm_eps=1e-5,
    rope_base=500_000.0,
)


def random_weights(a: Architecture) -> Decoder:
    """Small normal ones, and norms that do nothing."""
    decoder, draw = Decoder(a), torch.Generator().manual_seed(SEED)
    for weight in decoder.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.02, generator=draw)
    return decoder.requires_grad_(False)


def drawn_pairs(profile: Profile, vocabulary: int, count: int) -> list[Row]:
    """Pairs of random tokens, each length from half to one and a half of the mean."""
    draw = random.Random(SEED)

    def some(mean: int) -> tuple[int, ...]:
        return tuple(draw.randrange(vocabulary) for _ in range(draw.randint(mean // 2, mean + mean // 2)))

    return [
        Row(prompt=some(profile.prompt), responses=(some(profile.response), some(profile.response)))
        for _ in range(count)
    ]
