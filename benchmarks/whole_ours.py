"""The core recipes as the harness runs them, one a turn: `benchmarks.sides` says when."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.benches import Laid, lay
from benchmarks.generation import LIMIT
from benchmarks.profiles import dtype_named
from benchmarks.sides import Told, Turns
from evals.completions import complete
from harness.engines.graph import TrainNode
from harness.engines.local import LocalEngine
from harness.training.machine import seconds_of
from models.language_model import LanguageModel


def main(wish: dict[str, Any]) -> None:
    """The anchor, the frozen reference's log-probs, then each recipe; whatever is trained answers the prompts."""
    turns, bench = Turns(), lay(wish)
    engine = bench.engine(Path(wish["scratch"]))
    turns.wait()
    turns.tell(name="anchor", **trained(bench, engine, bench.plan.anchor))
    turns.wait()
    turns.tell(name="reference", train=seconds_of(lambda: pass_references(bench, engine)))
    turns.wait()
    for trial in bench.plan.trials:
        node = trial.nodes[-1]
        turns.tell(name=trial.choice.name, **trained(bench, engine, node))
        shutil.rmtree(engine.train(node).checkpoint.parent)  # nobody reads it again
        turns.wait()


def pass_references(bench: Laid, engine: LocalEngine) -> None:
    """Every frozen reference that some recipe needs; those that are the same are computed once."""
    for node in (node for trial in bench.plan.trials for node in trial.nodes if node.reference is not None):
        assert node.reference is not None
        engine.reference(node.reference)


def trained(bench: Laid, engine: LocalEngine, node: TrainNode) -> Told:
    """Train a node, let its checkpoint answer; the seconds of both, and what tells that TRL did the same."""
    started = time.perf_counter()
    found = engine.train(node)
    between = time.perf_counter()
    model = LanguageModel.of(engine.decoder(node), bench.ground.tokens, dtype_named(bench.resolved.dtype))
    answers = complete(model, bench.ground.held_out, limit=LIMIT)
    first = found.steps[0]
    pair = {"chosen": first.logps_chosen, "rejected": first.logps_rejected} if first.logps_rejected is not None else {}
    return {
        "train": between - started,
        "complete": time.perf_counter() - between,
        "steps": len(found.steps),
        "pairs": found.ledger.pairs,
        "prompts": len(answers),
        "tokens": sum(answer.tokens for answer in answers),
        "loss": first.loss,
        "last_loss": found.steps[-1].loss,
        **pair,
    }


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
