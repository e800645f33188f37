"""A run to report on: written once, read by many tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.records import RunRecord
from reports.load import load_run
from tests.reports.fake_run import FakeRun, write_run

Loaded = Callable[[FakeRun], RunRecord]


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    """Writes a fake run and reads it back through the door that the report uses."""
    return lambda fake: load_run(write_run(tmp_path / "run", fake))
