"""The core recipes as one would run them with TRL and transformers, one a turn: `benchmarks.sides` says when.

Each training reads the weights that it starts from and writes those that it ends with, as ours does, and those are read
again to answer the prompts. The frozen reference's log-probs are computed once, by the first trainer, and handed to the
others as the columns that TRL's collator knows: its own cache is keyed at random for data that no file holds.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from benchmarks.benches import Laid, lay
from benchmarks.dpo_trl import Tokenised, paced, settings
from benchmarks.generation import Prompt, their_answers
from benchmarks.profiles import TRL_WEIGHTS
from benchmarks.sides import Told, Turns
from harness.engines.graph import TrainNode
from harness.recipes.recipe import Stage
from harness.training.plan import StagePlan


@dataclass(frozen=True, kw_only=True)
class Job:
    """One stage as TRL is to train it."""

    name: str
    stage: Stage
    plan: StagePlan
    data: Dataset  # token ids in the order of the plan
    start: str  # folder of the weights that it begins with


class Handed(Tokenised):
    """Its data may bring the reference's log-probs along."""

    def _precompute_ref_logps(self, dataset: Dataset, *rest: Any, **named: Any) -> Dataset:
        if "ref_chosen_logps" in dataset.column_names:
            return dataset
        return super()._precompute_ref_logps(dataset, *rest, **named)


def main(wish: dict[str, Any]) -> None:
    """The anchor, the frozen reference's log-probs, then each recipe; whatever is trained answers the prompts."""
    tempfile.tempdir = wish["scratch"]  # the sides' end removes no temporary folders
    turns, bench = Turns(), lay(wish)
    jobs, ground = jobs_of(bench, wish), bench.ground
    prompts, end = [ground.tokens.encode_prompt(p.prompt) for p in ground.held_out], ground.tokens.end
    del bench, ground  # with the weights that TRL reads from its own folder
    turns.wait()
    reference = next(job for job in jobs if job.name == "reference")
    for job in jobs:
        if job is reference:
            started = time.perf_counter()
            handed = dpo_trainer(job, wish).train_dataset
            turns.tell(name=job.name, train=time.perf_counter() - started)
        else:
            if job.stage.reference.kind == "frozen":
                assert job.data is reference.data, "another order of pairs has other columns"
                job = replace(job, data=handed)
            turns.tell(name=job.name, **trained(job, wish, prompts, end))
        turns.wait()


def jobs_of(bench: Laid, wish: dict[str, Any]) -> list[Job]:
    """All that is trained, in the order of the turns; stages of the same pairs in the same order share one data set."""
    shared: dict[tuple[str, tuple[int, ...]], Dataset] = {}

    def job(name: str, node: TrainNode) -> Job:
        places = tuple(i for step in node.plan.steps for i in step.pairs)
        key = (node.stage.objective.responses, places)
        if key not in shared:
            shared[key] = make_data(node.stage, [bench.plan.terms.pair_rows[i] for i in places])
        start = wish["folder"] if node.parent is None else checkpoint("anchor", wish)
        return Job(name=name, stage=node.stage, plan=node.plan, data=shared[key], start=start)

    recipes = [job(trial.choice.name, trial.nodes[-1]) for trial in bench.plan.trials]
    frozen = next(one for one in recipes if one.stage.reference.kind == "frozen")
    first = Job(name="reference", stage=frozen.stage, plan=frozen.plan, data=frozen.data, start=frozen.start)
    return [job("anchor", bench.plan.anchor), first, *recipes]


def make_data(stage: Stage, rows: list[Any]) -> Dataset:
    """In the columns that TRL's own preparation would leave."""
    if stage.objective.responses == "pair":
        return Dataset.from_list(
            [{"prompt_ids": r.prompt, "chosen_ids": r.responses[0], "rejected_ids": r.responses[1]} for r in rows]
        )
    return Dataset.from_list(
        [{"input_ids": r.prompt + r.responses[0], "labels": (-100,) * len(r.prompt) + r.responses[0]} for r in rows]
    )


def trained(job: Job, wish: dict[str, Any], prompts: list[Prompt], end: int) -> Told:
    """Train one, let its checkpoint answer; the seconds of both, and what tells that ours did the same."""
    started = time.perf_counter()
    trainer = (sft_trainer if job.stage.objective.name == "sft" else dpo_trainer)(job, wish)
    trainer.train()
    trainer.save_model(checkpoint(job.name, wish))
    steps = [logged for logged in trainer.state.log_history if "loss" in logged]
    first, last = steps[0], steps[-1]
    del trainer
    between = time.perf_counter()
    model = read(checkpoint(job.name, wish), torch.float32 if wish["setting"] == "float32" else torch.bfloat16)
    answers = their_answers(model, prompts, end)
    pair = {side: first[f"logps/{side}"] for side in ("chosen", "rejected") if f"logps/{side}" in first}
    return {
        "train": between - started,
        "complete": time.perf_counter() - between,
        "steps": len(steps),
        "pairs": len(job.data),
        "prompts": len(answers),
        "tokens": sum(map(len, answers)),
        "loss": first["loss"],
        "last_loss": last["loss"],
        **pair,
    }


def sft_trainer(job: Job, wish: dict[str, Any]) -> SFTTrainer:
    policy = read(job.start, TRL_WEIGHTS[wish["setting"]])
    config = SFTConfig(**settings(wish, wish["scratch"]), dataset_kwargs={"skip_prepare_dataset": True})
    return SFTTrainer(
        model=policy,
        args=config,
        train_dataset=job.data,
        processing_class=AutoTokenizer.from_pretrained(wish["folder"]),
        optimizers=paced(policy, job.stage, job.plan),
    )


def dpo_trainer(job: Job, wish: dict[str, Any]) -> DPOTrainer:
    """With a frozen reference's log-probs, computed where the data lack them; a moving one as TR-DPO's."""
    moves, dtype = job.stage.reference.moves, TRL_WEIGHTS[wish["setting"]]
    policy = read(job.start, dtype)
    config = DPOConfig(
        **settings(wish, wish["scratch"]),
        **(moving(job.plan) if moves else {"precompute_ref_log_probs": True}),
        beta=job.stage.objective.beta,
    )
    return Handed(
        model=policy,
        ref_model=read(job.start, dtype) if moves else None,
        args=config,
        train_dataset=job.data,
        processing_class=AutoTokenizer.from_pretrained(wish["folder"]),
        optimizers=paced(policy, job.stage, job.plan),
    )


def moving(plan: StagePlan) -> dict[str, Any]:
    """Our refreshes in TRL's words; where the plan has none, the first would come after its end."""
    first = next((count for count, step in enumerate(plan.steps, 1) if step.refreshes), len(plan.steps) + 1)
    return {"sync_ref_model": True, "ref_model_mixup_alpha": plan.alpha, "ref_model_sync_steps": first}


def checkpoint(name: str, wish: dict[str, Any]) -> str:
    """The folder that the anchor's weights stay in; every recipe's lie in one other, as nobody reads them again."""
    return str(Path(wish["scratch"]) / ("anchor" if name == "anchor" else "recipe"))


def read(folder: str, dtype: torch.dtype) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
