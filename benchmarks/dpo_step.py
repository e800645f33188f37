"""A DPO step beside TRL's: pairs a second and peak memory, by length of the pairs, the reference cached and live.

Twice: beside TRL as people run it, and (`kept`) beside TRL whose process is told to keep the memory that it frees. Ours
does that by itself while it trains; where the first touch of a page is dear, it is much of TRL's time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.profiles import TRL_WEIGHTS, write_model
from benchmarks.sides import KEPT, Paired, Side, Told, median, take_turns, turns_of

BATCH = 8
CLOSE = 0.02  # of one another: both sides' loss and log-probs at the first step
Say = Callable[[str], None]


def compare(
    profiles: Sequence[str],
    references: Sequence[str],
    steps: int,
    dtype: str,
    setting: str | None,
    kept: bool,
    say: Say,
) -> dict[str, Any]:
    """profile → reference → figures. `setting` is TRL's, the fastest here where it is None."""
    with tempfile.TemporaryDirectory() as scratch:
        write_model(Path(scratch))
        setting = setting or fastest_setting(scratch, dtype, say)
        found: dict[str, Any] = {}
        for profile in profiles:
            found[profile] = {}
            for reference in references:
                wish = {"profile": profile, "reference": reference, "batch": BATCH, "steps": sum(turns_of(steps))}
                sides = {**wish, "dtype": dtype}, {**wish, "model": scratch, "setting": setting}
                found[profile][reference] = {
                    "trl_setting": setting,
                    **figures(*sides, steps, "", {}, say),
                    "kept": figures(*sides, steps, ", memory kept", KEPT, say) if kept else None,
                }
        return found


def fastest_setting(model: str, dtype: str, say: Say) -> str:
    """Which of TRL's settings is fastest here, on short pairs with the reference live; beside float32 its own alone.

    Where a processor emulates bfloat16, a step of the others takes three minutes.
    """
    if dtype == "float32":
        return dtype
    taken = {}
    for setting in TRL_WEIGHTS:
        wish = {"profile": "short", "reference": "live", "batch": BATCH, "steps": 3, "model": model, "setting": setting}
        side = Side("benchmarks.dpo_trl", wish)
        taken[setting] = min([side.step()["seconds"] for _ in range(3)][1:])
        side.end()
        say(f"TRL in {setting}: {BATCH / taken[setting]:.2f} pairs/s")
    return min(taken, key=lambda setting: taken[setting])


def figures(
    our_wish: Told, their_wish: Told, steps: int, which: str, their_environment: Mapping[str, str], say: Say
) -> dict[str, Any]:
    """One cell of the table."""
    ours = Side("benchmarks.dpo_ours", our_wish)
    theirs = Side("benchmarks.dpo_trl", their_wish, their_environment)
    paired = take_turns(ours, theirs, steps=steps)
    refuse_unlike(paired)
    found = {
        "ours_pairs_per_second": BATCH / median(paired.ours),
        "trl_pairs_per_second": BATCH / median(paired.theirs),
        "speedup": paired.speedup,
        "ours_peak_bytes": paired.ours_bytes,
        "trl_peak_bytes": paired.theirs_bytes,
        "memory_ratio": paired.ours_bytes / paired.theirs_bytes,
    }
    say(
        f"{our_wish['profile']}, {our_wish['reference']}{which}: {found['ours_pairs_per_second']:.2f} against "
        f"{found['trl_pairs_per_second']:.2f} pairs/s ({found['speedup']:.2f}×), {paired.ours_bytes / 1e9:.1f} against "
        f"{paired.theirs_bytes / 1e9:.1f} GB"
    )
    return found


def refuse_unlike(paired: Paired) -> None:
    """Both must have computed the same, or their times say nothing."""
    refuse_told(*paired.first)


def refuse_told(ours: Told, theirs: Told, step: str = "the first step", *, loss: float = CLOSE) -> None:
    """The same of one step, in what both tell of it; `loss`: how far apart losses may be."""
    for key, close in {"loss": loss, "chosen": CLOSE, "rejected": CLOSE}.items():
        mine, other = ours.get(key), theirs.get(key)
        if mine is None and other is None:
            continue
        if mine is None or other is None or not abs(mine - other) <= close * abs(other):
            raise SystemExit(f"benchmark: {key} of {step} is {_shown(mine)} here and {_shown(other)} in TRL: mend that")


def _shown(value: float | None) -> str:
    return "missing" if value is None else f"{value:.4f}"
