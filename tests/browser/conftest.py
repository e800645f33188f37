"""A real Chromium for the report's page; a page opened here may neither complain nor ask the network for anything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from reports.build import build_report
from tests.harness.door import harness, write_sums
from tests.reports.fake_run import Character, FakeRun, write_run
from tests.reports.hostile import HOSTILE, MEGABYTE

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
READY = "html[data-ready=true]"
Opened = Callable[..., Page]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Headless Chromium as the machine has it; without one these tests are skipped, but not in CI."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None and os.environ.get("CI"):
        pytest.fail("no Chromium: apt-get install chromium")
    if found is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Browser) -> Iterator[Opened]:
    """Opens a page and waits until its script is done; afterwards: no complaint, no request but the file itself."""
    complaints: list[str] = []
    contexts = []

    def open_page(path: Path, fragment: str = "", **settings: Any) -> Page:
        context = chromium.new_context(viewport=settings.pop("viewport", {"width": 1280, "height": 900}), **settings)
        contexts.append(context)
        page = context.new_page()
        address = path.resolve().as_uri()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: request.url.partition("#")[0] == address or complaints.append(request.url))
        page.goto(f"{address}{fragment}")
        page.wait_for_selector(READY)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="session")
def tiny_page(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    """The page of a run made here: the tiny model, trained and judged by the whole harness."""
    root = tmp_path_factory.mktemp("tiny")
    data = write_sums(root / "sums.jsonl", 120)
    flags = {"model": tiny_model_folder, "data": data, "budget": "48pairs", "eval-prompts": 16, "max-new-tokens": 12}
    words = [part for name, value in flags.items() for part in (f"--{name}", value)]
    judges = ["--judge", f"probe:{tiny_model_folder}", "--judge", "rule:length"]
    ended = harness("run", "--recipes", "core", *judges, *words, "--out", root / "run", cache=root / "cache")
    assert ended.code == 0, ended.err
    return root / "run" / "report.html"


@pytest.fixture(scope="session")
def example_page() -> Path:
    """The page of a real run on the real model, as the README shows it."""
    return Path(__file__).parents[2] / "docs" / "example" / "report.html"


@pytest.fixture(scope="session")
def fake_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a made-up run whose numbers are known."""
    return _page(tmp_path_factory, FakeRun(judges=("probe", "rule:length")))


@pytest.fixture(scope="session")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run whose completions and prompts try to break out of it."""
    texts = (*HOSTILE, MEGABYTE)
    characters = tuple(Character(recipe=f"r{i}", text=text) for i, text in enumerate(texts))
    return _page(tmp_path_factory, FakeRun(characters=characters, prompts=24, questions=dict(enumerate(HOSTILE))))


@pytest.fixture(scope="session")
def large_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of 30 trials on 300 prompts, with responses of about 60 words."""
    knobs = [(0.01 * (i + 1), ("soft", "hard")[i % 2]) for i in range(30)]
    characters = tuple(
        Character(recipe=f"dpo_beta={beta:.2f}_reference={kind}", kl=1 + 20 * beta) for beta, kind in knobs
    )
    run = FakeRun(characters=characters, prompts=300, chatter=45)
    return write_run(tmp_path_factory.mktemp("large"), run)


def _page(tmp_path_factory: pytest.TempPathFactory, run: FakeRun) -> Path:
    folder = write_run(tmp_path_factory.mktemp("page"), run)
    build_report(folder)
    return folder / "report.html"
