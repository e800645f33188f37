"""What a checkpoint writes for held-out prompts: greedy completions for judging, samples at temperature 1 for KL."""

from __future__ import annotations

from collections.abc import Sequence

from harness.records import Completion, Pair
from models.generation import Generated, generate
from models.language_model import LanguageModel
from models.room import unless_out_of_memory


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
    room, end = model.rooms.writing, model.tokens.end

    def write() -> list[Generated]:
        return generate(model.decoder, encoded, end=end, limit=limit, dtype=model.dtype, seed=seed, batch=room.most)

    # All of them again, where they do not fit: which draws a prompt gets hangs on its place among them.
    while (written := unless_out_of_memory(write)) is None:
        tried = min(room.most, len(encoded))
        room.halve("writing", tried, tried)
    return written
