"""The words a recipe is written in: objective, reference, stage, plan. Nothing here imports torch.

A recipe never grades itself: it says how to train, and `evals` measures every trial the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Logps:
    """What a loss is given: log-probs of B rows, summed over each response's tokens, end token included; (B,) nats.

    Fields that the objective did not ask for are None.
    """

    policy_chosen_B: Tensor
    policy_rejected_B: Tensor | None = None
    reference_chosen_B: Tensor | None = None
    reference_rejected_B: Tensor | None = None
    chosen_tokens_B: Tensor
    rejected_tokens_B: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One loss and what it is computed on."""

    name: str
    loss: Callable[[Logps], Tensor]  # gives (B,): a function of a module, its knobs bound by functools.partial
    responses: Literal["chosen", "pair"]  # what the policy reads
    per: Literal["pair", "token"]  # what the summed losses of a step are divided by
    beta: float | None = None  # scales log-ratios to the field's "rewards" in the training log


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What a preference objective is held against. Moving ones start as the stage's first policy.

    soft: ref ← α·policy + (1−α)·ref after every step; hard: ref ← policy every τ steps (TR-DPO, arXiv:2404.09656).
    Steps are few here, so both are set as shares of the stage.
    """

    kind: Literal["none", "frozen", "soft", "hard"]
    half_life: float = 0.25  # soft: α is such that after this share of the steps half of the reference is new
    period: float = 0.25  # hard: τ is this share of the steps, 4 steps at least

    @property
    def moves(self) -> bool:
        return self.kind in ("soft", "hard")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One phase of training. Its learning rate warms up over 10% of the stage and falls linearly to zero."""

    objective: Objective
    reference: Reference
    share: float  # of the trial's budget
    learning_rate: float
    order: int = 0  # of the training pairs: another number is another order at the same seed


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A named plan: its knobs (a frozen dataclass, every field with a default) and the stages they make."""

    name: str
    knobs: type[Any]
    plan: Callable[[Any], tuple[Stage, ...]]


def require_positive(knobs: object, *names: str) -> None:
    """ValueError unless each of these knobs is above zero; for a knobs class's `__post_init__`."""
    for name in names:
        if not getattr(knobs, name) > 0:
            raise ValueError(f"{name}={getattr(knobs, name)} must be positive")
