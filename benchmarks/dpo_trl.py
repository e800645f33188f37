"""TRL's DPO steps on the same token ids, one at a time: `benchmarks.sides` says when.

Its trainer as its documentation has it, but for what makes it faster on a processor (no gradient checkpointing) and
comparable (our pairs in our order, our learning rates, nothing cut off).
"""

from __future__ import annotations

import json
import sys
import tempfile
from typing import Any

import torch
from datasets import Dataset
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer

from benchmarks.profiles import TRL_WEIGHTS, dpo_stage, load, planned, rows_of, terms_of
from benchmarks.sides import Telling, Turns
from harness.recipes.recipe import Stage
from harness.training.plan import StagePlan
from harness.training.train import schedule


class Tokenised(DPOTrainer):
    """Its data are token ids already."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset


class InTurn(TrainerCallback):
    """Tells of each step when it is logged, and waits for the next."""

    def __init__(self, turns: Telling) -> None:
        self.turns = turns

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        if "loss" in logs:
            self.turns.tell(loss=logs["loss"], chosen=logs["logps/chosen"], rejected=logs["logps/rejected"])
            self.turns.wait()


def main(wish: dict[str, Any]) -> None:
    """Steps of `wish["batch"]` pairs in one of TRL_WEIGHTS's settings, the reference precomputed or live."""
    turns = Turns()
    model, tokens = load()
    rows = rows_of(wish["profile"], tokens, wish["steps"] * wish["batch"])
    plan = planned(terms_of(model.architecture, 1, rows, wish["batch"]), wish["steps"])
    ids = [
        {"prompt_ids": rows[i].prompt, "chosen_ids": rows[i].responses[0], "rejected_ids": rows[i].responses[1]}
        for step in plan.steps
        for i in step.pairs
    ]
    del model
    with tempfile.TemporaryDirectory() as scratch:
        trainer = make_trainer(wish, Dataset.from_list(ids), plan, scratch, turns)
        turns.wait()
        trainer.train()


def make_trainer(wish: dict[str, Any], data: Dataset, plan: StagePlan, scratch: str, turns: Telling) -> DPOTrainer:
    """Over these pairs, paced as our stage is."""
    live = wish["reference"] == "live"
    config = DPOConfig(**settings(wish, scratch), beta=dpo_stage().objective.beta, precompute_ref_log_probs=not live)
    dtype = TRL_WEIGHTS[wish["setting"]]
    policy, reference = (AutoModelForCausalLM.from_pretrained(wish["model"], dtype=dtype) for _ in range(2))
    return Tokenised(
        model=policy,
        ref_model=reference if live else None,
        args=config,
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(wish["model"]),
        callbacks=[InTurn(turns)],
        optimizers=paced(policy, dpo_stage(), plan),
    )


def settings(wish: dict[str, Any], scratch: str) -> dict[str, Any]:
    """What all of TRL's trainers are told, whatever they train for."""
    return {
        "output_dir": scratch,
        "per_device_train_batch_size": wish["batch"],
        "gradient_accumulation_steps": wish.get("accumulate", 1),
        "num_train_epochs": 1,
        "max_length": None,
        "gradient_checkpointing": False,
        "bf16": wish["setting"] == "autocast",
        "use_cpu": wish.get("device", "cpu") == "cpu",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "train_sampling_strategy": "sequential",
    }


def paced(policy: Any, stage: Stage, plan: StagePlan) -> tuple[Optimizer, LambdaLR]:
    """AdamW as we set it, and our learning rate at each step."""
    spent = [(s.spent_before + s.spent_after) / 2 for s in plan.steps]
    optimizer = torch.optim.AdamW(policy.parameters(), lr=stage.learning_rate, weight_decay=0.0, fused=True)
    return optimizer, LambdaLR(optimizer, lambda step: schedule(spent[min(step, len(spent) - 1)]))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
