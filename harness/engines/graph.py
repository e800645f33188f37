"""A bench's training as a graph: stages and reference passes, each addressed by a digest of all that makes it.

Two recipes that share a stage (all preference recipes share the anchor) share its node, so it is computed once.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import harness.engines
import harness.training
import models
from harness import store
from harness.errors import HarnessError
from harness.recipes.recipe import Objective, Stage
from harness.recipes.sft import ANCHOR
from harness.training.budget import Budget
from harness.training.plan import StagePlan, Terms, plan_stage


@dataclass(frozen=True, kw_only=True)
class TrainNode:
    """A stage to be trained from its parent's checkpoint, or from the model itself where there is none."""

    digest: str
    parent: TrainNode | None
    number: int  # which stage of the trial, from 0
    stage: Stage
    plan: StagePlan
    reference: ReferenceNode | None  # a frozen reference's log-probs


@dataclass(frozen=True, kw_only=True)
class ReferenceNode:
    """Log-probs that a checkpoint gives training pairs."""

    digest: str
    checkpoint: TrainNode | None
    pairs: tuple[int, ...]


_APART = 10**9  # orders of a stage, in numbers that no seed reaches


def stage_nodes(terms: Terms, ground: str, stages: Sequence[Stage], budget: Budget, seed: int) -> tuple[TrainNode, ...]:
    """The chain of nodes of one trial. `ground` is the digest of model, data and settings.

    The anchor before other stages is one for all seeds; every other stage has an order of its own by seed and number.
    """
    nodes: list[TrainNode] = []
    parent: TrainNode | None = None
    for number, stage in enumerate(stages):
        amount = stage.share * budget.flops if budget.flops else float(round(stage.share * (budget.pairs or 0)))
        shared = stage == ANCHOR and len(stages) > 1  # every trial is scored against it
        own = 0 if shared else 1000 * seed + number + _APART * stage.order
        stage = _at_its_rate(stage, terms)
        plan = plan_stage(terms, stage, budget=amount, in_pairs=budget.flops is None, seed=own)
        parent = _node(ground, parent, number, stage, plan)
        nodes.append(parent)
    return tuple(nodes)


def _at_its_rate(stage: Stage, terms: Terms) -> Stage:
    """With its learning rate raised as the adapter says."""
    if terms.adapter is None:
        return stage
    return replace(stage, learning_rate=stage.learning_rate * terms.adapter.lr)


def _node(ground: str, parent: TrainNode | None, number: int, stage: Stage, plan: StagePlan) -> TrainNode:
    origin = parent.digest if parent else ground
    reference = None
    if stage.reference.kind == "frozen":
        pairs = plan.pairs
        reference = ReferenceNode(
            digest=store.digest("reference", origin, ground, pairs), checkpoint=parent, pairs=pairs
        )
    steps = [(s.pairs, s.spent_before, s.spent_after, s.refreshes) for s in plan.steps]
    objective = stage.objective
    made_of: list[Any] = [
        *(origin, ground, number, objective.name, loss_digest(objective)),
        *(objective.responses, objective.per, objective.beta, stage.learning_rate),
        *(stage.reference.kind, reference.digest if reference else None, plan.alpha, steps),
    ]
    return TrainNode(
        digest=store.digest("train", *made_of),
        parent=parent,
        number=number,
        stage=stage,
        plan=plan,
        reference=reference,
    )


def loss_digest(objective: Objective) -> str:
    """Of the file that defines the loss and the arguments bound to it: an edited loss is another stage."""
    loss, bound = objective.loss, []
    while isinstance(loss, functools.partial):
        bound.append((repr(loss.args), repr(sorted(loss.keywords.items()))))
        loss = loss.func
    if not inspect.isfunction(loss) or loss.__closure__:
        raise HarnessError(
            f"the loss of {objective.name!r} keeps values that no digest sees, so its results cannot be told apart "
            "from another's: make it a function of a module, and bind its knobs with functools.partial"
        )
    try:
        source = inspect.getsource(inspect.getmodule(loss) or loss)
    except (OSError, TypeError) as error:
        raise HarnessError(
            f"the loss of {objective.name!r} has no source file, so its results cannot be told apart "
            "from another's: define it in a module"
        ) from error
    return store.digest(source, bound)


@functools.cache
def code_digest() -> str:
    """Of the code that trains: a checkpoint made by other code is not this one's."""
    folders = [Path(str(package.__file__)).parent for package in (models, harness.training, harness.engines)]
    files = sorted(file for folder in folders for file in store.code_in(folder))
    return store.digest([(file.name, store.file_digest(file)) for file in files])
