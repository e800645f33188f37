"""The pairs that are timed, in three profiles of length, the same for both sides."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from harness.cache import cache_root
from harness.data.rows import load_pairs
from harness.errors import HarnessError
from harness.recipes.recipe import Stage
from harness.recipes.registry import choose
from harness.tokenised import ChosenRows
from harness.training.budget import FLOPS_PER_BYTE
from harness.training.plan import StagePlan, Terms, plan_stage
from models.architecture import Architecture
from models.decoder import Decoder
from models.language_model import make_row
from models.packing import Row
from models.sources import find_model
from models.tokens import Tokens
from models.writing import write_folder

MODEL = "smollm2-135m"
SEED = 0
# TRL's settings that are tried → the dtype of its weights; `autocast` computes in bfloat16.
TRL_WEIGHTS = {"float32": torch.float32, "autocast": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Mean lengths in tokens; each row's own are drawn evenly from half to one and a half of them."""

    prompt: int
    response: int


DRAWN = {"chat": Profile(prompt=300, response=100), "long": Profile(prompt=60, response=300)}
PROFILES = ("short", *DRAWN)


def load(model: str = MODEL) -> tuple[Decoder, Tokens]:
    """The embedded model, or another."""
    return find_model(model, cache_root()).load()


def write_model(folder: Path) -> None:
    """The embedded model as transformers reads it."""
    decoder, tokens = load()
    write_folder(decoder, folder, dtype=torch.float32, end=tokens.end)
    tokens.write_folder(folder)


def rows_of(profile: str, tokens: Tokens, count: int) -> list[Row]:
    """So many pairs. Short ones are the book's, where its file is in the cache, else `courtesy`'s."""
    if profile == "short":
        return short_rows(tokens, short_source(), count)
    return drawn_rows(DRAWN[profile], tokens, count)


def drawn_rows(wanted: Profile, tokens: Tokens, count: int) -> list[Row]:
    """So many pairs of these lengths, cut out of `courtesy`'s responses."""
    stream = [token for row in short_rows(tokens, "courtesy", 500) for r in row.responses for token in r]
    return cut_rows(wanted, stream, count)


def cut_rows(wanted: Profile, stream: Sequence[int], count: int) -> list[Row]:
    """So many pairs cut out of a stream of tokens, each length from half to one and a half of the mean."""
    draw = random.Random(SEED)

    def some(mean: int) -> tuple[int, ...]:
        length, start = draw.randint(mean // 2, mean + mean // 2), draw.randrange(len(stream) - 2 * mean)
        return tuple(stream[start : start + length])

    return [
        Row(prompt=some(wanted.prompt), responses=(some(wanted.response), some(wanted.response))) for _ in range(count)
    ]


def random_weights(a: Architecture) -> Decoder:
    """Small normal ones, and norms that do nothing."""
    decoder, draw = Decoder(a), torch.Generator().manual_seed(SEED)
    for weight in decoder.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.02, generator=draw)
    return decoder.requires_grad_(False)


def short_source() -> str:
    """The book's pairs, or `courtesy` where their file is neither in the cache nor in reach."""
    try:
        load_pairs("rasbt", cache=cache_root())
    except HarnessError:
        return "courtesy"
    return "rasbt"


def short_rows(tokens: Tokens, data: str, count: int) -> list[Row]:
    """The first pairs of a data set in its own template."""
    found = load_pairs(data, render_chat=tokens.render_chat, cache=cache_root())
    return [make_row(tokens, pair.prompt, (pair.chosen, pair.rejected)) for pair in islice(found.pairs, count)]


def terms_of(architecture: Architecture, weights: int, rows: Sequence[Row], batch: int) -> Terms:
    """What a plan is made on."""
    return Terms(
        architecture=architecture,
        weights=weights,
        pair_rows=rows,
        chosen_rows=ChosenRows(rows),
        batch_pairs=batch,
        flops_per_byte=FLOPS_PER_BYTE,
    )


def dpo_stage() -> Stage:
    """The DPO stage of `dpo-beta0.1`."""
    return choose(["dpo-beta0.1"])[0].stages[-1]


def planned(terms: Terms, steps: int) -> StagePlan:
    """So many steps of DPO; both sides take their pairs in this order."""
    return plan_stage(terms, dpo_stage(), budget=steps * terms.batch_pairs, in_pairs=True, seed=SEED)


def dtype_named(name: str) -> torch.dtype:
    found = getattr(torch, name)
    assert isinstance(found, torch.dtype)
    return found
