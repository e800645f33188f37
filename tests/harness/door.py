"""The command line as a user meets it, called in this process; and data and strangers' recipes to give it."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from tests.tiny import text_pairs


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str


def harness(*words: object, cache: Path) -> Finished:
    """`python -m harness WORDS` with a cache of its own; an exception that it lets through comes through here too."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["harness", *map(str, words)])
        patch.setenv("PREFBENCH_CACHE", str(cache))
        patch.setenv("COLUMNS", "120")
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
    return Finished(code=code, out=out.getvalue(), err=err.getvalue())


def write_sums(path: Path, count: int = 120) -> Path:
    """A data set of sums in TRL columns whose answers are known, one prompt a row."""
    rows = [
        {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected, "gold": gold_of(pair.question)}
        for pair in {pair.question: pair for pair in text_pairs(2 * count)}.values()
    ][:count]
    assert len(rows) == count
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def gold_of(question: str) -> dict[str, Any]:
    """Of "What is 3 plus 4?"."""
    a, b = (int(word.rstrip("?")) for word in question.split() if word.rstrip("?").isdigit())
    return {"kind": "number", "answers": [str(a + b)], "given": [str(a), str(b)]}


STRANGER = '''"""A stranger's recipe: the stages of SFT with a loss of its own."""

from dataclasses import dataclass, replace

from harness.recipes.recipe import Recipe
from harness.recipes.sft import sft_loss, sft_stage


@dataclass(frozen=True, kw_only=True)
class Knobs:
    learning_rate: float = 1e-4


def loss(logps):
    {loss}


def plan(knobs):
    {plan}
    stage = sft_stage(share=1.0, learning_rate=knobs.learning_rate)
    return (replace(stage, objective=replace(stage.objective, name="strange", loss=loss)),)


recipe = Recipe(name="strange", knobs=Knobs, plan=plan)
'''


def install_stranger(
    folder: Path, patch: pytest.MonkeyPatch, *, loss: str = "return sft_loss(logps)", plan: str = "pass"
) -> None:
    """Install a package with the recipe `strange`, as pip would lay it out, for as long as the patch lasts."""
    described = folder / "strangers-1.0.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text("[harness.recipes]\nstrange = strangers:recipe\n")
    (folder / "strangers.py").write_text(STRANGER.format(loss=loss, plan=plan))
    patch.syspath_prepend(folder)
    patch.delitem(sys.modules, "strangers", raising=False)
