"""Every size is measured, and a further recipe's cost is told in its own FLOPs."""

from __future__ import annotations

from pathlib import Path

from benchmarks.dpo_ours import random_model
from benchmarks.growth import Sizes, compare
from tests.tiny import LLAMA


def test_each_axis_has_a_row_for_every_size(tiny_model_folder: Path) -> None:
    sizes = Sizes(
        model=str(tiny_model_folder),
        data="courtesy",
        recipes=(1, 3),
        chat_recipes=2,
        recipe_pairs=12,
        pairs=(8,),
        responses=(32,),
        widths=(64,),
    )
    said: list[str] = []
    found = compare("float32", said.append, sizes)
    axes = {"recipes": [1, 3], "pairs": [8], "response_tokens": [32], "width": [64]}
    assert {axis: [row["x"] for row in found[axis]] for axis in axes} == axes
    rows = [row for axis in axes for row in found[axis]]
    assert min(row["seconds"] for row in rows) > 0
    assert min(row["peak_bytes"] for row in rows) > 1_000_000  # a Python process
    one, three = found["recipes"]
    assert one["seconds"] < three["seconds"]
    assert found["marginal"].keys() == {"short", "chat"}
    for profile, marginal in found["marginal"].items():
        assert marginal["steps_cost"] < marginal["cost"]
        assert 0.1 < marginal["cost"] < 100  # of milliseconds: neither a rate nor a time upside down
        assert any(line.startswith(f"a further recipe, {profile} pairs:") for line in said)


def test_random_weights_have_the_width_that_is_asked_for() -> None:
    a = random_model(LLAMA, 128).architecture
    assert (a.width, a.attention_width, a.kv_width, a.hidden) == (128, 128, 128, 341)
    assert a.vocabulary == LLAMA.vocabulary
