"""Greedy generation beside transformers' `generate`: tokens a second at two batch sizes, prompts of mixed lengths."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.profiles import dtype_named, load, short_rows, short_source, write_model
from models.decoder import Decoder
from models.generation import generate
from models.language_model import LanguageModel
from models.tokens import Tokens

LIMIT = 64  # new tokens, as in a bench
BATCHES = (16, 64)
Prompt = tuple[int, ...]


def compare(rounds: int, dtype: str, say: Callable[[str], None]) -> dict[str, Any]:
    """batch size → figures; both sides answer the same prompts in turn."""
    from transformers import AutoModelForCausalLM

    decoder, tokens = load()
    rows = short_rows(tokens, "courtesy", 200) + short_rows(tokens, short_source(), 200)
    with tempfile.TemporaryDirectory() as scratch:
        write_model(Path(scratch))
        theirs = AutoModelForCausalLM.from_pretrained(scratch, dtype=dtype_named(dtype))
    decoder = LanguageModel.of(decoder, tokens, dtype_named(dtype)).decoder  # as a bench measures
    found = {}
    for batch in BATCHES:
        prompts = [row.prompt for row in rows[:: len(rows) // batch][:batch]]
        found[f"batch{batch}"] = figures(decoder, theirs, tokens, prompts, rounds, dtype_named(dtype), say)
    return found


def figures(
    decoder: Decoder,
    theirs: Any,
    tokens: Tokens,
    prompts: list[Prompt],
    rounds: int,
    dtype: torch.dtype,
    say: Callable[[str], None],
) -> dict[str, float]:
    """Both sides' speed on one batch, and the share of answers that are the same to the last token."""
    taken: list[tuple[float, float]] = []
    for _ in range(1 + rounds):
        started = time.perf_counter()
        ours = [g.tokens for g in generate(decoder, prompts, end=tokens.end, limit=LIMIT, dtype=dtype)]
        between = time.perf_counter()
        other = their_answers(theirs, prompts, tokens.end)
        taken.append((between - started, time.perf_counter() - between))
    taken = taken[1:]  # the first warms up
    ours_seconds, their_seconds = (statistics.median(side) for side in zip(*taken, strict=True))
    found = {
        "tokens": sum(map(len, ours)),
        "ours_tokens_per_second": sum(map(len, ours)) / ours_seconds,
        "transformers_tokens_per_second": sum(map(len, other)) / their_seconds,
        "speedup": statistics.median(b / a for a, b in taken),
        "same_answers": sum(a == b for a, b in zip(ours, other, strict=True)) / len(prompts),
    }
    say(
        f"batch {len(prompts)}: {found['ours_tokens_per_second']:.0f} against "
        f"{found['transformers_tokens_per_second']:.0f} tokens/s ({found['speedup']:.2f}×), "
        f"{found['same_answers']:.0%} of the answers identical"
    )
    return found


@torch.no_grad()
def their_answers(model: Any, prompts: list[Prompt], end: int) -> list[Prompt]:
    """Padded on the left, as its documentation asks."""
    width = max(map(len, prompts))
    ids = torch.tensor([[end] * (width - len(p)) + list(p) for p in prompts])
    seen = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    written = model.generate(
        input_ids=ids,
        attention_mask=seen,
        max_new_tokens=LIMIT,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=end,
    )
    return [until(end, row) for row in written[:, width:].tolist()]


def until(end: int, answer: list[int]) -> Prompt:
    """The answer with its end token, without what pads it."""
    return tuple(answer[: answer.index(end) + 1]) if end in answer else tuple(answer)
