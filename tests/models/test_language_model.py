"""Rows from text, and rows into batches."""

from __future__ import annotations

import pytest
import torch

from models.decoder import Decoder
from models.language_model import LanguageModel, batches, make_row
from models.tokens import Tokens
from tests.tiny import pair_rows


@pytest.mark.parametrize("limit", [1, 20, 50, 10_000])
def test_every_row_is_in_one_batch(limit: int) -> None:
    """None twice, none left out, and no batch over the limit unless it is a single row."""
    rows = pair_rows(20)
    parts = list(batches(rows, limit))
    assert sorted(i for part in parts for i in part) == list(range(20))
    assert all(len(part) == 1 or sum(rows[i].input_tokens for i in part) <= limit for part in parts)


def test_rows_of_like_length_are_together() -> None:
    """Batches are cut from the rows in the order of their lengths."""
    rows = pair_rows(20)
    lengths = [rows[i].input_tokens for part in batches(rows, 50) for i in part]
    assert lengths == sorted(lengths)


def test_no_rows_make_no_batch() -> None:
    """Nothing in, nothing out."""
    assert list(batches([], 100)) == []


def test_a_rows_responses_end_and_its_prompt_does_not(tiny_model: tuple[Decoder, Tokens]) -> None:
    """The end token closes each response; the prompt is left open for the answer."""
    _, tokens = tiny_model
    row = make_row(tokens, "ask ", ("yes", "no"))
    assert row.prompt == tuple(b"ask ")
    assert row.responses == ((*b"yes", tokens.end), (*b"no", tokens.end))


def test_a_language_model_is_frozen(tiny_model: tuple[Decoder, Tokens]) -> None:
    """In float32 and in bfloat16 alike, so that measuring never trains."""
    for dtype in (torch.float32, torch.bfloat16):
        model = LanguageModel.of(*tiny_model, dtype)
        assert not any(p.requires_grad for p in model.decoder.parameters())
