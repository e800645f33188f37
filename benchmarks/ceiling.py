"""What share of this machine's matrix multiplication a training step reaches, counting useful tokens only.

The ceiling is the model's own multiplications and nothing else: every matrix forward and both ways backward, at the
number of tokens that a step has, out of warm memory, by torch. Where models/products.py multiplies faster than that, a
step's share of what it reaches is told as well.
"""

from __future__ import annotations

import copy
import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.profiles import dpo_stage, dtype_named, load, planned, rows_of, terms_of
from harness.resolution import MICRO_BATCH_TOKENS
from harness.training.adamw import start_optimizer
from harness.training.budget import Work, training_flops, work_of
from harness.training.machine import seconds_of
from harness.training.memory import kept_memory
from harness.training.mixed_precision import MixedPrecision
from harness.training.reference import Frozen
from harness.training.train import Execution, accumulate
from models import products
from models.architecture import Architecture
from models.decoder import Decoder
from models.language_model import batches
from models.packing import Row

Multiply = Callable[[Tensor, Tensor], Tensor]

BATCH = 16
WARM_UP = 2


def compare(profiles: Sequence[str], steps: int, dtype: str, say: Callable[[str], None]) -> dict[str, Any]:
    """profile → share of the ceiling, with and without the optimizer's own time; `share` is that of short pairs."""
    model, tokens = load()
    found: dict[str, Any] = {}
    for profile in profiles:
        rows = rows_of(profile, tokens, (WARM_UP + steps) * BATCH)
        found[profile] = shares(copy.deepcopy(model), rows, steps, dtype_named(dtype))
        one = found[profile]
        say(
            f"{profile}: {one['gflops_per_second']:.0f} of {one['ceiling_gflops_per_second']:.0f} GFLOP/s, "
            f"{one['share']:.0%} ({one['share_with_update']:.0%} with AdamW); by our own products "
            f"{one['own_ceiling_gflops_per_second']:.0f}, {one['share_of_own']:.0%}"
        )
    return {"share": found["short"]["share"], **found} if "short" in found else found


def shares(policy: Decoder, rows: Sequence[Row], steps: int, dtype: torch.dtype) -> dict[str, float]:
    """Steps and the ceiling timed in turn; medians."""
    terms = terms_of(policy.architecture, 1, rows, BATCH)
    plan, optimizer = planned(terms, WARM_UP + steps), start_optimizer(policy, rate=0.0)
    trained = MixedPrecision(policy, dtype)
    execution = Execution(dtype=dtype, micro_batch_tokens=MICRO_BATCH_TOKENS)
    reference = Frozen(dict.fromkeys(plan.pairs, (0.0, 0.0)), policy.device)
    passes, updates, ceilings, own_ceilings = [], [], [], []
    with kept_memory():  # as a stage trains
        for step in plan.steps:
            batch = [rows[i] for i in step.pairs]
            flops = training_flops(policy.architecture, batch)
            started = time.perf_counter()
            accumulate(trained, dpo_stage().objective, step.pairs, batch, reference, execution)
            spent = time.perf_counter() - started
            passes.append(flops / spent)
            updates.append(flops / (spent + seconds_of(lambda: optimizer.update(trained))))
            works = [work_of([batch[i] for i in part]) for part in batches(batch, MICRO_BATCH_TOKENS)]
            ceilings.append(ceiling(policy.architecture, works, dtype, torch.mm))
            own_ceilings.append(ceiling(policy.architecture, works, dtype, products.multiply))
    rate, whole, top, own = (statistics.median(x[WARM_UP:]) for x in (passes, updates, ceilings, own_ceilings))
    return {
        "gflops_per_second": rate / 1e9,
        "ceiling_gflops_per_second": top / 1e9,
        "share": rate / top,
        "share_with_update": whole / top,
        "own_ceiling_gflops_per_second": own / 1e9,
        "share_of_own": rate / own,
    }


def ceiling(a: Architecture, works: Sequence[Work], dtype: torch.dtype, multiply: Multiply) -> float:
    """FLOPs a second of the model's multiplications at these micro-batches' sizes."""
    blocks = (
        (a.width, a.attention_width + 2 * a.kv_width),
        (a.attention_width, a.width),
        (a.width, a.gates * a.hidden),
        (a.hidden, a.width),
    )
    flops = spent = 0.0
    for work in works:
        shapes = [(work.tokens, *block, a.depth) for block in blocks] + [(work.predicted, a.width, a.vocabulary, 1)]
        for rows, into, out, times in shapes:
            flops += times * 3 * 2.0 * rows * into * out
            spent += times * multiplied(rows, into, out, dtype, multiply)
    return flops / spent


def multiplied(rows: int, into: int, out: int, dtype: torch.dtype, multiply: Multiply) -> float:
    """Seconds of one matrix forward, and of its two gradients; the best of three."""
    x, w, grad = (torch.ones(size, dtype=dtype) for size in ((rows, into), (out, into), (rows, out)))
    three = [functools.partial(multiply, *factors) for factors in ((x, w.T), (grad, w), (grad.T, x))]
    return sum(min(seconds_of(product) for _ in range(3)) for product in three)
