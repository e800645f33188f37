"""A bench in the words that its report needs: record.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from harness import store
from harness.data.columns import Columns
from harness.ground import Ground
from harness.recipes.registry import Choice
from harness.records import BenchRecord
from harness.resolution import ADAPTER_MICRO_BATCH_TOKENS, MICRO_BATCH_TOKENS
from harness.settings import BenchFile
from harness.training.memory import AUTO
from models.lora import Lora


def describe(
    bench: BenchFile, ground: Ground, choices: Sequence[Choice], judges: Sequence[str], failed: Mapping[str, str]
) -> BenchRecord:
    """The record of a resolved bench; `failed` is trial → why it has no scores."""
    asked, resolved = bench.asked, bench.resolved
    assert resolved is not None
    return BenchRecord(
        model=ground.source.name,
        model_digest=resolved.model_digest,
        model_note=ground.source.note,
        data=Path(asked.data).name,
        data_digest=resolved.data_digest,
        data_notes=ground.dataset.warnings,
        template=ground.dataset.template,
        rows={name: len(getattr(ground.splits, name)) for name in ("train", "judge", "test")},
        budget=asked.budget,
        budget_flops=resolved.budget_flops,
        budget_pairs=resolved.budget_pairs,
        flops_per_second=resolved.flops_per_second,
        eval_prompts=len(ground.held_out),
        judges=tuple(judges),
        recipes=tuple(choice.name for choice in choices),
        recipe_summaries={choice.name: choice.summary for choice in choices},
        recipe_knobs={choice.name: _knobs(choice, ground.terms.adapter) for choice in choices},
        seeds=asked.seeds,
        dtype=resolved.dtype,
        digest=bench.digest,
        command="python -m harness run --config bench.toml --out again",
        failed=dict(failed),
        max_new_tokens=asked.max_new_tokens,
        adapter=ground.terms.adapter.spec if ground.terms.adapter is not None else "",
        columns=", ".join(sorted(f"{ours}={theirs}" for ours, theirs in Columns.parse(asked.columns).theirs.items())),
        memory=_memory(asked.memory, resolved.micro_batch_tokens),
        labelled_digest=store.digest([(p.prompt, p.chosen, p.rejected) for p in ground.labelled]),
    )


def _memory(asked: str, micro_batch_tokens: int) -> str:
    """What was asked, and what that came to; empty where nothing was asked and nothing had to be smaller."""
    usual = asked == AUTO and micro_batch_tokens in (MICRO_BATCH_TOKENS, ADAPTER_MICRO_BATCH_TOKENS)
    return "" if usual else f"{asked}, micro-batches of at most {micro_batch_tokens:,} tokens"


def _knobs(choice: Choice, adapter: Lora | None) -> dict[str, str]:
    """As they are set; a learning rate with what the adapter multiplies it by, since that is what trained."""
    rate = choice.knobs.get("learning_rate")
    if adapter is None or rate is None or adapter.lr == 1:
        return choice.knobs
    return {**choice.knobs, "learning_rate": f"{rate} × {adapter.lr:g} (adapter)"}
