"""Our DPO steps, one at a time: `benchmarks.sides` says when."""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import replace
from typing import Any

from benchmarks.profiles import (
    MODEL,
    Profile,
    dpo_stage,
    drawn_rows,
    dtype_named,
    load,
    planned,
    random_weights,
    rows_of,
    terms_of,
)
from benchmarks.sides import Turns
from harness.records import TrainStep
from harness.resolution import MICRO_BATCH_TOKENS
from harness.training.reference import Frozen, Moving, ReferenceLogps, pair_logps
from harness.training.train import Execution, train_stage
from models.architecture import Architecture
from models.decoder import Decoder

PROMPT = 60  # mean tokens of a prompt, where responses of some length are asked for
DEPTH, HEAD = 4, 64  # blocks and head width of a model with random weights


def main(wish: dict[str, Any]) -> None:
    """Steps of `wish["batch"]` pairs, the reference read from a table or live.

    `wish["response"]` asks for pairs with responses of that mean length, `wish["width"]` for random weights of that
    width, and the reference `zeros` for a table that nothing was computed for: a step takes as long with it.
    """
    turns, dtype = Turns(), dtype_named(wish["dtype"])
    model, tokens = load(wish.get("model", MODEL))
    if "width" in wish:
        model = random_model(model.architecture, wish["width"])
    count = wish["steps"] * wish["batch"]
    if "response" in wish:
        rows = drawn_rows(Profile(prompt=PROMPT, response=wish["response"]), tokens, count)
    else:
        rows = rows_of(wish["profile"], tokens, count)
    terms = terms_of(model.architecture, sum(p.numel() for p in model.parameters()), rows, wish["batch"])
    plan = planned(terms, wish["steps"])
    reference: ReferenceLogps
    if wish["reference"] == "live":
        reference = Moving(model, dtype, mixes=False)  # it never moves: no step of a frozen stage refreshes
    elif wish["reference"] == "zeros":
        reference = Frozen(dict.fromkeys(plan.pairs, (0.0, 0.0)), model.device)
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


def random_model(a: Architecture, width: int) -> Decoder:
    """A few blocks of that width in the model's own way, with its vocabulary."""
    heads = width // HEAD
    return random_weights(
        replace(a, width=width, depth=DEPTH, heads=heads, kv_heads=heads, head_width=HEAD, hidden=8 * width // 3)
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
