"""What a stage is charged, from its plan alone but for the time and the memory that it took."""

from __future__ import annotations

from harness.engines.graph import TrainNode
from harness.records import StageLedger
from harness.training.budget import useful_tokens
from harness.training.plan import Terms


def stage_ledger(terms: Terms, node: TrainNode, seconds: float, peak: int) -> StageLedger:
    """What a stage is charged, as if its trial ran alone."""
    plan, rows, cost = node.plan, terms.rows(node.stage), node.plan.cost
    consumed = [i for step in plan.steps for i in step.pairs]
    return StageLedger(
        objective=node.stage.objective.name,
        digest=node.digest,
        reference=node.stage.reference.kind,
        steps=len(plan.steps),
        pairs=len(consumed),
        distinct_pairs=len(plan.pairs),
        epochs=len(consumed) / len(rows),
        tokens=useful_tokens([rows[i] for i in consumed]),
        policy_flops=cost.policy,
        reference_flops=cost.reference,
        update_flops=cost.update,
        refresh_flops=cost.refresh,
        budget_flops=None if plan.in_pairs else plan.budget,
        reference_lag_steps=mean_lag(node),
        device_seconds=seconds,
        peak_memory_bytes=peak,
    )


def mean_lag(node: TrainNode) -> float | None:
    """Mean age in steps of the weights in a moving reference, over the stage: 0 would be the policy itself."""
    if not node.stage.reference.moves:
        return None
    age, total = 0.0, 0.0
    for step in node.plan.steps:
        total += age
        age += 1
        if step.refreshes:
            age *= 1 - node.plan.alpha
    return total / len(node.plan.steps)
