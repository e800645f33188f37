"""`open` shows a run's page in the web browser."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def opened(folder: Path, browser: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "harness", "open", str(folder)]
    return subprocess.run(words, env={**os.environ, "BROWSER": browser}, capture_output=True, text=True, check=False)


def test_the_page_is_given_to_the_browser(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("<!doctype html>")
    browser, shown = tmp_path / "browser", tmp_path / "shown"
    browser.write_text(f'#!/bin/sh\necho "$1" > {shown}\n')
    browser.chmod(0o755)
    ended = opened(tmp_path, f"{browser} %s")
    assert ended.returncode == 0
    assert shown.read_text().strip() == (tmp_path / "report.html").as_uri()
    assert ended.stdout.strip() == str(tmp_path / "report.html")


def test_without_a_browser_the_path_is_said(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("<!doctype html>")
    ended = opened(tmp_path, "/nowhere/at-all %s")
    assert ended.returncode == 0
    assert str(tmp_path / "report.html") in ended.stdout


def test_a_folder_without_a_report_says_how_to_make_it(tmp_path: Path) -> None:
    ended = opened(tmp_path, "true")
    assert ended.returncode == 2
    assert ended.stderr.strip() == f"{tmp_path} has no report.html: python -m harness report {tmp_path}"
