"""What examples/ and the project's own files tell people to run is what the command line takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from harness.cli import app
from harness.rules import read_rules

ROOT = Path(__file__).parents[1]
TOLD = [
    *sorted((ROOT / "examples").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.yml")),
    *(ROOT / name for name in ("README.md", "Makefile", "docs/example/README.md")),
]


def commands(path: Path) -> list[str]:
    """Every `python -m harness …` of a file, to the end of the line, the code span or a comment."""
    found = re.findall(r"python -m harness ([^`\n]+)", path.read_text().replace("\\\n", ""))
    return [re.split(r"\s+#|\s+\|", words)[0].strip() for words in found]


@pytest.mark.parametrize("path", TOLD, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_parses(path: Path) -> None:
    """Its options exist and its arguments are all there; nothing is run."""
    group = typer.main.get_command(app)
    for words in commands(path):
        name, *rest = shlex.split(re.sub(r"\$\((\w+)\)", "1", words))
        if "--help" in rest:
            continue
        command = group.commands[name]  # type: ignore[attr-defined]  # a group of commands
        command.make_context(name, rest)


def test_the_files_are_looked_through() -> None:
    assert sum(len(commands(path)) for path in TOLD) > 15


def test_the_workflow_is_one() -> None:
    """It runs, gates, comments and keeps the report; actions are pinned to a version."""
    workflow = yaml.safe_load((ROOT / "examples/ci/gate.yml").read_text())
    steps = workflow["jobs"]["gate"]["steps"]
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]) for step in steps if "uses" in step)
    ran = " ".join(step.get("run", "") for step in steps)
    assert all(words in ran for words in ("harness run", "harness gate", "gh pr comment"))


@pytest.mark.parametrize("path", ["examples/ci/gate.toml", "tests/regression/gate.toml"])
def test_the_rules_are_rules(path: str) -> None:
    shares = ("win_rate[probe]", "reward_accuracy", "gold_win_rate", "correct")
    units = {**dict.fromkeys(shares, "share"), "kl_nats": "nats"}
    assert read_rules(ROOT / path, units, ("sft", "dpo-beta0.1")).rules
