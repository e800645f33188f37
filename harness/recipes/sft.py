"""SFT only: the negative log-likelihood of the chosen responses, on the whole budget, with its own schedule.

Loss of one row: −log π(y_w|x). A step's losses are summed and divided by its response tokens, as is usual.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from harness.recipes.recipe import Logps, Objective, Recipe, Reference, Stage, require_positive


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """What may be set on the command line."""

    learning_rate: float = 1e-4

    def __post_init__(self) -> None:
        require_positive(self, "learning_rate")


def sft_loss(logps: Logps) -> Tensor:
    """−log π(y_w|x), (B,) nats."""
    return -logps.policy_chosen_B


def sft_stage(*, share: float, learning_rate: float) -> Stage:
    """A stage of SFT on a share of the budget."""
    objective = Objective(name="sft", loss=sft_loss, responses="chosen", per="token")
    return Stage(objective=objective, reference=Reference(kind="none"), share=share, learning_rate=learning_rate)


# The shared SFT checkpoint that every preference recipe starts from and every trial is scored against.
ANCHOR = sft_stage(share=0.4, learning_rate=1e-4)


def plan(knobs: Knobs) -> tuple[Stage, ...]:
    """One uninterrupted stage."""
    return (sft_stage(share=1.0, learning_rate=knobs.learning_rate),)


recipe = Recipe(name="sft", knobs=Knobs, plan=plan)
