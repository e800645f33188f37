"""The gate on the real model and data: a policy trained on flipped labels is stopped, another seed passes.

Three runs of one recipe at one budget on one anchor: the baseline, the same with another order of the data, and the
same with chosen and rejected changed round in training. A quarter of an hour on 2 cores; `-s` shows the tables.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from harness.cache import cache_root
from tests.harness.door import Finished, harness

FLIPPED = '''"""DPO that was given its labels the wrong way round: what a gate has to stop."""

from dataclasses import replace

from harness.recipes import dpo
from harness.recipes.recipe import Recipe


def flipped_loss(logps, *, beta):
    """The loss of DPO on pairs whose chosen and rejected responses have changed places."""
    return dpo.dpo_loss(
        replace(
            logps,
            policy_chosen_B=logps.policy_rejected_B,
            policy_rejected_B=logps.policy_chosen_B,
            reference_chosen_B=logps.reference_rejected_B,
            reference_rejected_B=logps.reference_chosen_B,
        ),
        beta=beta,
    )


def plan(knobs):
    from functools import partial

    anchor, stage = dpo.plan(knobs)
    objective = replace(stage.objective, name="flipped", loss=partial(flipped_loss, beta=knobs.beta))
    return (anchor, replace(stage, objective=objective))


recipe = Recipe(name="flipped", knobs=dpo.Knobs, plan=plan)
'''
# After six DPO steps another order of the data moves reward accuracy by several points: its margin leaves room.
RULES = """
[[rule]]
metric = "gold_win_rate"
margin = "10pp"

[[rule]]
metric = "reward_accuracy"
margin = "15pp"

[[rule]]
metric = "correct"
margin = "10pp"
"""
PROMPTS = int(os.environ.get("PREFBENCH_GATE_PROMPTS", "300"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs lie, with the recipe `flipped` installed beside them."""
    folder = tmp_path_factory.mktemp("gate")
    described = folder / "flipped-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: flipped\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text("[harness.recipes]\nflipped = flipped_dpo:recipe\n")
    (folder / "flipped_dpo.py").write_text(FLIPPED)
    (folder / "gate.toml").write_text(RULES)
    sys.path.insert(0, str(folder))
    return folder


def run(place: Path, name: str, *words: object) -> Path:
    flags = ("--budget", "7TFLOP", "--eval-prompts", PROMPTS, "--judge", "rule:gold", "--out", place / name)
    ended = harness("run", *words, *flags, cache=cache_root())
    assert ended.code == 0, ended.err
    return place / name


def gate(place: Path, name: str, *words: object) -> Finished:
    found = harness(
        "gate", place / name, "--baseline", place / "baseline", "--rules", place / "gate.toml", *words, cache=place
    )
    print(f"\n{name}: exit {found.code}\n{found.out}")
    return found


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_flipped_labels_are_stopped_and_another_seed_passes(place: Path) -> None:
    run(place, "baseline", "--recipes", "dpo-beta0.1")
    run(place, "again", "--recipes", "dpo-beta0.1", "--first-seed", 1)
    run(place, "flipped", "--recipes", "flipped")
    again, stopped = gate(place, "again"), gate(place, "flipped", "--recipe", "flipped=dpo-beta0.1")
    assert again.code == 0
    assert stopped.code == 1
    assert "Regression" in stopped.out
