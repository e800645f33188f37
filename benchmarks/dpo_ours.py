"""Our DPO steps, one at a time: `benchmarks.sides` says when."""

from __future__ import annotations

import copy
import json
import sys
from typing import Any

from benchmarks.profiles import dpo_stage, dtype_named, load, planned, rows_of, terms_of
from benchmarks.sides import Turns
from harness.records import TrainStep
from harness.resolution import MICRO_BATCH_TOKENS
from harness.training.reference import Frozen, Moving, ReferenceLogps, pair_logps
from harness.training.train import Execution, train_stage


def main(wish: dict[str, Any]) -> None:
    """Steps of `wish["batch"]` pairs, the reference read from a table or live."""
    turns, dtype = Turns(), dtype_named(wish["dtype"])
    model, tokens = load()
    rows = rows_of(wish["profile"], tokens, wish["steps"] * wish["batch"])
    terms = terms_of(model.architecture, sum(p.numel() for p in model.parameters()), rows, wish["batch"])
    plan = planned(terms, wish["steps"])
    reference: ReferenceLogps
    if wish["reference"] == "live":
        reference = Moving(model, dtype)  # it never does: no step of a frozen stage refreshes
    else:
        table = {i: tuple(pair_logps(model, [rows[i]], dtype)[0].tolist()) for i in plan.pairs}
        reference = Frozen(table, model.device)
    policy = copy.deepcopy(model)
    del model

    def on_step(line: TrainStep) -> None:
        turns.tell(loss=line.loss, chosen=line.logps_chosen, rejected=line.logps_rejected)
        turns.wait()

    turns.wait()
    execution = Execution(dtype=dtype, micro_batch_tokens=MICRO_BATCH_TOKENS)
    train_stage(policy, dpo_stage(), plan, rows, reference, execution, number=0, on_step=on_step)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
