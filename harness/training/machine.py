"""What this machine is: its device, the dtype it multiplies fastest in, and how many FLOPs it does in a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F

from harness.recipes.recipe import Stage
from harness.training.budget import UPDATE_BYTES
from harness.training.plan import Terms, plan_stage
from harness.training.train import CLIP, Settings, accumulate
from models.architecture import Architecture
from models.decoder import Decoder

WORTH_IT = 1.2  # bfloat16 costs precision: it has to be this much faster


def choose_device() -> torch.device:
    """The first NVIDIA GPU, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_dtype(a: Architecture, device: torch.device) -> torch.dtype:
    """bfloat16 where the feed-forward's matrices multiply clearly faster in it than in float32: both are timed once."""
    if device.type == "cuda":
        return torch.bfloat16
    slow, fast = (_multiplication_seconds(a, dtype) for dtype in (torch.float32, torch.bfloat16))
    return torch.bfloat16 if slow > WORTH_IT * fast else torch.float32


def _multiplication_seconds(a: Architecture, dtype: torch.dtype) -> float:
    x_ND = torch.ones(1024, a.width, dtype=dtype)
    weight_HD = torch.ones(2 * a.hidden, a.width, dtype=dtype)
    return min(_seconds(lambda: F.linear(x_ND, weight_HD)) for _ in range(4))


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


class Speed(NamedTuple):
    """What a budget in seconds is turned into FLOPs by."""

    flops_per_second: float
    flops_per_byte: float


def calibrate(policy: Decoder, terms: Terms, stage: Stage, settings: Settings) -> Speed:
    """Time two training steps of a stage on real batches, after a third to warm up. The policy's gradients are used up.

    The weights themselves are stepped on with a learning rate of zero, so they do not change.
    """
    policy.requires_grad_(True)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=0.0, weight_decay=0.0, fused=True)
    plan = plan_stage(terms, stage, budget=3 * terms.batch_pairs, in_pairs=True, seed=0)
    rows = terms.rows(stage)
    training, updating, flops = [], [], []
    for step in plan.steps:
        batch = [rows[i] for i in step.pairs]
        training.append(
            _seconds(lambda b=batch, p=step.pairs: accumulate(policy, stage.objective, p, b, None, settings))  # type: ignore[misc]
        )
        updating.append(_seconds(lambda: _update(policy, optimizer)))
        flops.append(step.cost.policy)
    policy.requires_grad_(False)
    policy.zero_grad(set_to_none=True)
    rate = sum(flops[1:]) / sum(training[1:])
    seconds_per_byte = min(updating[1:]) / (UPDATE_BYTES * terms.weights)
    return Speed(flops_per_second=rate, flops_per_byte=rate * seconds_per_byte)


def _update(policy: Decoder, optimizer: torch.optim.Optimizer) -> None:
    torch.nn.utils.clip_grad_norm_(policy.parameters(), CLIP)
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
