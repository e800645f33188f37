"""A small bench as the harness lays it out, for the sides that carry it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.generation import LIMIT
from harness.cache import cache_root
from harness.engines.local import LocalEngine
from harness.fitting import fit
from harness.ground import Ground, lay_ground
from harness.recipes.registry import choose
from harness.resolution import resolve, settle_dtype
from harness.settings import Asked, BenchFile, Resolved
from harness.trials import BenchPlan, engine_for, plan_bench


@dataclass(frozen=True, kw_only=True)
class Laid:
    """A bench that could begin."""

    ground: Ground
    resolved: Resolved
    plan: BenchPlan

    def engine(self, cache: Path) -> LocalEngine:
        """What trains it, keeping checkpoints in a folder of its own instead of everybody's."""
        return engine_for(
            self.plan,
            self.resolved,
            self.ground,
            cache,
            on_stage=lambda node: None,
            on_step=lambda line: None,
            tell=print,
        )


def wish_for(
    *, model: str, data: str, recipes: Sequence[str], pairs: int, prompts: int, batch: int, dtype: str
) -> dict[str, Any]:
    """What `lay` is told, in what JSON can say: `pairs` is a trial's budget, its anchor's part included."""
    return {
        "model": model,
        "data": data,
        "recipes": list(recipes),
        "pairs": pairs,
        "prompts": prompts,
        "batch": batch,
        "dtype": dtype,
    }


def lay(wish: dict[str, Any]) -> Laid:
    """Read model and data, and plan every step."""
    asked = Asked(
        model=wish["model"],
        data=wish["data"],
        recipes=tuple(wish["recipes"]),
        budget=f"{wish['pairs']}pairs",
        judges=(),
        eval_prompts=wish["prompts"],
        max_new_tokens=LIMIT,
        batch_pairs=wish["batch"],
        dtype=wish["dtype"],
    )
    choices, wanted = choose(asked.recipes), BenchFile(asked=asked)
    ground = lay_ground(asked, cache_root(), lambda line: None)
    dtype = settle_dtype(wanted, ground.device)
    bench = resolve(wanted, ground, choices, (), dtype, fit(asked, ground, choices, dtype), lambda line: None)
    assert bench.resolved is not None
    return Laid(ground=ground, resolved=bench.resolved, plan=plan_bench(bench.resolved, ground, choices, bench.seeds))
