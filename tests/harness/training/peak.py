"""What steps of DPO hold at most.

`python -m tests.harness.training.peak PROFILE PAIRS TOKENS DTYPE REFERENCE [ADAPTER]`: two steps of the embedded model
on a benchmark's rows (one where they are long), in micro-batches of so many tokens; prints JSON in MB. REFERENCE is
frozen or moving. In a process of its own, since memory that one has freed it may hold.
"""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import dataclass

import torch

from benchmarks.profiles import dpo_stage, load, planned, rows_of, terms_of
from harness.training.footprint import FLOAT, SCATTERED, Footprint
from harness.training.memory import held_bytes
from harness.training.reference import Frozen, Moving
from harness.training.train import Execution, train_stage
from models.language_model import batches
from models.lora import parse_lora
from models.low_rank import own_weights, with_adapter

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Peak:
    """All in MB of the whole process, but for tokens."""

    held: int  # before the first step, the policy and its reference included
    peak: int
    estimate: int
    tokens: int  # of the largest micro-batch
    longest: int  # tokens of the longest row
    micro_batches: int  # of a step


def measure(profile: str, pairs: int, micro: int, dtype: torch.dtype, reference: str, adapter: str = "") -> Peak:
    """Train as asked, watching."""
    base, tokens = load()
    lora, rows = parse_lora(adapter) if adapter else None, rows_of(profile, tokens, pairs)
    policy = with_adapter(base.requires_grad_(False), lora) if lora else copy.deepcopy(base)
    trained = sum(weight.numel() for weight in own_weights(policy).values())
    plan = planned(terms_of(base.architecture, trained, rows, pairs), 2 if profile == "short" else 1)
    moving = reference == "moving"
    held_against = Moving(policy, dtype) if moving else Frozen(dict.fromkeys(range(pairs), (-50.0, -60.0)), CPU)
    held = held_bytes(CPU)
    execution = Execution(dtype=dtype, micro_batch_tokens=micro)
    spent = train_stage(policy, dpo_stage(), plan, rows, held_against, execution, number=0, on_step=lambda step: None)
    parts = [sum(rows[i].input_tokens for i in part) for part in batches(rows, micro)]
    longest = max(row.input_tokens for row in rows)
    a = base.architecture
    footprint = Footprint(architecture=a, trained=trained, adapter=bool(lora), moving=False, dtype=dtype, held=held)
    estimate = footprint.training(max(parts), longest) - beside(footprint)
    megabytes = [round(count / 1e6) for count in (held, spent.peak_bytes, estimate)]
    return Peak(
        **dict(zip(("held", "peak", "estimate"), megabytes, strict=True)),
        tokens=max(parts),
        longest=longest,
        micro_batches=len(parts),
    )


def beside(footprint: Footprint) -> float:
    """Bytes of the policy and the anchor in an estimate: the one was held before, and there is no other here."""
    return (1 + SCATTERED) * (2 * FLOAT * footprint.trained + footprint.measuring_copy)


if __name__ == "__main__":
    profile, pairs, micro, dtype, *more = sys.argv[1:]
    print(json.dumps(vars(measure(profile, int(pairs), int(micro), getattr(torch, dtype), *more))))
