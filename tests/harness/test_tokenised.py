"""Rows in tokens are made when asked for; what the context cannot hold is found without encoding everything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import tokenised
from harness.data.rows import DataSet, load_pairs
from harness.errors import HarnessError
from harness.tokenised import ChosenRows, TokenRows, within_context
from models.decoder import Decoder
from models.language_model import make_row
from models.tokens import Tokens

Model = tuple[Decoder, Tokens]


def data(folder: Path, lengths: list[int]) -> DataSet:
    rows = [{"prompt": f"{n}?", "chosen": "a" * length, "rejected": "b"} for n, length in enumerate(lengths)]
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return load_pairs(path, cache=folder)


def test_rows_are_those_that_were_made_at_once(tmp_path: Path, tiny_model: Model) -> None:
    """The same tokens in the same places, slices too; the chosen form has one response."""
    tokens, pairs = tiny_model[1], data(tmp_path, [3, 5, 7]).pairs
    rows = TokenRows(tokens, pairs)
    made = [make_row(tokens, p.prompt, (p.chosen, p.rejected)) for p in pairs]
    assert (list(rows), rows[1:], rows[-1], len(rows)) == (made, made[1:], made[-1], 3)
    assert list(ChosenRows(rows)) == [make_row(tokens, p.prompt, (p.chosen,)) for p in pairs]


def test_a_row_is_encoded_once_while_there_is_room(
    tmp_path: Path, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And again once others took its place."""
    rows = TokenRows(tiny_model[1], data(tmp_path, [3, 5, 7]).pairs)
    calls: list[int] = []
    encode = rows._encode
    monkeypatch.setattr(rows, "_encode", lambda place: (calls.append(place), encode(place)))
    for place in (0, 1, 0, 1):
        _ = rows[place]
    assert calls == [0, 1]
    monkeypatch.setattr(tokenised, "KEPT_TOKENS", 1)
    for place in (2, 0):
        _ = rows[place]
    assert calls == [0, 1, 2, 0]


def test_the_digest_is_of_the_tokens(tmp_path: Path, tiny_model: Model) -> None:
    """Other rows, another digest."""
    one, two = (TokenRows(tiny_model[1], data(tmp_path, lengths).pairs).digest for lengths in ([3, 5], [3, 6]))
    assert one != two


def test_a_row_too_long_is_left_out_and_said(tmp_path: Path, tiny_model: Model) -> None:
    """One in a hundred; only rows that might be too long were encoded."""
    said: list[str] = []
    fitting = within_context(data(tmp_path, [3] * 99 + [900]), tiny_model[1], 800, 8, said.append)
    assert len(fitting.pairs) == 99
    assert fitting.warnings == tuple(said)
    assert said == ["1 of 100 rows are longer than the model's context and are left out: rows 100."]


def test_many_rows_too_long_are_refused(tmp_path: Path, tiny_model: Model) -> None:
    """The model's context is too short for this data."""
    with pytest.raises(HarnessError, match=r"row 99 has the prompt '98\?', which takes 904 tokens with its response"):
        within_context(data(tmp_path, [3] * 98 + [900, 900]), tiny_model[1], 800, 8, print)


def test_short_rows_are_not_encoded(tmp_path: Path, tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """No text has more tokens than bytes."""
    monkeypatch.setattr(tokenised, "make_row", None)
    found = data(tmp_path, [3] * 100)
    assert within_context(found, tiny_model[1], 800, 8, print) is found


def test_the_answer_to_be_written_has_to_fit_too(tmp_path: Path, tiny_model: Model) -> None:
    """A prompt that leaves no room for `new_tokens` is too long."""
    with pytest.raises(HarnessError, match="takes 802 tokens"):
        within_context(data(tmp_path, [3]), tiny_model[1], 800, 800, print)
