"""`python -m benchmarks`: every part, or those named; a table on the terminal and benchmarks/latest.json.

A part that is measured replaces its figures there; those of others stay, where machine and libraries are the same.
"""

from __future__ import annotations

import argparse
import difflib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks import ceiling, dpo_step, generation, gpu, growth, whole_bench
from benchmarks.profiles import PROFILES, TRL_WEIGHTS
from benchmarks.record import LATEST, LIBRARIES, known, machine, moment, stamped, update
from harness.store import write_json
from harness.training.machine import choose_device, choose_dtype

PARTS = ("dpo_step", "generation", "ceiling", "whole_bench", "growth", "gpu")


def main() -> None:
    asked = parse()
    console = Console(highlight=False)
    dtype = str(choose_dtype(choose_device())).removeprefix("torch.") if asked.dtype == "auto" else asked.dtype
    found, stamp = known(asked.out, machine(dtype), console.print), moment(asked.out)
    for name in asked.parts or default_parts():
        console.rule(name)
        measured = part(name, asked, dtype, lambda line: console.print(line, soft_wrap=True))
        update(found, {name: stamped(measured, stamp)})
        write_json(asked.out, found)
    console.print(f"All figures: {asked.out}")


def default_parts() -> list[str]:
    """All that this machine can do."""
    return [name for name in PARTS if name != "gpu" or torch.cuda.is_available()]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all that can be, if left out")
    parser.add_argument(
        "--profiles", nargs="+", choices=PROFILES, default=list(PROFILES), help="of dpo_step and ceiling"
    )
    parser.add_argument("--references", nargs="+", choices=["cached", "live"], default=["cached", "live"])
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each side; the median counts")
    parser.add_argument("--rounds", type=int, default=1, help="of whole_bench; the median counts")
    parser.add_argument("--pairs", type=int, default=whole_bench.PAIRS, help="that whole_bench trains each recipe on")
    parser.add_argument("--prompts", type=int, default=whole_bench.PROMPTS, help="that each of its checkpoints answers")
    parser.add_argument("--trl-setting", choices=TRL_WEIGHTS, help="the fastest here, if left out")
    parser.add_argument(
        "--without-kept", action="store_true", help="no second DPO step beside a TRL that keeps the memory it frees"
    )
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], default="auto")
    parser.add_argument("--out", type=Path, default=LATEST)
    asked = parser.parse_args()
    if unknown := [name for name in asked.parts if name not in PARTS]:
        close = difflib.get_close_matches(unknown[0], PARTS, 1)
        parser.error(
            f"no part {unknown[0]!r}: "
            + (f"did you mean {close[0]!r}?" if close else f"it is one of {', '.join(PARTS)}")
        )
    for name in ("steps", "rounds"):
        if (given := getattr(asked, name)) < 1:
            parser.error(f"--{name} {given}: a median takes 1 or more")
    if asked.pairs < 2:
        parser.error(f"--pairs {asked.pairs}: the anchor and what follows take 1 each, so 2 or more")
    if asked.prompts < 2:
        parser.error(f"--prompts {asked.prompts}: a bench answers 2 or more")
    if "gpu" in asked.parts and not torch.cuda.is_available():
        parser.error(gpu.NO_GPU)
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing and asked.parts != ["gpu"]:  # which goes without TRL
        parser.error(f"{missing[0]} is not installed: make bench, or pip install -e '.[bench]'")
    return asked


def part(name: str, asked: argparse.Namespace, dtype: str, say: Callable[[str], None]) -> dict[str, Any]:
    if name == "dpo_step":
        kept = not asked.without_kept
        return dpo_step.compare(asked.profiles, asked.references, asked.steps, dtype, asked.trl_setting, kept, say)
    if name == "whole_bench":
        return whole_bench.compare(asked.pairs, asked.prompts, asked.rounds, dtype, asked.trl_setting, say)
    if name == "growth":
        return growth.compare(dtype, say)
    if name == "gpu":
        return gpu.compare(asked.steps, dtype, say)
    if name == "ceiling":
        return ceiling.compare(asked.profiles, asked.steps, dtype, say)
    return generation.compare(asked.steps, dtype, say)


if __name__ == "__main__":
    main()
