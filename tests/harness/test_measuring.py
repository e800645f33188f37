"""Which code a score hangs on."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import measuring, store


@pytest.mark.parametrize("name", measuring.MEASURING)
def test_scores_hang_on_the_code_that_decides_what_is_measured(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`tokenised.py` among it, which says what rows a model's context holds."""
    mine, plain = Path(measuring.__file__).parent / name, store.file_digest
    before = measuring.measuring_digest.__wrapped__()
    monkeypatch.setattr(store, "file_digest", lambda path: "edited" if path == mine else plain(path))
    assert measuring.measuring_digest.__wrapped__() != before


def test_every_file_that_is_named_is_there() -> None:
    """One that moved would be an error in the middle of a run."""
    assert all((Path(measuring.__file__).parent / name).is_file() for name in measuring.MEASURING)
    assert "tokenised.py" in measuring.MEASURING
