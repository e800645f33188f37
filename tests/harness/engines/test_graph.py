"""Stages are addressed by all that makes them: the same share a node, whatever differs makes another."""

from __future__ import annotations

import functools
import importlib
import linecache
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.engines.graph import stage_nodes
from harness.errors import HarnessError
from harness.recipes.recipe import Objective, Reference, Stage
from harness.recipes.registry import choose
from harness.recipes.sft import ANCHOR
from harness.training.budget import Budget
from tests.harness.engines.ground import FORTY_PAIRS, TERMS, nodes

PREFERENCE = [c.name for c in choose(["core"]) if len(c.stages) == 2]
FROZEN = [name for name in PREFERENCE if "beta" in name]
LOSS = "def loss(logps, scale=1.0):\n    return -{factor} * logps.policy_chosen_B\n"


def test_all_preference_recipes_share_the_anchor() -> None:
    """It is trained once for all of them."""
    assert len({nodes(name)[0].digest for name in PREFERENCE}) == 1


def test_the_anchor_of_the_trials_is_the_anchor_that_they_are_scored_against() -> None:
    """The stage on its own, as it is measured, is the node that trials begin with."""
    (anchor,) = stage_nodes(TERMS, "ground", (ANCHOR,), FORTY_PAIRS, seed=0)
    assert anchor.digest == nodes("dpo")[0].digest


def test_sft_on_the_whole_budget_is_not_the_anchor() -> None:
    """It has a schedule of its own."""
    assert nodes("sft")[0].digest != nodes("dpo")[0].digest


def test_every_recipe_ends_in_a_checkpoint_of_its_own() -> None:
    """No two recipes of the group `core` are the same training."""
    ends = [nodes(choice.name)[-1].digest for choice in choose(["core"])]
    assert len(set(ends)) == len(ends)


def test_frozen_recipes_share_their_reference_pass() -> None:
    """Four betas read the log-probs of one pass."""
    references = {reference.digest for name in FROZEN if (reference := nodes(name)[1].reference)}
    assert len(FROZEN) == 4
    assert len(references) == 1


@pytest.mark.parametrize("recipe", ["sft", "dpo-soft-reference", "dpo-hard-reference"])
def test_only_a_frozen_reference_has_a_node(recipe: str) -> None:
    """A moving one is computed live, and SFT has none."""
    assert all(node.reference is None for node in nodes(recipe))


def test_seeds_share_the_anchor() -> None:
    """Every trial of every seed is scored against one anchor."""
    assert nodes("dpo", seed=0)[0].digest == nodes("dpo", seed=1)[0].digest


@pytest.mark.parametrize("recipe", ["sft", "dpo"])
def test_another_seed_is_another_checkpoint(recipe: str) -> None:
    """Its data come in another order."""
    assert nodes(recipe, seed=0)[-1].digest != nodes(recipe, seed=1)[-1].digest


def test_a_seed_gives_every_recipe_the_same_order() -> None:
    """Recipes differ by their objective, not by their luck with the data."""
    orders = {tuple(step.pairs for step in nodes(name, seed=1)[1].plan.steps) for name in FROZEN}
    assert len(orders) == 1


@pytest.mark.parametrize("knob", ["beta=0.2", "learning_rate=1e-5", "reference=soft", "reference=hard"])
def test_every_knob_makes_another_checkpoint(knob: str) -> None:
    """A changed setting is never answered from the cache of another."""
    assert nodes(f"dpo:{knob}")[1].digest != nodes("dpo")[1].digest


@pytest.mark.parametrize(("kind", "knob"), [("soft", "half_life=0.5"), ("hard", "period=0.9")])
def test_the_pace_of_a_moving_reference_makes_another_checkpoint(kind: str, knob: str) -> None:
    """Half-life and period are part of what was trained."""
    moving = f"dpo:reference={kind}"
    assert nodes(f"{moving}:{knob}")[1].digest != nodes(moving)[1].digest


def test_another_ground_is_another_checkpoint() -> None:
    """Model, data and settings come in by their digest."""
    assert nodes("dpo", ground="other")[0].digest != nodes("dpo")[0].digest


def test_another_budget_is_another_checkpoint() -> None:
    """The schedule runs on the share of the budget that is spent."""
    assert nodes("dpo", budget=Budget(pairs=80))[0].digest != nodes("dpo")[0].digest


def write_loss(folder: Path, factor: int) -> Callable[..., Any]:
    """A stranger's loss, imported from the file as it stands now."""
    path = folder / "strangers_loss.py"
    path.write_text(LOSS.format(factor=factor))
    os.utime(path, (factor, factor))  # edits within a second are edits too
    sys.modules.pop("strangers_loss", None)
    importlib.invalidate_caches()
    linecache.checkcache(str(path))
    loss: Callable[..., Any] = importlib.import_module("strangers_loss").loss
    return loss


def digest_of(loss: Callable[..., Any]) -> str:
    objective = Objective(name="mine", loss=loss, responses="chosen", per="pair")
    stage = Stage(objective=objective, reference=Reference(kind="none"), share=1.0, learning_rate=1e-4)
    return stage_nodes(TERMS, "ground", (stage,), FORTY_PAIRS, seed=0)[0].digest


@pytest.mark.parametrize("wrap", [lambda loss: loss, lambda loss: functools.partial(loss, scale=2.0)])
def test_an_edited_loss_is_another_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrap: Callable[..., Any]
) -> None:
    """Under the same name and settings, bare or with its settings bound."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = digest_of(wrap(write_loss(tmp_path, factor=1)))
    assert digest_of(wrap(write_loss(tmp_path, factor=2))) != before


def test_an_unedited_loss_is_the_same_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process finds its checkpoint again."""
    monkeypatch.syspath_prepend(tmp_path)
    before = digest_of(write_loss(tmp_path, factor=1))
    assert digest_of(write_loss(tmp_path, factor=1)) == before


def closing_over(beta: float) -> Callable[..., Any]:
    def loss(logps: Any) -> Any:
        return beta * logps.policy_chosen_B

    return loss


class Scaled:
    """A loss with a number inside."""

    def __call__(self, logps: Any) -> Any:
        return logps.policy_chosen_B


@pytest.mark.parametrize("loss", [closing_over(0.1), Scaled(), Scaled().__call__, functools.partial(closing_over(0.1))])
def test_a_loss_with_hidden_values_is_refused(loss: Callable[..., Any]) -> None:
    """Two of them would have one digest, and the second would be answered with the first one's checkpoint."""
    with pytest.raises(HarnessError, match=r"keeps values that no digest sees.*functools\.partial"):
        digest_of(loss)
