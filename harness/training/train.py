"""Spends a planned stage: AdamW on float32 weights, micro-batches that never change the gradient, a log line a step.

Trained is an adapter where the policy has one, else all of it: the rest has neither gradients nor optimizer state.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from harness.errors import HarnessError
from harness.recipes.recipe import Logps, Objective, Stage
from harness.records import TrainStep
from harness.training.adamw import AdamW, start_optimizer
from harness.training.budget import useful_tokens
from harness.training.clock import now
from harness.training.memory import PeakMemory, held_bytes, kept_memory
from harness.training.mixed_precision import MixedPrecision
from harness.training.plan import StagePlan, Step
from harness.training.reference import ReferenceLogps
from models.decoder import Decoder
from models.language_model import batches
from models.logprobs import sum_logps
from models.low_rank import own_weights
from models.packing import Row, few_sizes, pack
from models.room import OutOfMemoryError, Room, unless_out_of_memory, warn
from models.transfer import send

WARM_UP = 0.1  # of the stage
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a machine carries out a plan: none of it changes a gradient, but for rounding."""

    dtype: torch.dtype
    micro_batch_tokens: int
    tell: Callable[[str], None] = warn  # is told where memory ran out

    @functools.cached_property
    def room(self) -> Room:
        """`micro_batch_tokens`, or what is left of them since memory ran out."""
        return Room(self.micro_batch_tokens, tell=self.tell)


class TrainingDivergedError(HarnessError):
    """A loss or gradient that is no number: this trial cannot go on, others can."""


class Spent(NamedTuple):
    """What a stage left behind besides its weights."""

    steps: tuple[TrainStep, ...]
    device_seconds: float
    peak_bytes: int


def train_stage(
    policy: Decoder,
    stage: Stage,
    plan: StagePlan,
    rows: Sequence[Row],
    reference: ReferenceLogps | None,
    execution: Execution,
    *,
    number: int,
    on_step: Callable[[TrainStep], None],
) -> Spent:
    """Train `policy` in place, step by step as planned; `number` is the stage's own, for the log."""
    optimizer = start_optimizer(policy, stage.learning_rate)
    trained = all_or_nothing(lambda: MixedPrecision(policy, execution.dtype), "copies in a narrower dtype", policy)
    log: list[TrainStep] = []
    seconds, tokens = 0.0, 0
    with kept_memory() as kept, PeakMemory(policy.device) as memory:
        for count, step in enumerate(plan.steps, 1):
            started = now()
            batch = [rows[i] for i in step.pairs]
            rate = stage.learning_rate * schedule((step.spent_before + step.spent_after) / 2)
            outcome = _take_step(trained, optimizer, stage.objective, step, batch, reference, execution, rate)
            if reference is not None and step.refreshes:
                reference.refresh(policy, plan.alpha)
            if policy.device.type == "cpu":
                kept.settle(held_bytes(policy.device))
            seconds += now() - started
            tokens += useful_tokens(batch)
            line = TrainStep(
                stage=number, step=count, spent=step.spent_after, learning_rate=rate, num_tokens=tokens, **outcome
            )
            _refuse_no_number(stage.objective, line)
            log.append(line)
            on_step(line)
    policy.requires_grad_(False)
    return Spent(steps=tuple(log), device_seconds=seconds, peak_bytes=memory.peak_bytes)


def _refuse_no_number(objective: Objective, line: TrainStep) -> None:
    if not (math.isfinite(line.loss) and math.isfinite(line.grad_norm)):
        raise TrainingDivergedError(
            f"{objective.name} diverged at step {line.step}: loss {line.loss}, gradient norm {line.grad_norm}; "
            "try a lower learning_rate"
        )


def schedule(spent: float) -> float:
    """Share of the top learning rate when `spent` of the stage is spent: up over WARM_UP, then straight to zero."""
    return spent / WARM_UP if spent < WARM_UP else (1 - spent) / (1 - WARM_UP)


def _take_step(
    policy: MixedPrecision,
    optimizer: AdamW,
    objective: Objective,
    step: Step,
    batch: Sequence[Row],
    reference: ReferenceLogps | None,
    execution: Execution,
    rate: float,
) -> dict[str, Any]:
    losses, metrics = accumulate(policy, objective, step.pairs, batch, reference, execution)
    optimizer.rate = rate
    norm = all_or_nothing(lambda: optimizer.update(policy), "the optimizer", policy.masters)
    return {"loss": losses, "grad_norm": norm, **metrics}


def all_or_nothing(work: Callable[[], T], what: str, policy: Decoder) -> T:
    """What `work` on all that is trained gives; OutOfMemoryError in one line where it does not fit.

    It hangs on no micro-batch, so none can be halved.
    """
    if (found := unless_out_of_memory(work)) is not None:
        return found
    count = sum(weight.numel() for weight in own_weights(policy).values())
    raise OutOfMemoryError(
        f"out of memory: {what} of {count:,} weights does not fit: choose a smaller model, train an adapter "
        "(--adapter lora:r=16), or free memory"
    )


def accumulate(
    policy: MixedPrecision,
    objective: Objective,
    pairs: Sequence[int],
    batch: Sequence[Row],
    reference: ReferenceLogps | None,
    execution: Execution,
) -> tuple[float, dict[str, float | None]]:
    """Give the policy the step's gradient, micro-batch by micro-batch; the step's loss and the log's metrics.

    Losses are summed and divided by the whole step's pairs (or tokens), so the gradient is that of one large batch.
    Where memory runs out, the step begins again in smaller micro-batches: of a backward pass that failed, some weights
    have the gradient and others not.
    """
    count = len(batch) if objective.per == "pair" else sum(r.response_tokens for r in batch)
    rows: list[Row] = []  # of the micro-batch that is being computed

    def all_parts() -> tuple[float, dict[str, float | None]]:
        nonlocal rows
        # A GPU computes one micro-batch while the next is packed: nothing is read before all are on their way.
        total, seen = torch.zeros((), dtype=torch.float64, device=policy.masters.device), []
        parts = list(batches(batch, execution.room.most))
        policy.expect(passes=len(parts))
        for part in parts:
            rows = [batch[i] for i in part]
            logps = _logps(policy.computing, objective, [pairs[i] for i in part], rows, reference, execution.dtype)
            loss_B = objective.loss(logps)
            assert loss_B.shape == (len(rows),), f"{objective.name}: a loss gives (B,), not {tuple(loss_B.shape)}"
            loss = loss_B.sum() / count
            loss.backward()
            total += loss.detach()
            seen.append(logps)
        return total.item(), _metrics(objective, seen)

    while (found := unless_out_of_memory(all_parts)) is None:
        policy.zero_grad()
        execution.room.halve("a micro-batch", useful_tokens(rows), len(rows))
    return found


def _logps(
    policy: Decoder,
    objective: Objective,
    pairs: Sequence[int],
    rows: Sequence[Row],
    reference: ReferenceLogps | None,
    dtype: torch.dtype,
) -> Logps:
    # Read first, as the policy's pass keeps memory for its gradient.
    reference_B2 = reference.logps(pairs, rows) if reference is not None and objective.responses == "pair" else None
    policy_R = sum_logps(policy, pack(rows, multiple=few_sizes(dtype)).to(policy.device), dtype=dtype)
    tokens_BR = send(torch.tensor([[len(y) for y in r.responses] for r in rows]), policy_R.device)
    if objective.responses == "chosen":
        return Logps(policy_chosen_B=policy_R, chosen_tokens_B=tokens_BR[:, 0])
    policy_B2 = policy_R.view(-1, 2)
    return Logps(
        policy_chosen_B=policy_B2[:, 0],
        policy_rejected_B=policy_B2[:, 1],
        reference_chosen_B=None if reference_B2 is None else reference_B2[:, 0],
        reference_rejected_B=None if reference_B2 is None else reference_B2[:, 1],
        chosen_tokens_B=tokens_BR[:, 0],
        rejected_tokens_B=tokens_BR[:, 1],
    )


def _metrics(objective: Objective, seen: Sequence[Logps]) -> dict[str, float | None]:
    """The field's metrics of one step: rewards are beta times log-ratios, as in the paper and TRL."""
    chosen_B = _joined([s.policy_chosen_B for s in seen])
    metrics: dict[str, float | None] = {"logps_chosen": chosen_B.mean().item()}
    if seen[0].policy_rejected_B is None:
        return metrics
    rejected_B = _joined([s.policy_rejected_B for s in seen])
    metrics["logps_rejected"] = rejected_B.mean().item()
    if seen[0].reference_chosen_B is None or objective.beta is None:
        return metrics
    rewards_chosen_B = objective.beta * (chosen_B - _joined([s.reference_chosen_B for s in seen]))
    rewards_rejected_B = objective.beta * (rejected_B - _joined([s.reference_rejected_B for s in seen]))
    margins_B = rewards_chosen_B - rewards_rejected_B
    ties_B = (margins_B == 0).float()
    return metrics | {
        "rewards_chosen": rewards_chosen_B.mean().item(),
        "rewards_rejected": rewards_rejected_B.mean().item(),
        "rewards_margins": margins_B.mean().item(),
        "rewards_accuracies": ((margins_B > 0).float() + ties_B / 2).mean().item(),
    }


def _joined(parts: Sequence[Tensor | None]) -> Tensor:
    return torch.cat([p.detach() for p in parts if p is not None])
