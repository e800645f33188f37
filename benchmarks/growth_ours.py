"""A bench of a frozen reference's recipes, one a turn, and now and then a turn that times the policy's passes alone."""

from __future__ import annotations

import functools
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.benches import lay
from benchmarks.sides import Turns
from harness.engines.graph import TrainNode
from harness.engines.local import LocalEngine
from harness.training.machine import seconds_of
from harness.training.memory import kept_memory
from harness.training.mixed_precision import MixedPrecision
from harness.training.reference import Frozen
from harness.training.train import accumulate


def main(wish: dict[str, Any]) -> None:
    """The first turn makes anchor and reference too; after each of `wish["looks"]` recipes comes a turn of passes."""
    turns, bench = Turns(), lay(wish)
    engine = bench.engine(Path(wish["scratch"]))
    turns.wait()
    for count, trial in enumerate(bench.plan.trials, 1):
        node = trial.nodes[-1]
        trained = engine.train(node)
        assert node.reference is not None, "a recipe of a frozen reference"
        steps_seconds = trained.ledger.device_seconds - engine.reference(node.reference).seconds
        turns.tell(flops=node.plan.cost.policy, steps_seconds=steps_seconds)
        shutil.rmtree(trained.checkpoint.parent)
        turns.wait()
        if count in wish["looks"]:
            turns.tell(flops_per_second=node.plan.cost.policy / passes(engine, node))
            turns.wait()


def passes(engine: LocalEngine, node: TrainNode) -> float:
    """Seconds of the node's passes forward and backward, without its reference, updates and checkpoint."""
    policy = engine.decoder(node.parent).requires_grad_(True)
    trained = MixedPrecision(policy, engine.execution.dtype)
    reference = Frozen(dict.fromkeys(node.plan.pairs, (0.0, 0.0)), engine.device)
    rows, objective, seconds = engine.terms.rows(node.stage), node.stage.objective, 0.0
    with kept_memory():  # as a stage trains
        for step in node.plan.steps:
            batch = [rows[i] for i in step.pairs]
            passing = functools.partial(accumulate, trained, objective, step.pairs, batch, reference, engine.execution)
            seconds += seconds_of(passing)
            trained.zero_grad()
    return seconds


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
