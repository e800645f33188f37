"""The example that the README shows is what this code makes."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "example"


@pytest.mark.parametrize("name", ["report.css", *sorted(f.name for f in (ROOT / "reports/web").glob("*.js"))])
def test_the_examples_page_has_todays_style_and_script(name: str) -> None:
    """Else make it again: docs/example/README.md says how."""
    assert files("reports").joinpath("web", name).read_text(encoding="utf-8") in (EXAMPLE / "report.html").read_text()


def test_the_example_is_of_the_real_model_and_data() -> None:
    bench = json.loads((EXAMPLE / "report.json").read_text())["bench"]
    assert (bench["model"], bench["data"]) == ("smollm2-135m", "courtesy")
    assert bench["model_digest"].startswith("b179c9523d0e")


def test_the_example_is_what_make_run_asks_for() -> None:
    """Its budget and its number of prompts are the Makefile's."""
    bench = json.loads((EXAMPLE / "report.json").read_text())["bench"]
    makefile = (ROOT / "Makefile").read_text()
    assert f"BUDGET ?= {bench['budget']}\n" in makefile
    assert f"PROMPTS ?= {bench['eval_prompts']}\n" in makefile


def test_the_readme_shows_it_first() -> None:
    """Before anything is explained, a picture of a report and the way to it."""
    start = (ROOT / "README.md").read_text().split("\n## ")[0]
    assert "docs/example/report.md" in start
    assert re.search(r"!\[[^]]+\]\(docs/example/desktop\.png\)", start)


def test_no_path_of_the_machine_that_made_it_is_in_it() -> None:
    for file in EXAMPLE.rglob("*.*"):
        assert not any(place in file.read_bytes() for place in (bytes(ROOT), b"/root/", b"/home/", b"/Users/")), file
