"""Training pairs as token ids, made when they are asked for: a million pairs are never all encoded."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import overload

import numpy as np

from harness import store
from harness.data.faults import LISTED, Dropped, refusal
from harness.data.rows import DataSet, PairList
from harness.errors import HarnessError
from harness.records import Pair
from models.language_model import make_row
from models.packing import Row
from models.tokens import Tokens

KEPT_TOKENS = 64_000_000  # remembered, 4 bytes each
FEW = 32  # rows that are looked at for the longest
BYTES_BESIDE = 256  # of a template around a row's texts, at the least that is allowed for


class TokenRows(Sequence[Row]):
    """Pairs with both responses. What was encoded is remembered while there is room."""

    def __init__(self, tokens: Tokens, pairs: Sequence[Pair]) -> None:
        self.tokens, self.pairs = tokens, pairs
        self.encoded: dict[int, list[array[int]]] = {}
        self.held = 0

    def __len__(self) -> int:
        return len(self.pairs)

    @overload
    def __getitem__(self, at: int) -> Row: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Row]: ...

    def __getitem__(self, at: int | slice) -> Row | Sequence[Row]:
        if isinstance(at, slice):
            return [self[place] for place in range(*at.indices(len(self)))]
        place = range(len(self))[at]
        if place not in self.encoded:
            self._encode(place)
        prompt, *responses = (tuple(ids) for ids in self.encoded[place])
        return Row(prompt=prompt, responses=tuple(responses))

    def _encode(self, place: int) -> None:
        pair = self.pairs[place]
        row = make_row(self.tokens, pair.prompt, (pair.chosen, pair.rejected))
        size = len(row.prompt) + row.response_tokens
        if self.held + size > KEPT_TOKENS:
            self.encoded.clear()
            self.held = 0
        self.encoded[place] = [array("I", ids) for ids in (row.prompt, *row.responses)]
        self.held += size

    @property
    def digest(self) -> str:
        """Of all tokens, or of what they are made of where those are many to make."""
        if isinstance(self.pairs, PairList) and len(self) > 50_000:
            few = [(row.prompt, row.responses) for row in self[:100]]
            return store.digest(self.pairs.digest, few)
        return store.digest([(row.prompt, row.responses) for row in self])


def longest_row(rows: TokenRows) -> int:
    """Input tokens of the longest row, by the few whose texts are longest: a million rows are not encoded for it.

    One with shorter texts that have less in common may be a little longer.
    """
    pairs = rows.pairs
    places: Sequence[int] = range(len(rows))
    if isinstance(pairs, PairList):
        places = np.argsort(pairs.column("most_bytes"))[-FEW:].tolist()
    return max(rows[place].input_tokens for place in places)


class ChosenRows(Sequence[Row]):
    """The same rows with their chosen responses alone."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, at: int) -> Row: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Row]: ...

    def __getitem__(self, at: int | slice) -> Row | Sequence[Row]:
        if isinstance(at, slice):
            return [self[place] for place in range(*at.indices(len(self)))]
        row = self.rows[at]
        return Row(prompt=row.prompt, responses=row.responses[:1])


def within_context(
    dataset: DataSet, tokens: Tokens, context: int, new_tokens: int, say: Callable[[str], None]
) -> DataSet:
    """The pairs that the model's context holds, each with `new_tokens` for an answer of its own.

    Up to 1% that it does not hold are left out and said; more are an error. No text has more tokens than bytes, so most
    pairs are known to fit without being encoded.
    """
    pairs = dataset.pairs
    assert isinstance(pairs, PairList)
    longest = {
        place: _tokens(tokens, pairs[place], new_tokens) for place in _candidates(pairs, context, new_tokens, say)
    }
    over = {place: length for place, length in longest.items() if length > context}
    if not over:
        return dataset
    first = min(over)
    numbers = pairs.column("numbers")[sorted(over)]
    dropped = Dropped(
        kind="too long",
        count=len(over),
        rows=tuple(numbers[:LISTED].tolist()),
        at=f"{dataset.name}: row {numbers[0]}",
        what=(
            f"has the prompt {pairs[first].question[:60]!r}, which takes {over[first]:,} tokens with its response, and "
            f"the model's context is {context:,}"
        ),
        remedy="shorten or drop such rows, or choose a model with a longer context",
    )
    if line := refusal({"too long": dropped}, len(pairs)):
        raise HarnessError(line)
    out = np.zeros(len(pairs), dtype=bool)
    out[sorted(over)] = True
    warning = dropped.sentence(len(pairs))
    say(warning)
    return dataset.without(out, warning)


def _candidates(pairs: PairList, context: int, new_tokens: int, say: Callable[[str], None]) -> Iterator[int]:
    """The pairs that have more bytes than the context has tokens."""
    beside = BYTES_BESIDE + max(_beside(pairs, place) for place in _one_of_each_shape(pairs))
    upper = pairs.column("most_bytes").astype(np.int64) + beside + new_tokens
    places = np.flatnonzero(upper > context)
    if len(places) > 10_000:
        say(f"measuring {len(places):,} long rows in the model's tokens")
    yield from places.tolist()


def _one_of_each_shape(pairs: PairList) -> Sequence[int]:
    places: list[int] = np.unique(pairs.column("shapes"), return_index=True)[1].tolist()
    return places


def _beside(pairs: PairList, place: int) -> int:
    """Bytes that the template adds to what a pair asks."""
    pair = pairs[place]
    return len(pair.prompt.encode()) - len(pair.question.encode())


def _tokens(tokens: Tokens, pair: Pair, new_tokens: int) -> int:
    row = make_row(tokens, pair.prompt, (pair.chosen, pair.rejected))
    return len(row.prompt) + max(*(len(response) for response in row.responses), new_tokens)
