"""Which code a score hangs on."""

from __future__ import annotations

from pathlib import Path

import pytest

import models
from harness import measuring, store
from harness.engines import graph


@pytest.mark.parametrize("name", measuring.MEASURING)
def test_scores_hang_on_the_code_that_decides_what_is_measured(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`tokenised.py` among it, which says what rows a model's context holds."""
    mine, plain = Path(measuring.__file__).parent / name, store.file_digest
    before = measuring.measuring_digest.__wrapped__()
    monkeypatch.setattr(store, "file_digest", lambda path: "edited" if path == mine else plain(path))
    assert measuring.measuring_digest.__wrapped__() != before


@pytest.mark.parametrize("name", ["decoder.py", "kernels.c", "kernels.h"])
def test_scores_and_checkpoints_hang_on_what_computes_a_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, plain = Path(str(models.__file__)).parent / name, store.file_digest
    digests = (measuring.measuring_digest.__wrapped__, graph.code_digest.__wrapped__)
    before = [digest() for digest in digests]
    monkeypatch.setattr(store, "file_digest", lambda path: "edited" if path == mine else plain(path))
    assert not set(before) & {digest() for digest in digests}


def test_every_file_that_is_named_is_there() -> None:
    """One that moved would be an error in the middle of a run."""
    assert all((Path(measuring.__file__).parent / name).is_file() for name in measuring.MEASURING)
    assert "tokenised.py" in measuring.MEASURING
