"""The pairs that are timed have the lengths that the benchmark says."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

import pytest

from benchmarks.profiles import DRAWN, load, rows_of


@pytest.mark.parametrize("profile", DRAWN)
def test_drawn_rows_have_their_profiles_lengths(profile: str, smollm2_path: Path) -> None:
    tokens, wanted = load()[1], DRAWN[profile]
    rows = rows_of(profile, tokens, 200)
    assert mean(len(row.prompt) for row in rows) == pytest.approx(wanted.prompt, rel=0.1)
    for response in range(2):
        assert mean(len(row.responses[response]) for row in rows) == pytest.approx(wanted.response, rel=0.1)
    assert rows == rows_of(profile, tokens, 200)
