"""A DPO step beside TRL's: pairs a second and peak memory, by length of the pairs, the reference cached and live."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.profiles import TRL_WEIGHTS, write_model
from benchmarks.sides import Paired, Side, Told, median, take_turns

BATCH = 8
WARM_UP = 1
CLOSE = 0.02  # of one another: both sides' loss and log-probs at the first step
Say = Callable[[str], None]


def compare(profiles: Sequence[str], references: Sequence[str], steps: int, dtype: str, say: Say) -> dict[str, Any]:
    """profile → reference → figures."""
    with tempfile.TemporaryDirectory() as scratch:
        write_model(Path(scratch))
        setting = fastest_setting(scratch, say)
        return {
            "trl_setting": setting,
            **{
                profile: {
                    reference: figures(profile, reference, steps, dtype, setting, scratch, say)
                    for reference in references
                }
                for profile in profiles
            },
        }


def fastest_setting(model: str, say: Say) -> str:
    """Which of TRL's settings is fastest here, on short pairs with the reference live."""
    taken = {}
    for setting in TRL_WEIGHTS:
        wish = {"profile": "short", "reference": "live", "batch": BATCH, "steps": 3, "model": model, "setting": setting}
        side = Side("benchmarks.dpo_trl", wish)
        taken[setting] = min([side.step()["seconds"] for _ in range(3)][1:])
        side.end()
        say(f"TRL in {setting}: {BATCH / taken[setting]:.2f} pairs/s")
    return min(taken, key=lambda setting: taken[setting])


def figures(
    profile: str, reference: str, steps: int, dtype: str, setting: str, model: str, say: Say
) -> dict[str, float]:
    """One cell of the table."""
    wish = {"profile": profile, "reference": reference, "batch": BATCH, "steps": WARM_UP + steps}
    ours = Side("benchmarks.dpo_ours", {**wish, "dtype": dtype})
    theirs = Side("benchmarks.dpo_trl", {**wish, "model": model, "setting": setting})
    paired = take_turns(ours, theirs, warm_up=WARM_UP, steps=steps)
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
        f"{profile}, {reference}: {found['ours_pairs_per_second']:.2f} against {found['trl_pairs_per_second']:.2f} "
        f"pairs/s ({found['speedup']:.2f}×), {paired.ours_bytes / 1e9:.1f} against {paired.theirs_bytes / 1e9:.1f} GB"
    )
    return found


def refuse_unlike(paired: Paired) -> None:
    """Both must have computed the same, or their times say nothing."""
    refuse_told(*paired.first)


def refuse_told(ours: Told, theirs: Told, step: str = "the first step") -> None:
    """The same of one step, in what both tell of it."""
    for key in ("loss", "chosen", "rejected"):
        mine, other = ours.get(key), theirs.get(key)
        if mine is None and other is None:
            continue
        if mine is None or other is None or not abs(mine - other) <= CLOSE * abs(other):
            raise SystemExit(f"benchmark: {key} of {step} is {_shown(mine)} here and {_shown(other)} in TRL: mend that")


def _shown(value: float | None) -> str:
    return "missing" if value is None else f"{value:.4f}"
