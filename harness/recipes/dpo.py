"""DPO: direct preference optimisation (Rafailov et al., arXiv:2305.18290, equation 7).

Departs from the paper in the reference alone: besides the frozen one it may move, softly or in jumps, as in TR-DPO
(arXiv:2404.09656), with half-life and period set as shares of the stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from harness.recipes.recipe import Logps, Objective, Recipe, Reference, Stage, require_positive
from harness.recipes.sft import ANCHOR


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """What may be set on the command line."""

    beta: float = 0.1
    reference: Literal["frozen", "soft", "hard"] = "frozen"
    half_life: float = 0.25
    period: float = 0.25
    learning_rate: float = 5e-5

    def __post_init__(self) -> None:
        require_positive(self, "beta", "half_life", "period", "learning_rate")


def dpo_loss(logps: Logps, *, beta: float) -> Tensor:
    """−log σ(β·m) with m = log π(y_w)/ref(y_w) − log π(y_l)/ref(y_l), (B,) nats: ln 2 where policy = reference."""
    assert logps.policy_rejected_B is not None
    assert logps.reference_chosen_B is not None
    assert logps.reference_rejected_B is not None
    chosen_ratio_B = logps.policy_chosen_B - logps.reference_chosen_B
    rejected_ratio_B = logps.policy_rejected_B - logps.reference_rejected_B
    return -F.logsigmoid(beta * (chosen_ratio_B - rejected_ratio_B))


def plan(knobs: Knobs) -> tuple[Stage, ...]:
    """The anchor, then DPO on the rest of the budget."""
    objective = Objective(
        name="dpo",
        loss=partial(dpo_loss, beta=knobs.beta),
        responses="pair",
        per="pair",
        beta=knobs.beta,
    )
    reference = Reference(kind=knobs.reference, half_life=knobs.half_life, period=knobs.period)
    stage = Stage(objective=objective, reference=reference, share=1 - ANCHOR.share, learning_rate=knobs.learning_rate)
    return (ANCHOR, stage)


recipe = Recipe(name="dpo", knobs=Knobs, plan=plan)
