"""A training ground small enough to train a stage on in a tenth of a second."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from harness.engines.graph import TrainNode, stage_nodes
from harness.engines.local import LocalEngine
from harness.recipes.registry import choose
from harness.records import TrainStep
from harness.training.budget import Budget
from harness.training.plan import Terms
from harness.training.train import Execution
from tests.tiny import LLAMA, chosen_rows, decoder_of, pair_rows

MODEL = decoder_of()
ROWS = pair_rows(24)
TERMS = Terms(
    architecture=LLAMA,
    weights=sum(p.numel() for p in MODEL.parameters()),
    pair_rows=ROWS,
    chosen_rows=chosen_rows(ROWS),
    batch_pairs=4,
    flops_per_byte=8.0,
)
FORTY_PAIRS = Budget(pairs=40)  # 4 steps of anchor, 6 of DPO


def nodes(recipe: str, *, ground: str = "ground", budget: Budget = FORTY_PAIRS, seed: int = 0) -> tuple[TrainNode, ...]:
    """The nodes of one recipe's trial."""
    (choice,) = choose([recipe])
    return stage_nodes(TERMS, ground, choice.stages, budget, seed)


@dataclass(kw_only=True)
class Watched:
    """An engine, and what it did."""

    cache: Path
    dtype: torch.dtype = torch.float32
    on_step: Callable[[TrainStep], None] = lambda step: None
    trained: list[str] = field(default_factory=list)  # digests, in order

    @property
    def engine(self) -> LocalEngine:
        return LocalEngine(
            cache=self.cache,
            terms=TERMS,
            execution=Execution(dtype=self.dtype, micro_batch_tokens=64),
            fresh=lambda: copy.deepcopy(MODEL),
            hollow=MODEL.hollow,
            device=torch.device("cpu"),
            on_stage=lambda node: self.trained.append(node.digest),
            on_step=self.on_step,
        )
