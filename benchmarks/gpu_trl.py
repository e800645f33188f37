"""TRL's DPO steps on a GPU, on the same random weights and token ids, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from benchmarks.dpo_trl import make_trainer
from benchmarks.profiles import load
from harness.training.clock import now
from harness.training.plan import StagePlan
from models.decoder import Decoder
from models.packing import Row
from models.writing import write_folder


class Clock:
    """Stands where `benchmarks.sides.Turns` stands, and waits for nobody."""

    def __init__(self) -> None:
        self.told: list[dict[str, float]] = []
        self._began = 0.0

    def wait(self) -> None:
        self._began = now()

    def tell(self, **told: Any) -> None:
        self.told.append({"seconds": now() - self._began, **told})


def trained(
    model: Decoder, rows: list[Row], plan: StagePlan, wish: dict[str, Any], folder: Path
) -> list[dict[str, float]]:
    """What each step took, its loss and its log-probs."""
    tokens = load()[1]
    write_folder(model, folder, dtype=torch.float32, end=tokens.end)
    tokens.write_folder(folder)
    ids = [{"prompt_ids": r.prompt, "chosen_ids": r.responses[0], "rejected_ids": r.responses[1]} for r in rows]
    clock = Clock()
    trainer = make_trainer(
        {**wish, "model": str(folder), "reference": "live"}, Dataset.from_list(ids), plan, str(folder / "out"), clock
    )
    clock.wait()
    trainer.train()
    return clock.told
