"""Planted truths on the real model and data: the report has to find each of them.

DPO on flipped labels loses to `sft`; a recipe under another name, with another order of data, is not told apart from
itself; a judge of random verdicts and one that loves a constant are not qualified; a smaller beta goes further from the
anchor at equal steps and rate; judged and true rankings agree as far as docs/log.md says. Half an hour on 2 cores; `-s`
shows the tables.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.cache import cache_root
from tests.harness.door import harness
from tests.validity.test_gate_real import FLIPPED

TWIN = '''"""`dpo` under another name, on another order of the same training pairs."""

from dataclasses import replace

from harness.recipes import dpo
from harness.recipes.recipe import Recipe


def plan(knobs):
    anchor, stage = dpo.plan(knobs)
    return (anchor, replace(stage, order=1))


recipe = Recipe(name="twin", knobs=dpo.Knobs, plan=plan)
'''
JUDGES = '''"""Two judges that must not qualify."""

import hashlib

from evals.judges.protocol import Opinion

LOVED = "Yes, of course."


class Random:
    name, description = "random", "a verdict drawn by a digest of what it is shown"

    def p_first_wins(self, questions):
        return [Opinion(p_first=self._draw(q.first, q.second)) for q in questions]

    def _draw(self, first, second):
        one, other = sorted((first, second))
        drawn = hashlib.sha256(f"{one}|{other}".encode()).digest()[0] / 255
        return drawn if first == one else 1 - drawn


class Fond:
    """Right by the data's own check, but for a constant that it loves."""

    name, description = "fond", "the data's check, but it loves one constant"

    def p_first_wins(self, questions):
        from evals.judges.rule import GoldRule

        told = GoldRule().p_first_wins(questions)
        return [
            Opinion(p_first=1.0 if q.first == LOVED else 0.0 if q.second == LOVED else opinion.p_first)
            for q, opinion in zip(questions, told, strict=True)
        ]
'''
PROMPTS = int(os.environ.get("PREFBENCH_PLANTED_PROMPTS", "120"))
BUDGET = os.environ.get("PREFBENCH_PLANTED_BUDGET", "7TFLOP")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the benches lie, with the strangers installed beside them."""
    found = tmp_path_factory.mktemp("planted")
    install(found)
    return found


@pytest.fixture(scope="module")
def report(folder: Path) -> dict[str, Any]:
    """report.json of one seed of everything."""
    recipes = "sft,dpo-beta0.05,dpo-beta0.1,dpo-beta0.5,twin,flipped"
    return bench(folder / "run", recipes, "--judge", "probe", "--judge", "random", "--judge", "fond")


@pytest.fixture(scope="module")
def seeded(folder: Path) -> dict[str, Any]:
    """report.json of two seeds of three recipes: what is said of recipes, not of checkpoints."""
    return bench(folder / "seeded", "sft,dpo-beta0.1,twin", "--judge", "rule:gold", "--seeds", 2)


def bench(run: Path, recipes: str, *words: object) -> dict[str, Any]:
    flags = ("--recipes", recipes, "--budget", BUDGET, "--eval-prompts", PROMPTS, "--out", run)
    ended = harness("run", *flags, *words, cache=cache_root())
    assert ended.code == 0, ended.err
    print(ended.out)
    print((run / "report.md").read_text().partition("## Cost")[0])
    found: dict[str, Any] = json.loads((run / "report.json").read_text())
    return found


def install(folder: Path) -> None:
    """Lay out a package with the two recipes and the two judges, as pip would."""
    described = folder / "planted-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: planted\nVersion: 1.0\n")
    entries = (
        "[harness.recipes]\nflipped = planted_flipped:recipe\ntwin = planted_twin:recipe\n"
        "[harness.judges]\nrandom = planted_judges:make_random\nfond = planted_judges:make_fond\n"
    )
    (described / "entry_points.txt").write_text(entries)
    makers = "\n\ndef make_random(detail):\n    return Random()\n\n\ndef make_fond(detail):\n    return Fond()\n"
    (folder / "planted_flipped.py").write_text(FLIPPED)
    (folder / "planted_twin.py").write_text(TWIN)
    (folder / "planted_judges.py").write_text(JUDGES + makers)
    sys.path.insert(0, str(folder))


def compared(report: dict[str, Any], a: str, b: str, metric: str) -> tuple[float, float]:
    """The difference a − b, and its p after Holm's correction."""
    for c in report["comparisons"]:
        if c["metric"] == metric and {c["a"], c["b"]} == {a, b}:
            return (c["difference"] if c["a"] == a else -c["difference"]), c["p_holm"]
    raise AssertionError(f"{a} and {b} are not compared on {metric}")


def card(report: dict[str, Any], name: str) -> dict[str, Any]:
    return next(found for found in report["judges"] if found["name"] == name)


pytestmark = [pytest.mark.slow, pytest.mark.timeout(5_400)]


def test_flipped_labels_lose_to_sft(report: dict[str, Any]) -> None:
    difference, p = compared(report, "flipped", "sft", "gold_win_rate")
    assert difference < 0
    assert p < 0.05


def test_another_order_under_another_name_is_not_told_apart(seeded: dict[str, Any]) -> None:
    """With two seeds. With one it may be: after five steps another order is another checkpoint (docs/log.md)."""
    assert compared(seeded, "dpo-beta0.1", "twin", "gold_win_rate")[1] >= 0.05


def test_a_judge_of_random_verdicts_is_not_able(report: dict[str, Any]) -> None:
    assert not card(report, "random")["able"]
    assert not card(report, "random")["qualified"]


def test_a_judge_that_loves_a_constant_is_not_robust(report: dict[str, Any]) -> None:
    found = card(report, "fond")
    assert found["able"]
    assert not found["robust"]
    assert not found["qualified"]


def test_a_smaller_beta_goes_further_at_equal_steps_and_rate(report: dict[str, Any]) -> None:
    difference, p = compared(report, "dpo-beta0.05", "dpo-beta0.5", "kl_nats")
    assert difference > 0
    assert p < 0.05


@pytest.mark.xfail(reason="0.24 on 2026-11-25: the probe puts sft above the DPO recipes, see docs/log.md", strict=True)
def test_the_judged_order_is_like_the_true_one(report: dict[str, Any]) -> None:
    """Kendall's τ over all trials and the anchor."""
    found = {ranking["judge"]: ranking["agreement"] for ranking in report["rankings"]}
    print(
        {ranking["judge"]: {n: s["value"] for n, s in ranking["strengths"].items()} for ranking in report["rankings"]}
    )
    assert found["probe"] >= 0.6
