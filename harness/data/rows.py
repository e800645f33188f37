"""Preference data from a name, a path or the Hub: rows read, checked, and put into their template when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from harness import store
from harness.cache import cache_root
from harness.data.faults import LISTED, Dropped, counted, refusal
from harness.data.kept import Kept, has_fixed_splits
from harness.data.labelled import SPLIT_NAMES
from harness.data.prompts import Ask
from harness.data.reading import Reading, Tell, read_source
from harness.data.sources import find_source
from harness.data.templates import RenderChat, check_template, render_prompt
from harness.errors import HarnessError
from harness.records import Pair
from models.failure import ModelError


class PairList(Sequence[Pair]):
    """Pairs that lie on disk or in memory as rows: each is made when it is asked for."""

    def __init__(
        self, kept: Kept, places: npt.NDArray[np.int64], template: str, render_chat: RenderChat | None = None
    ) -> None:
        self.kept, self.places, self.template, self.render_chat = kept, places, template, render_chat

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, at: int) -> Pair: ...

    @overload
    def __getitem__(self, at: slice) -> PairList: ...

    def __getitem__(self, at: int | slice) -> Pair | PairList:
        if isinstance(at, slice):
            return self.part(self.places[at])
        place = int(self.places[at])
        row, number = self.kept.row(place), int(self.kept.index["prompt_ids"][place])
        return Pair(
            prompt_id=f"{number:016x}",
            question=row.ask.question,
            prompt=render_prompt(self.template, row.ask, self.render_chat),
            chosen=row.chosen,
            rejected=row.rejected,
            gold=row.gold,
        )

    def __iter__(self) -> Iterator[Pair]:
        return (self[at] for at in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as of every list

    def part(self, places: npt.NDArray[np.int64]) -> PairList:
        """Those at these places among the kept rows."""
        return PairList(self.kept, places, self.template, self.render_chat)

    def take(self, numbers: npt.NDArray[Any]) -> PairList:
        """Those at these places among the pairs."""
        return self.part(self.places[numbers])

    def column(self, name: str) -> npt.NDArray[Any]:
        """A number for each pair out of the index."""
        column: npt.NDArray[Any] = self.kept.index[name][self.places]
        return column

    @property
    def groups(self) -> npt.NDArray[Any]:
        """A number for each pair that it shares with those of the same question: no two splits have one in common."""
        groups: npt.NDArray[Any] = self.kept.groups[self.places]
        return groups

    @property
    def digest(self) -> str:
        """Of the rows, which of them these are, and how they are put to the model."""
        rendered = [render_prompt(self.template, ask, self.render_chat) for ask in _examples(self.kept)]
        return store.digest(self.kept.digest, self.places.tobytes().hex(), self.template, rendered)


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """The preference pairs of one source, in its order."""

    name: str  # the name or path that was asked for
    digest: str  # sha256 of the file
    template: str  # settled: "alpaca", "plain" or "chat"
    pairs: Sequence[Pair]
    splits: tuple[str, ...] | None = None  # the split that each pair is fixed to; None where the data fixes none
    warnings: tuple[str, ...] = ()  # one sentence each, for the report
    reading: str = ""  # what it was read as, said aloud

    def without(self, dropped: npt.NDArray[np.bool_], warning: str) -> DataSet:
        """The same with some pairs left out, and the sentence that says so."""
        assert isinstance(self.pairs, PairList)
        kept = np.flatnonzero(~dropped)
        splits = tuple(self.splits[at] for at in kept.tolist()) if self.splits else None
        return replace(self, pairs=self.pairs.take(kept), splits=splits, warnings=(*self.warnings, warning))


def load_pairs(
    source: str | Path,
    template: str = "auto",
    *,
    columns: Sequence[str] = (),
    render_chat: RenderChat | None = None,
    cache: Path | None = None,
    tell: Tell | None = None,
) -> DataSet:
    """The pairs of `courtesy`, `rasbt`, a file or files of rows, or a data set of the Hub, in any known format.

    Messages need the model's chat template, `render_chat`, unless `template` names another one.
    Up to 1% of rows with a fault that real data has are left out with a warning; more are an error.
    """
    check_template(template)
    root = cache or cache_root()
    reading = read_source(find_source(str(source), root), columns, root, tell)
    if line := refusal(reading.dropped, reading.found.rows):
        raise HarnessError(line)
    return data_set(reading, template, render_chat)


def data_set(reading: Reading, template: str = "auto", render_chat: RenderChat | None = None) -> DataSet:
    """What was read, in its template. HarnessError where the model's chat template refuses its messages."""
    settled = reading.form.template if template == "auto" else template
    pairs = PairList(reading.kept, reading.places, settled, render_chat)
    shapes = _refused_shapes(pairs) if settled == "chat" else {}
    refused = np.isin(pairs.column("shapes"), list(shapes))
    told = [dropped.sentence(reading.found.rows) for dropped in reading.dropped.values()]
    if refused.any():
        told.append(_refusal(reading, pairs, refused, shapes))
        pairs = pairs.take(np.flatnonzero(~refused))
    splits = fixed_splits(pairs)
    return DataSet(
        name=reading.name,
        digest=reading.digest,
        template=settled,
        pairs=pairs,
        splits=splits,
        warnings=(*(() if splits else split_warnings(reading)), *told, *_gold_warnings(pairs, reading.found.rows)),
        reading=reading.sentence,
    )


def _refused_shapes(pairs: PairList) -> dict[int, ModelError]:
    """The sequences of roles that the model's chat template refuses, and what it says: it looks at roles alone."""
    refused: dict[int, ModelError] = {}
    shapes, first = np.unique(pairs.column("shapes"), return_index=True)
    for shape, place in zip(shapes.tolist(), first.tolist(), strict=True):
        try:
            _ = pairs[place]
        except ModelError as error:
            refused[shape] = error
    return refused


def _refusal(reading: Reading, pairs: PairList, refused: npt.NDArray[np.bool_], shapes: dict[int, ModelError]) -> str:
    """The sentence about rows that are left out for it; HarnessError where they are too many."""
    first = int(np.argmax(refused))
    error, roles = shapes[int(pairs.column("shapes")[first])], pairs.kept.shapes[int(pairs.column("shapes")[first])]
    numbers = tuple(pairs.column("numbers")[refused][:LISTED].tolist())
    dropped = Dropped(
        kind="refused",
        count=int(refused.sum()),
        rows=numbers,
        at=f"{reading.name}: row {numbers[0]}",
        what=f"has messages by {', '.join(roles)}, and {str(error).rpartition(': ')[0] or error}",
        remedy="use --template alpaca or --template plain, or delete such rows",
    )
    if line := refusal({"refused": dropped}, reading.found.rows):
        raise HarnessError(line)
    return dropped.sentence(reading.found.rows)


def _gold_warnings(pairs: PairList, rows: int) -> tuple[str, ...]:
    """A check of the answers is used where every held-out row has one, so that one row without matters."""
    without = pairs.column("numbers")[pairs.column("golds") == 0]
    if not len(without) or len(without) == len(pairs):
        return ()
    return (
        f"{counted(len(without))} of {counted(rows)} rows have no readable 'gold' (the first is row {without[0]}): "
        "answers are checked only where every held-out row has one.",
    )


def fixed_splits(pairs: PairList) -> tuple[str, ...] | None:
    """The rows' own splits, where every row names one of ours and none of ours is without rows."""
    numbers = pairs.column("splits")
    return tuple(SPLIT_NAMES[number] for number in numbers.tolist()) if has_fixed_splits(numbers) else None


def split_warnings(reading: Reading) -> Iterator[str]:
    """A sentence on splits that the source seems to have, and that are drawn anew all the same."""
    ours = ", ".join(SPLIT_NAMES)
    if reading.split_files:
        yield (
            f"{' and '.join(reading.split_files)} are read as one set whose splits are drawn anew: to keep them apart, "
            f"give every row a 'split', one of {ours}, or name one file alone."
        )
    if reading.found.other_splits:
        names = ", ".join(repr(name) for name in reading.found.other_splits)
        yield (
            f"The 'split' column is not used: it has {names}, and ours are {ours}, each of which every row would have "
            "to name one of."
        )
    elif "split" in reading.found.columns or (reading.kept.index["splits"] >= 0).any():
        yield f"The 'split' column is not used: not every row names one of {ours}, or one is empty."


def _examples(kept: Kept) -> list[Ask]:
    """What one row of every sequence of roles asks."""
    first = np.unique(kept.index["shapes"], return_index=True)[1]
    return [kept.row(place).ask for place in first.tolist()]
