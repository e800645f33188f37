"""How our time and memory grow: with recipes, pairs, the length of responses and the width of the model.

Every size runs in a process of its own, so that its peak is its own; but for recipes, where who has trained sixteen has
gone through one and four the same way. A further recipe that shares anchor and reference should cost its own policy
passes and little else: its marginal `cost` is its seconds by those that its policy FLOPs take at the rate of the passes
alone, timed in the same process, and `steps_cost` that of its steps alone. Between the two lie the anchor that
it reads and the checkpoint that it writes, which weigh less the longer a trial is; in both, its optimizer's own time.
Both are measured on short pairs, where passes are shortest beside all that, and on chat pairs.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.benches import wish_for
from benchmarks.profiles import DRAWN, MODEL, drawn_rows, load, short_source
from benchmarks.sides import Side, median

Say = Callable[[str], None]
Grown = dict[str, float]  # one row: x, seconds, peak_bytes
CHAT_PAIRS = 300  # of which a bench splits off what it measures with
ASKED = 1.1  # of the marginal cost, at most


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is grown, and on what."""

    model: str = MODEL
    data: str = "rasbt"
    recipes: tuple[int, ...] = (1, 4, 16)
    chat_recipes: int = 6
    recipe_pairs: int = 130  # a trial's, 80 of them for DPO: five steps
    pairs: tuple[int, ...] = (8, 32, 128)  # a trial's
    responses: tuple[int, ...] = (32, 128, 512)  # mean tokens
    widths: tuple[int, ...] = (256, 576, 1024)


def compare(dtype: str, say: Say, sizes: Sizes | None = None) -> dict[str, Any]:
    """Axis → its rows; and the marginal cost of a recipe, by profile."""
    sizes = sizes or Sizes(data=short_source())
    recipes, short = by_recipes(sizes, dtype)
    found: dict[str, Any] = {
        "recipes": told("recipes", recipes, say),
        "marginal": {"short": cost_told("short", short, say)},
    }
    with tempfile.TemporaryDirectory() as folder:
        data = write_pairs(Path(folder) / "chat.jsonl", sizes.model, CHAT_PAIRS)
        chat = by_recipes(replace(sizes, data=str(data), recipes=(sizes.chat_recipes,)), dtype)[1]
    found["marginal"]["chat"] = cost_told("chat", chat, say)
    found["pairs"] = told("pairs", by_pairs(sizes, dtype), say)
    wish = {"model": sizes.model, "dtype": dtype, "profile": "short", "reference": "zeros"}
    lengths = (({**wish, "response": x, "batch": 4, "steps": 2}, x) for x in sizes.responses)
    found["response_tokens"] = told("response tokens", (a_step(one, x) for one, x in lengths), say)
    widths = (({**wish, "width": x, "batch": 8, "steps": 3}, x) for x in sizes.widths)
    found["width"] = told("width", (a_step(one, x) for one, x in widths), say)
    return found


def told(axis: str, rows: Sequence[Grown] | Iterator[Grown], say: Say) -> list[Grown]:
    """The rows, each said as soon as it is there."""
    say(f"{axis:>16}{'seconds':>10}{'peak GB':>10}")
    kept = []
    for row in rows:
        say(f"{row['x']:>16,}{row['seconds']:>10.1f}{row['peak_bytes'] / 1e9:>10.2f}")
        kept.append(row)
    return kept


def cost_told(profile: str, marginal: Grown, say: Say) -> Grown:
    """The same, said."""
    say(
        f"a further recipe, {profile} pairs: {marginal['seconds']:.1f} s, {marginal['cost']:.2f} times its policy "
        f"FLOPs at {marginal['gflops_per_second']:.0f} GFLOP/s (asked for: {ASKED} at most), its steps alone "
        f"{marginal['steps_cost']:.2f}"
    )
    return marginal


def write_pairs(file: Path, model: str, count: int) -> Path:
    """Pairs of the chat profile as text, for a bench to read."""
    tokens = load(model)[1]
    rows = drawn_rows(DRAWN["chat"], tokens, count)
    pairs = ((tokens.decode(row.prompt), *map(tokens.decode, row.responses)) for row in rows)
    lines = (json.dumps(dict(zip(("prompt", "chosen", "rejected"), pair, strict=True))) for pair in pairs)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


def by_recipes(sizes: Sizes, dtype: str) -> tuple[list[Grown], Grown]:
    """The rows, and what a recipe costs when others have been trained before it."""
    specs = [f"dpo:beta={0.05 * (count + 1):.2f}" for count in range(max(sizes.recipes))]
    taken, rows, rates = [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        side = bench_of(sizes, specs, sizes.recipe_pairs, sizes.recipes, dtype, scratch)
        for count in range(1, len(specs) + 1):
            taken.append(side.step())
            if count in sizes.recipes:
                rows.append(row(count, sum(one["seconds"] for one in taken), side.peak_bytes))
                rates.append(side.step()["flops_per_second"])
        side.end()
    rate, later = statistics.median(rates), taken[1:]
    return rows, {
        "cost": statistics.median(one["seconds"] * rate / one["flops"] for one in later),
        "steps_cost": statistics.median(one["steps_seconds"] * rate / one["flops"] for one in later),
        "seconds": median(later),
        "gflops_per_second": rate / 1e9,
    }


def by_pairs(sizes: Sizes, dtype: str) -> Iterator[Grown]:
    """One recipe with its anchor and its reference on so many pairs."""
    for pairs in sizes.pairs:
        with tempfile.TemporaryDirectory() as scratch:
            side = bench_of(sizes, ["dpo-beta0.1"], pairs, (), dtype, scratch)
            seconds = side.step()["seconds"]
            side.end()
        yield row(pairs, seconds, side.peak_bytes)


def bench_of(sizes: Sizes, specs: Sequence[str], pairs: int, looks: Sequence[int], dtype: str, scratch: str) -> Side:
    wish = wish_for(model=sizes.model, data=sizes.data, recipes=specs, pairs=pairs, prompts=2, batch=16, dtype=dtype)
    return Side("benchmarks.growth_ours", {**wish, "looks": list(looks), "scratch": scratch})


def a_step(wish: dict[str, Any], x: int) -> Grown:
    """A DPO step's median seconds after one that warms up."""
    side = Side("benchmarks.dpo_ours", wish)
    taken = [side.step() for _ in range(wish["steps"])][1:]
    side.end()
    return row(x, median(taken), side.peak_bytes)


def row(x: int, seconds: float, peak_bytes: int) -> Grown:
    return {"x": x, "seconds": seconds, "peak_bytes": peak_bytes}
