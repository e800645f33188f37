"""The trials of a bench: each recipe with each seed, planned to its last step, and what each is charged."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from harness import store
from harness.engines.graph import TrainNode, code_digest, stage_nodes
from harness.engines.local import LocalEngine
from harness.ground import Ground
from harness.recipes.recipe import Stage
from harness.recipes.registry import Choice
from harness.recipes.sft import ANCHOR
from harness.records import Ledger, TrainStep
from harness.settings import Resolved
from harness.training.budget import Budget
from harness.training.plan import Terms
from harness.training.train import Execution


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One recipe with one seed, and the nodes that make its checkpoint."""

    choice: Choice
    seed: int
    nodes: tuple[TrainNode, ...]

    @property
    def name(self) -> str:
        return f"{self.choice.name}@{self.seed}"


@dataclass(frozen=True, kw_only=True)
class BenchPlan:
    """All trials of a bench, and the anchor that they are scored against."""

    anchor: TrainNode
    trials: tuple[Trial, ...]
    terms: Terms


def plan_bench(resolved: Resolved, ground: Ground, choices: Sequence[Choice], seeds: Sequence[int]) -> BenchPlan:
    """Plan every recipe with every seed. HarnessError where the budget is too small for one of them."""
    terms = dataclasses.replace(ground.terms, flops_per_byte=resolved.flops_per_byte)
    budget = Budget(flops=resolved.budget_flops, pairs=resolved.budget_pairs)
    made_of = _ground_digest(resolved, ground)

    def nodes(stages: Sequence[Stage], seed: int) -> tuple[TrainNode, ...]:
        return stage_nodes(terms, made_of, stages, budget, seed)

    (anchor,) = nodes((ANCHOR,), 0)
    trials = tuple(
        Trial(choice=choice, seed=seed, nodes=nodes(choice.stages, seed)) for seed in seeds for choice in choices
    )
    return BenchPlan(anchor=anchor, trials=trials, terms=terms)


def _ground_digest(resolved: Resolved, ground: Ground) -> str:
    """Of everything besides its plan that a checkpoint hangs on."""
    rows = ground.rows_digest
    machine = (resolved.dtype, resolved.threads, resolved.micro_batch_tokens, ground.device.type, torch.__version__)
    adapter = [ground.terms.adapter.spec] if ground.terms.adapter is not None else []
    foreign = [f"transformers {version('transformers')}"] if ground.source.adapted else []
    return store.digest(resolved.model_digest, rows, machine, code_digest(), *adapter, *foreign)


def engine_for(
    plan: BenchPlan,
    resolved: Resolved,
    ground: Ground,
    root: Path,
    *,
    on_stage: Callable[[TrainNode], None],
    on_step: Callable[[TrainStep], None],
    tell: Callable[[str], None],
    micro_batch_tokens: int | None = None,
) -> LocalEngine:
    """What trains the plan's nodes on this machine, and keeps them in the cache at `root`.

    `micro_batch_tokens`: what fits here, where that is less than what the bench was begun with.
    """
    dtype: torch.dtype = getattr(torch, resolved.dtype)
    tokens = micro_batch_tokens or resolved.micro_batch_tokens
    return LocalEngine(
        cache=root,
        terms=plan.terms,
        execution=Execution(dtype=dtype, micro_batch_tokens=tokens, tell=tell),
        fresh=ground.fresh,
        hollow=ground.hollow,
        device=ground.device,
        on_stage=on_stage,
        on_step=on_step,
    )


def trial_ledger(trial: Trial, trials: Sequence[Trial], engine: LocalEngine, resolved: Resolved) -> Ledger:
    """The trial's stages as if it ran alone, and what of it was computed once for several."""
    users = Counter(node.digest for t in trials for node in t.nodes)
    users.update(node.reference.digest for t in trials for node in t.nodes if node.reference)
    stages = tuple(engine.train(node).ledger for node in trial.nodes)
    flops, seconds = 0.0, 0.0
    for node, stage in zip(trial.nodes, stages, strict=True):
        if users[node.digest] > 1:
            flops, seconds = flops + stage.flops, seconds + stage.device_seconds
        elif node.reference is not None and users[node.reference.digest] > 1:
            flops += stage.reference_flops
            seconds += engine.reference(node.reference).seconds
    return Ledger(
        stages=stages,
        budget_flops=resolved.budget_flops,
        budget_pairs=resolved.budget_pairs,
        shared_flops=flops,
        shared_seconds=seconds,
    )
