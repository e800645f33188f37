"""An adapter takes at most half of the memory that training all weights takes, at the size of the embedded model."""

from __future__ import annotations

import copy
import random
import subprocess
import sys

import pytest
import torch

from harness.recipes.registry import choose
from harness.resolution import ADAPTER_MICRO_BATCH_TOKENS, MICRO_BATCH_TOKENS
from harness.training.plan import Terms, plan_stage
from harness.training.reference import Moving
from harness.training.train import Execution, train_stage
from models.architecture import Architecture
from models.decoder import Decoder
from models.lora import parse_lora
from models.low_rank import with_adapter
from models.packing import Row
from tests.tiny import chosen_rows

SMOLLM2 = Architecture(
    family="llama",
    vocabulary=49152,
    context=2048,
    width=576,
    depth=30,
    heads=9,
    kv_heads=3,
    head_width=64,
    hidden=1536,
    norm_eps=1e-5,
)
PAIRS = 16  # a step's, of 40 tokens of prompt and 20 of each response


def rows() -> list[Row]:
    draw = random.Random(0)

    def some(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(SMOLLM2.vocabulary) for _ in range(count))

    start = some(10)
    return [Row(prompt=start + some(30), responses=(some(20), some(20))) for _ in range(PAIRS)]


def print_peak(spec: str, recipe: str) -> None:
    """Two steps of a stage as a bench takes them, its model kept beside the policy; the stage's peak in bytes."""
    base, lora = Decoder(SMOLLM2).requires_grad_(False), parse_lora(spec) if spec else None
    policy = with_adapter(base, lora) if lora else copy.deepcopy(base)
    pairs = rows()
    terms = Terms(
        architecture=SMOLLM2,
        weights=lora.weights(SMOLLM2) if lora else sum(p.numel() for p in base.parameters()),
        pair_rows=pairs,
        chosen_rows=chosen_rows(pairs),
        batch_pairs=PAIRS,
        flops_per_byte=8.0,
        adapter=lora,
    )
    stage = choose([recipe])[0].stages[-1]
    plan = plan_stage(terms, stage, budget=2 * PAIRS, in_pairs=True, seed=0)
    micro = ADAPTER_MICRO_BATCH_TOKENS if lora else MICRO_BATCH_TOKENS
    reference = Moving(policy, torch.float32) if stage.reference.moves else None
    settings, read = Execution(dtype=torch.float32, micro_batch_tokens=micro), terms.rows(stage)
    print(train_stage(policy, stage, plan, read, reference, settings, number=0, on_step=lambda step: None).peak_bytes)


def peak(spec: str, recipe: str) -> int:
    """In a process of its own, since memory that one has freed it may still hold."""
    command = f"from {__name__} import print_peak; print_peak({spec!r}, {recipe!r})"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["sft", "dpo-soft-reference"])
def test_an_adapter_takes_at_most_half_the_memory(recipe: str) -> None:
    """135M weights in float32, the same pairs a step, each in the micro-batches that a bench gives it."""
    full, adapted = peak("", recipe), peak("lora:r=16", recipe)
    print(f"{recipe}: {full / 1e6:,.0f} MB with all weights, {adapted / 1e6:,.0f} MB with an adapter")
    assert adapted <= 0.5 * full
