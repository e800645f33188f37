"""`open` shows a run's page in the browser, and where it is in any case."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reports.fake_run import FakeRun, write_run


def opened(folder: Path, browser: Path) -> subprocess.CompletedProcess[str]:
    """`harness open` in a process of its own, with this browser and no other within reach."""
    environment = {**os.environ, "BROWSER": str(browser), "PATH": "", "DISPLAY": "", "WAYLAND_DISPLAY": ""}
    words = [sys.executable, "-m", "harness", "open", str(folder)]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def browser(tmp_path: Path) -> Path:
    """A script that writes down what it is given."""
    script = tmp_path / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/visited\n')
    script.chmod(0o755)
    return script


def test_the_page_is_opened_in_the_browser(tmp_path: Path, browser: Path) -> None:
    """By its address, whatever the folder is called; its path is printed."""
    folder = tmp_path / "my run #1"
    folder.mkdir()
    (folder / "report.html").write_text("<p>")
    ended = opened(folder, browser)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{folder}/report.html\n", "")
    assert (tmp_path / "visited").read_text() == f"file://{tmp_path}/my%20run%20%231/report.html\n"


def test_without_a_browser_the_path_is_printed(tmp_path: Path) -> None:
    """And a line says that there was none: no failure, on a machine without a screen."""
    (tmp_path / "report.html").write_text("<p>")
    ended = opened(tmp_path, tmp_path / "nowhere")
    assert (ended.returncode, ended.stdout) == (0, f"{tmp_path}/report.html\n")
    assert "no web browser was found" in ended.stderr


def test_a_run_without_a_page_says_how_to_write_it(tmp_path: Path, browser: Path) -> None:
    """In one line, exit 2, and nothing is opened."""
    folder = write_run(tmp_path / "run", FakeRun())
    ended = opened(folder, browser)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"{folder} has no report.html: python -m harness report {folder}\n"
    assert not (tmp_path / "visited").exists()
