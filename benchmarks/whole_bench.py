"""A bench of the seven core recipes beside the same seven done with TRL and transformers, from end to end.

Each turn of a side trains one thing and lets its checkpoint answer the held-out prompts greedily; judging is left out
on both sides. Imports, the first reading of model and data, and planning come before the first turn and do not count;
starting weights, checkpoints and the trainers' own set-up do. TRL runs in the fastest of its settings.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.benches import wish_for
from benchmarks.dpo_step import BATCH, CLOSE, fastest_setting, refuse_told
from benchmarks.profiles import MODEL, short_source, write_model
from benchmarks.sides import Paired, Side, Told
from harness.recipes.registry import choose

# Five steps a recipe, as `make run` takes them: of three, a checkpoint takes a tenth (docs/log.md, 2026-11-27). A round
# takes 10 minutes on 2 cores that multiply in bfloat16.
PAIRS, PROMPTS = 80, 20
Say = Callable[[str], None]
# How far apart first losses of pairs may be: they are ln 2 and bfloat16's noise. A batch's mean margin is off by up to
# 0.15 nats, which β / 2 of 0.25 makes 5% of it (docs/log.md, 2026-11-27).
NOISE = 0.06


def compare(
    pairs: int, prompts: int, rounds: int, dtype: str, setting: str | None, say: Say, model: str = MODEL
) -> dict[str, Any]:
    """The figures of so many rounds, each in fresh processes. `model`: the embedded one, or a folder."""
    recipes = [choice.name for choice in choose(["core"])]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        if model == MODEL:
            write_model(folder)
        else:
            folder = Path(model)
        setting = setting or fastest_setting(str(folder), dtype, say)
        wish = wish_for(
            model=model,
            data=short_source() if model == MODEL else "courtesy",
            recipes=recipes,
            pairs=pairs,
            prompts=prompts,
            batch=BATCH,
            dtype=dtype,
        )
        wish |= {"folder": str(folder), "setting": setting}
        found = [one_round(wish, len(recipes), say) for _ in range(rounds)]
    return {"pairs": pairs, "trl_setting": setting, "data": wish["data"], **figures(found, say)}


def one_round(wish: dict[str, Any], recipes: int, say: Say) -> Paired:
    """Both sides in turn, phase by phase; refused as soon as they do not compute the same."""
    with tempfile.TemporaryDirectory() as mine, tempfile.TemporaryDirectory() as other:
        ours = Side("benchmarks.whole_ours", {**wish, "scratch": mine})
        theirs = Side("benchmarks.whole_trl", {**wish, "scratch": other})
        told = []
        for _ in range(2 + recipes):
            told.append((ours.step(), theirs.step()))
            refuse_unequal(*told[-1])
            say(f"{told[-1][0]['name']}: {told[-1][0]['seconds']:.1f} against {told[-1][1]['seconds']:.1f} s")
        ours.end()
        theirs.end()
    return Paired(
        first=told[0],
        ours=[o for o, _ in told],
        theirs=[t for _, t in told],
        ours_bytes=ours.peak_bytes,
        theirs_bytes=theirs.peak_bytes,
    )


def refuse_unequal(ours: Told, theirs: Told) -> None:
    """Both must have trained the same on as many pairs in as many steps, and answered as many prompts."""
    for key in ("name", "steps", "pairs", "prompts"):
        if ours.get(key) != theirs.get(key):
            raise SystemExit(
                f"benchmark: {key} of {ours['name']} is {ours.get(key)} here and {theirs.get(key)} in TRL: mend that"
            )
    noise = NOISE if "chosen" in ours else CLOSE
    refuse_told(ours, theirs, f"{ours['name']}'s first step", loss=noise)


def figures(rounds: Sequence[Paired], say: Say) -> dict[str, Any]:
    """The speedup, and each side's seconds by phase: medians over the rounds."""
    found = {
        "speedup": statistics.median(seconds(one.theirs) / seconds(one.ours) for one in rounds),
        "rounds": len(rounds),
        "prompts": rounds[0].ours[0]["prompts"],
        "last_loss_apart": max(map(apart, rounds)),
        "ours": side([one.ours for one in rounds], [one.ours_bytes for one in rounds]),
        "trl": side([one.theirs for one in rounds], [one.theirs_bytes for one in rounds]),
    }
    ours, theirs = found["ours"], found["trl"]
    say(f"{'seconds':<20}{'ours':>10}{'TRL':>10}{'speedup':>10}")
    for phase in ours["phases"]:
        say(line(phase, ours["phases"][phase], theirs["phases"][phase]))
    say(line("in all", ours["seconds"], theirs["seconds"]))
    say(f"{'peak GB':<20}{ours['peak_bytes'] / 1e9:>10.1f}{theirs['peak_bytes'] / 1e9:>10.1f}")
    say(f"{'tokens answered':<20}{ours['tokens']:>10,}{theirs['tokens']:>10,}")
    say(f"losses of the last steps: {found['last_loss_apart']:.2%} apart at most")
    say(f"whole_bench.speedup: {found['speedup']:.2f}, the median of {len(rounds)}")
    return found


def apart(paired: Paired) -> float:
    """The largest share by which the losses of a training's last step differ: small where both trained alike."""
    pairs = [(o["last_loss"], t["last_loss"]) for o, t in zip(paired.ours, paired.theirs, strict=True) if "loss" in o]
    return float(max(abs(ours - theirs) / abs(theirs) for ours, theirs in pairs))


def line(phase: str, ours: float, theirs: float) -> str:
    return f"{phase:<20}{ours:>10.1f}{theirs:>10.1f}{theirs / ours:>9.2f}×"


def side(rounds: Sequence[Sequence[Told]], peaks: Sequence[int]) -> dict[str, Any]:
    """One side's figures."""
    return {
        "seconds": statistics.median(map(seconds, rounds)),
        "peak_bytes": max(peaks),
        "tokens": sum(told.get("tokens", 0) for told in rounds[0]),
        "phases": {
            **{
                turns[0]["name"]: statistics.median(told["train"] for told in turns)
                for turns in zip(*rounds, strict=True)
            },
            "completions": statistics.median(sum(told.get("complete", 0.0) for told in turns) for turns in rounds),
        },
    }


def seconds(turns: Sequence[Told]) -> float:
    return float(sum(told["seconds"] for told in turns))
