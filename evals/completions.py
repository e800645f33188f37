"""What a checkpoint writes for held-out prompts: greedy completions for judging, samples at temperature 1 for KL."""

from __future__ import annotations

from collections.abc import Sequence

from harness.records import Completion, Pair
from models.generation import Generated, generate
from models.language_model import LanguageModel


def complete(model: LanguageModel, prompts: Sequence[Pair], *, limit: int) -> tuple[Completion, ...]:
    """The greedy answer to each prompt, at most `limit` tokens long."""
    written = _write(model, prompts, limit, seed=None)
    return tuple(
        Completion(
            prompt_id=prompt.prompt_id,
            text=model.tokens.decode(answer.tokens).strip(),
            tokens=len(answer.tokens),
            truncated=answer.truncated,
            token_ids=answer.tokens,
        )
        for prompt, answer in zip(prompts, written, strict=True)
    )


def sample(model: LanguageModel, prompts: Sequence[Pair], *, limit: int, seed: int) -> list[Generated]:
    """One sample a prompt at temperature 1, no top-p or top-k; every checkpoint gets the same draws."""
    return _write(model, prompts, limit, seed)


def _write(model: LanguageModel, prompts: Sequence[Pair], limit: int, seed: int | None) -> list[Generated]:
    encoded = [model.tokens.encode_prompt(p.prompt) for p in prompts]
    return generate(model.decoder, encoded, end=model.tokens.end, limit=limit, dtype=model.dtype, seed=seed)
