"""On one GPU, with random weights: a DPO step beside the GPU's own peak and beside TRL, and decoding beside its memory.

Pairs have `chat` lengths, tokens are drawn, and the reference is computed live on both sides. What is counted is useful
work: FLOPs as budgets count them, and for a decoded token the weights and the cache that have to be read once.
"""

from __future__ import annotations

import copy
import gc
import importlib.util
import random
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.device_peaks import Peaks, peaks_of
from benchmarks.dpo_step import refuse_told
from benchmarks.gpu_shapes import GPT2_124M, LLAMA_1B, drawn_pairs
from benchmarks.profiles import DRAWN, SEED, Profile, dpo_stage, dtype_named, planned, random_weights, terms_of
from harness.training.adamw import start_optimizer
from harness.training.budget import forward_flops, training_flops
from harness.training.clock import now
from harness.training.machine import choose_device, seconds_of
from harness.training.mixed_precision import MixedPrecision
from harness.training.plan import StagePlan
from harness.training.reference import Moving
from harness.training.train import Execution, accumulate
from models.architecture import Architecture
from models.decoder import Decoder
from models.generation import generate
from models.packing import Row

NO_GPU = "gpu: PyTorch finds no CUDA device on this machine: run this part where `nvidia-smi` lists one"
NEVER = -1  # an end token that no row writes
WARM_UP = 3  # steps: kernels are compiled in the first
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is measured."""

    models: dict[str, Architecture] = field(default_factory=lambda: {"gpt2-124m": GPT2_124M, "llama-1b": LLAMA_1B})
    profile: Profile = DRAWN["chat"]  # of pairs
    pairs: int = 32  # a step
    micro_tokens: int = 16384
    their_micro_pairs: int = 8  # TRL pads, and holds the logits of all of them
    answers: int = 256
    prompt_tokens: int = 128
    new_tokens: int = 128


def compare(
    steps: int, dtype: str, say: Say, sizes: Sizes | None = None, device: torch.device | None = None
) -> dict[str, Any]:
    """model → figures, beside the device's peaks."""
    sizes, device = sizes or Sizes(), device or choose_device()
    peaks = peaks_of(device, dtype_named(dtype))
    say(f"{peaks.name}: {peaks.flops / 1e12:.0f} TFLOP/s and {peaks.bytes / 1e9:.0f} GB/s, {peaks.source}")
    found: dict[str, Any] = {"device": peaks.name, "peaks": peaks.source}
    for name, architecture in sizes.models.items():
        model = random_weights(architecture).to(device)
        found[name] = {
            "dpo": dpo_figures(model, sizes, steps, dtype, peaks, say),
            "decoding": decoding_figures(model, sizes, steps, dtype, peaks, say),
        }
    return found


def dpo_figures(model: Decoder, sizes: Sizes, steps: int, dtype: str, peaks: Peaks, say: Say) -> dict[str, Any]:
    """Pairs a second and share of the peak, TRL's too where it is installed."""
    a = model.architecture
    rows = drawn_pairs(sizes.profile, a.vocabulary, (WARM_UP + steps) * sizes.pairs)
    plan = planned(terms_of(a, sum(p.numel() for p in model.parameters()), rows, sizes.pairs), WARM_UP + steps)
    ours = our_steps(copy.deepcopy(model), rows, plan, sizes, dtype_named(dtype))
    flops = [training_flops(a, batch) + forward_flops(a, batch) for batch in batches_of(plan, rows)]  # reference too
    rates = [done / told["seconds"] for done, told in zip(flops, ours, strict=True)]
    found = {
        "ours_pairs_per_second": sizes.pairs / middle(ours),
        "share_of_peak": statistics.median(rates[WARM_UP:]) / peaks.flops,
    }
    say(f"DPO: {found['ours_pairs_per_second']:.1f} pairs/s, {found['share_of_peak']:.0%} of the peak")
    give_back()
    if importlib.util.find_spec("trl") is not None:
        theirs = their_steps(model, rows, plan, sizes, dtype)
        refuse_told(ours[0], theirs[0])
        found["trl_pairs_per_second"] = sizes.pairs / middle(theirs)
        found["speedup"] = middle(theirs) / middle(ours)
        say(f"TRL: {found['trl_pairs_per_second']:.1f} pairs/s ({found['speedup']:.2f}×)")
        give_back()
    return found


def batches_of(plan: StagePlan, rows: Sequence[Row]) -> list[list[Row]]:
    """The pairs of each step."""
    return [[rows[i] for i in step.pairs] for step in plan.steps]


def middle(told: Sequence[dict[str, float]]) -> float:
    """The median of seconds of the steps that count."""
    return statistics.median(step["seconds"] for step in told[WARM_UP:])


def our_steps(
    policy: Decoder, rows: Sequence[Row], plan: StagePlan, sizes: Sizes, dtype: torch.dtype
) -> list[dict[str, float]]:
    """What each step took, optimizer included, its loss and its log-probs."""
    stage, reference = dpo_stage(), Moving(policy, dtype, mixes=False)  # it never moves
    optimizer = start_optimizer(policy, rate=stage.learning_rate)
    trained, execution = MixedPrecision(policy, dtype), Execution(dtype=dtype, micro_batch_tokens=sizes.micro_tokens)
    told: list[dict[str, float]] = []
    for step, batch in zip(plan.steps, batches_of(plan, rows), strict=True):
        began = now()
        loss, metrics = accumulate(trained, stage.objective, step.pairs, batch, reference, execution)
        optimizer.update(trained)
        seconds = now() - began
        told.append({"seconds": seconds, "loss": loss, **logps_of(metrics)})
    return told


def logps_of(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Of the log's metrics, those that TRL too can be asked for."""
    found = {"chosen": metrics["logps_chosen"], "rejected": metrics["logps_rejected"]}
    return {name: value for name, value in found.items() if value is not None}


def their_steps(
    model: Decoder, rows: Sequence[Row], plan: StagePlan, sizes: Sizes, dtype: str
) -> list[dict[str, float]]:
    """The same pairs in the same order through TRL's trainer, as its documentation has it."""
    from benchmarks.gpu_trl import trained

    setting = "autocast" if dtype == "bfloat16" else "float32"
    wish = {"setting": setting, "batch": sizes.their_micro_pairs, "device": model.device.type}
    wish["accumulate"] = sizes.pairs // sizes.their_micro_pairs
    with tempfile.TemporaryDirectory() as scratch:
        return trained(model, [rows[i] for i in plan.pairs], plan, wish, Path(scratch))


def decoding_figures(model: Decoder, sizes: Sizes, rounds: int, dtype: str, peaks: Peaks, say: Say) -> dict[str, Any]:
    """Tokens a second after the first, and the share of the memory's bandwidth that reading needs at the least."""
    a, narrow = model.architecture, dtype_named(dtype)
    decoder = model if narrow == torch.float32 else model.in_dtype(narrow)
    draw = random.Random(SEED)
    prompts = [tuple(draw.randrange(a.vocabulary) for _ in range(sizes.prompt_tokens)) for _ in range(sizes.answers)]

    def seconds(limit: int) -> float:
        return seconds_of(lambda: generate(decoder, prompts, end=NEVER, limit=limit, dtype=narrow, batch=sizes.answers))

    seconds(sizes.new_tokens)  # warms up
    taken = statistics.median(seconds(sizes.new_tokens) - seconds(1) for _ in range(rounds))
    steps = sizes.new_tokens - 1
    found = {
        "tokens_per_second": steps * sizes.answers / taken,
        "share_of_bandwidth": bytes_read(a, sizes, narrow) / taken / peaks.bytes,
    }
    say(f"decoding: {found['tokens_per_second']:.0f} tokens/s, {found['share_of_bandwidth']:.0%} of the bandwidth")
    give_back()
    return found


def bytes_read(a: Architecture, sizes: Sizes, dtype: torch.dtype) -> float:
    """By all steps after the first token: every matrix once a step, every row's cache once a step."""
    steps = sizes.new_tokens - 1
    cached = sum(sizes.prompt_tokens + step for step in range(1, steps + 1)) * sizes.answers
    numbers = steps * (a.body_weights + a.head_weights) + cached * 2 * a.depth * a.kv_width
    return float(numbers * dtype.itemsize)


def give_back() -> None:
    """The device's free memory, before somebody else's turn."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
