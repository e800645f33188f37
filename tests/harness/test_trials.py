"""What a bench's checkpoints hang on besides their plans."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from harness.ground import Ground, lay_ground
from harness.recipes.registry import choose
from harness.settings import Asked, Resolved
from harness.trials import plan_bench

RESOLVED = Resolved(
    recipes=("sft",),
    model_digest="m",
    data_digest="d",
    judges=(),
    budget_pairs=64,
    flops_per_byte=8.0,
    dtype="float32",
    threads=1,
    micro_batch_tokens=512,
)


@pytest.fixture
def ground(tmp_path: Path, tiny_model_folder: Path) -> Ground:
    return lay_ground(Asked(model=str(tiny_model_folder), eval_prompts=4), tmp_path, lambda line: None)


def anchor_digest(ground: Ground) -> str:
    return plan_bench(RESOLVED, ground, choose(["sft"]), range(1)).anchor.digest


@pytest.mark.parametrize("adapted", [True, False])
def test_a_model_that_transformers_computes_hangs_on_its_version(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, adapted: bool
) -> None:
    """Its own code is part of what trained; of a model that we compute it is not."""
    ground = dataclasses.replace(ground, source=dataclasses.replace(ground.source, adapted=adapted))
    digests = set()
    for number in ("5.0.0", "5.0.1"):
        monkeypatch.setattr("harness.trials.version", lambda name, number=number: number)
        digests.add(anchor_digest(ground))
    assert len(digests) == (2 if adapted else 1)
