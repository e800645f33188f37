"""From what was asked to what makes a run reproducible: seconds become FLOPs here, once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from harness.errors import HarnessError
from harness.fitting import Fitting
from harness.ground import Ground, Say
from harness.recipes.registry import Choice
from harness.recipes.sft import ANCHOR
from harness.settings import BenchFile, Resolved
from harness.training.budget import FLOPS_PER_BYTE, parse_budget
from harness.training.machine import calibrate, choose_dtype
from harness.training.train import Execution
from models.hub import hub_model
from models.sources import ADAPTER

MICRO_BATCH_TOKENS = 2048  # at most: `Fitting.choose`
# An adapter has little else in memory than activations, so smaller parts of a step pay. Their price: what
# all prompts begin with is read again by each part.
ADAPTER_MICRO_BATCH_TOKENS = 512


def settle_dtype(bench: BenchFile, device: torch.device) -> torch.dtype:
    """The dtype that the bench was begun in, or the one asked for, or what this machine multiplies fastest in."""
    name = bench.resolved.dtype if bench.resolved else bench.asked.dtype
    dtype: torch.dtype = choose_dtype(device) if name == "auto" else getattr(torch, name)
    return dtype


def resolve(
    bench: BenchFile,
    ground: Ground,
    choices: Sequence[Choice],
    judges: Sequence[str],
    dtype: torch.dtype,
    fitting: Fitting,
    say: Say,
) -> BenchFile:
    """The bench with its budget in FLOPs and all that its numbers hang on; as it stands, if it was resolved before.

    `judges` are their descriptions, digests of their models included.
    """
    if bench.resolved is not None:
        refuse_other_contents(bench, {"model": ground.source.digest, "data": ground.dataset.digest})
        _refuse_other_judges(bench, judges)
        return bench
    usual = MICRO_BATCH_TOKENS if ground.terms.adapter is None else ADAPTER_MICRO_BATCH_TOKENS
    execution = Execution(dtype=dtype, micro_batch_tokens=fitting.choose(usual, say), tell=say)
    budget = _budget(bench.asked.budget, ground, execution, say)
    resolved = Resolved(
        recipes=tuple(choice.spec for choice in choices),
        model_digest=ground.source.digest,
        data_digest=ground.dataset.digest,
        judges=tuple(judges),
        dtype="bfloat16" if dtype == torch.bfloat16 else "float32",
        threads=torch.get_num_threads(),
        micro_batch_tokens=execution.room.most,  # calibrating may have run out of memory
        **budget,
    )
    return BenchFile(asked=bench.asked, resolved=resolved)


def refuse_other_contents(bench: BenchFile, digests: Mapping[str, str]) -> None:
    """HarnessError where the model or the data has another digest than the one that the bench was resolved with."""
    assert bench.resolved is not None
    for name, found in digests.items():
        expected = getattr(bench.resolved, f"{name}_digest")
        if found != expected:
            raise HarnessError(
                f"{name} {getattr(bench.asked, name)!r} is not what this bench was made with (sha256 {found[:12]}…, "
                f"not {expected[:12]}…): {_way_back(name, getattr(bench.asked, name))}"
            )


def _way_back(name: str, source: str) -> str:
    """What to do about other contents; a branch or tag of the Hub may have moved by itself."""
    found = hub_model(source.removeprefix(ADAPTER)) if name == "model" else None
    if found is None or re.fullmatch("[0-9a-f]{40}", found.revision or ""):
        return "bring that one, or start another bench with --out"
    return (
        f"it moved on the Hub since: ask for hf:{found.repo}@COMMIT, by the commit that record.json has, with another "
        "--out"
    )


def _refuse_other_judges(bench: BenchFile, judges: Sequence[str]) -> None:
    assert bench.resolved is not None
    before = dict(zip(bench.asked.judges, bench.resolved.judges, strict=False))
    for name, description in zip(bench.asked.judges, judges, strict=True):
        if description != before.get(name):
            raise HarnessError(
                f"judge {name!r} is not what this bench was made with ({description}, not {before.get(name)}): bring "
                "that one back, or start another bench with --out"
            )


def _budget(text: str, ground: Ground, execution: Execution, say: Say) -> dict[str, Any]:
    """The budget's fields in `Resolved`."""
    wanted = parse_budget(text)
    if wanted.unit == "flops":
        return {"budget_flops": wanted.amount, "flops_per_byte": FLOPS_PER_BYTE}
    if wanted.unit == "seconds":
        return _calibrated(text, wanted.amount, ground, execution, say)
    pairs = wanted.amount * (len(ground.splits.train) if wanted.unit == "epochs" else 1)
    return {"budget_pairs": max(1, round(pairs)), "flops_per_byte": FLOPS_PER_BYTE}


def _calibrated(text: str, seconds: float, ground: Ground, execution: Execution, say: Say) -> dict[str, Any]:
    """Seconds as the FLOPs that this machine trains in them, by timing real steps."""
    say(f"calibrating: how many FLOPs does this machine train in {text}?")
    speed = calibrate(ground.fresh(), ground.terms, ANCHOR, execution)
    flops = float(round(seconds * speed.flops_per_second))
    say(f"{speed.flops_per_second / 1e9:.0f} GFLOP/s, so every trial gets {flops / 1e12:.3g} TFLOP")
    return {
        "budget_flops": flops,
        "flops_per_second": float(round(speed.flops_per_second)),
        "flops_per_byte": round(speed.flops_per_byte, 2),
    }
