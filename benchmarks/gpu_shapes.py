"""Models and pairs of real sizes with nothing in them."""

from __future__ import annotations

import random

from benchmarks.profiles import SEED, Profile, cut_rows
from models.architecture import Architecture
from models.families import gpt2
from models.packing import Row

TOKENS = 2**16  # that pairs are cut out of
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


def drawn_pairs(profile: Profile, vocabulary: int, count: int) -> list[Row]:
    """Pairs of random tokens."""
    draw = random.Random(SEED)
    return cut_rows(profile, [draw.randrange(vocabulary) for _ in range(TOKENS)], count)
