"""A whole bench beside TRL: both sides do the same, and what they took is told apart by phase."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.sides import Paired, Told
from benchmarks.whole_bench import apart, compare, figures, refuse_unequal
from harness.recipes.registry import choose


def turn(name: str, seconds: float, **told: float | str) -> Told:
    return {"name": name, "seconds": seconds, "train": seconds, **told}


def trained(name: str, seconds: float, *, last_loss: float = 0.5) -> Told:
    more = {"complete": 1.0, "steps": 2, "pairs": 9, "prompts": 4, "tokens": 100}
    return turn(name, seconds + 1.0, **more) | {"train": seconds, "loss": 0.7, "last_loss": last_loss}


def paired(ours: float, theirs: float) -> Paired:
    mine, other = ([trained("sft", taken), turn("reference", taken)] for taken in (ours, theirs))
    return Paired(first=(mine[0], other[0]), ours=mine, theirs=other, ours_bytes=1, theirs_bytes=2)


def test_figures_are_medians_over_rounds_and_completions_stand_apart() -> None:
    found = figures([paired(2.0, 4.0), paired(2.0, 40.0), paired(3.0, 7.0)], lambda line: None)
    assert found["speedup"] == pytest.approx(15 / 7)
    assert found["ours"]["seconds"] == 5.0
    assert found["ours"]["phases"] == {"sft": 2.0, "reference": 2.0, "completions": 1.0}
    assert found["trl"]["phases"] == {"sft": 7.0, "reference": 7.0, "completions": 1.0}
    assert (found["ours"]["peak_bytes"], found["trl"]["peak_bytes"]) == (1, 2)


def test_the_largest_difference_of_last_losses_counts() -> None:
    ours, theirs = ([trained(name, 1.0, last_loss=loss) for name in "ab"] for loss in (0.5, 0.4))
    ours[0]["last_loss"] = 0.4
    both = Paired(first=(ours[0], theirs[0]), ours=ours, theirs=theirs, ours_bytes=1, theirs_bytes=1)
    assert apart(both) == pytest.approx(0.25)


@pytest.mark.parametrize("key", ["steps", "pairs", "prompts"])
def test_sides_that_did_another_amount_are_not_compared(key: str) -> None:
    refuse_unequal(trained("sft", 1.0), trained("sft", 2.0))
    with pytest.raises(SystemExit, match=f"{key} of sft is 1 here and .* in TRL"):
        refuse_unequal(trained("sft", 1.0) | {key: 1}, trained("sft", 1.0))


def test_sides_that_trained_something_else_are_not_compared() -> None:
    with pytest.raises(SystemExit, match=r"loss of sft's first step is 0\.8000 here and 0\.7000 in TRL"):
        refuse_unequal(trained("sft", 1.0) | {"loss": 0.8}, trained("sft", 1.0))
    with pytest.raises(SystemExit, match=r"chosen of sft's first step is missing here and -3\.0000 in TRL"):
        refuse_unequal(trained("sft", 1.0), trained("sft", 1.0) | {"chosen": -3.0})


def test_only_of_pairs_may_the_first_loss_be_noise_apart() -> None:
    """Theirs is 0.7; log-probs have to agree as closely as ever."""
    pair = {"chosen": -3.0, "rejected": -4.0}
    theirs = trained("dpo", 1.0) | pair
    refuse_unequal(theirs | {"loss": 0.725}, theirs)
    for told in ({"loss": 0.75}, {"rejected": -4.1}):
        with pytest.raises(SystemExit, match="of dpo's first step is"):
            refuse_unequal(theirs | told, theirs)
    with pytest.raises(SystemExit, match="loss of sft's first step is"):
        refuse_unequal(trained("sft", 1.0) | {"loss": 0.725}, trained("sft", 1.0))


def test_trl_trains_every_core_recipe_as_we_do(tiny_model_folder: Path) -> None:
    """On enough pairs for both moving references to move before the last step."""
    pytest.importorskip("trl", minversion="1.16")
    said: list[str] = []
    found = compare(60, 3, 1, "float32", "float32", said.append, str(tiny_model_folder))
    assert found["last_loss_apart"] < 1e-3
    assert found["ours"]["tokens"] == found["trl"]["tokens"]
    recipes = [choice.name for choice in choose(["core"])]
    assert list(found["trl"]["phases"]) == ["anchor", "reference", *recipes, "completions"]
    assert found["prompts"] == 3
    assert any(line.startswith("whole_bench.speedup") for line in said)
