"""What this machine is: its device, the dtype it multiplies fastest in, and how many FLOPs it does in a second."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F

from harness.recipes.recipe import Stage
from harness.training.adamw import start_optimizer
from harness.training.budget import UPDATE_BYTES
from harness.training.clock import now
from harness.training.mixed_precision import MixedPrecision
from harness.training.plan import Terms, plan_stage
from harness.training.train import Execution, accumulate
from models.decoder import Decoder
from models.precision import settle_precision

WORTH_IT = 1.5  # bfloat16 costs precision: it has to be this much faster
SIDE = 768  # of the matrices that are timed: large enough that a multiplication takes milliseconds, whatever the model
ROUNDS = 4
WARM_UP_STEPS, TIMED_STEPS = 2, 2  # a process's first two steps run on memory not touched before: docs/log.md


def choose_device() -> torch.device:
    """The first NVIDIA GPU, which then multiplies as models/precision.py says; else the processor."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    settle_precision()
    return torch.device("cuda")


@functools.cache
def choose_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where this machine multiplies matrices clearly faster in it than in float32, both timed; else float32.

    Timed once a process, so that the benches of one process agree.
    """
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float32
    slow, fast = _multiplication_seconds(torch.float32, torch.bfloat16)
    return torch.bfloat16 if slow > WORTH_IT * fast else torch.float32


def _multiplication_seconds(*dtypes: torch.dtype) -> list[float]:
    """The least seconds that a multiplication takes in each dtype, in turn: what disturbs one, disturbs all."""
    matrices = [torch.ones(SIDE, SIDE, dtype=dtype) for dtype in dtypes]
    rounds = [[seconds_of(lambda m=m: F.linear(m, m)) for m in matrices] for _ in range(ROUNDS)]  # type: ignore[misc]
    return [min(taken) for taken in zip(*rounds, strict=True)]


def seconds_of(work: Callable[[], object]) -> float:
    """How long it takes."""
    started = now()
    work()
    return now() - started


class Speed(NamedTuple):
    """What a budget in seconds is turned into FLOPs by."""

    flops_per_second: float
    flops_per_byte: float


def calibrate(policy: Decoder, terms: Terms, stage: Stage, execution: Execution) -> Speed:
    """Time training steps of a stage on real batches, after some to warm up. The policy's gradients are used up.

    The weights themselves are stepped on with a learning rate of zero, so they do not change.
    """
    optimizer = start_optimizer(policy, rate=0.0)
    trained = MixedPrecision(policy, execution.dtype)
    plan = plan_stage(terms, stage, budget=(WARM_UP_STEPS + TIMED_STEPS) * terms.batch_pairs, in_pairs=True, seed=0)
    rows = terms.rows(stage)
    training, updating, flops = [], [], []
    for step in plan.steps:
        batch = [rows[i] for i in step.pairs]
        training.append(
            seconds_of(lambda b=batch, p=step.pairs: accumulate(trained, stage.objective, p, b, None, execution))  # type: ignore[misc]
        )
        updating.append(seconds_of(lambda: optimizer.update(trained)))
        flops.append(step.cost.policy)
    policy.requires_grad_(False)
    policy.zero_grad(set_to_none=True)
    rate = sum(flops[-TIMED_STEPS:]) / sum(training[-TIMED_STEPS:])
    seconds_per_byte = min(updating[-TIMED_STEPS:]) / (UPDATE_BYTES * terms.weights)
    return Speed(flops_per_second=rate, flops_per_byte=rate * seconds_per_byte)
