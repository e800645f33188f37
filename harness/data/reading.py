"""A source read once from end to end: its format guessed, each row checked, what is good kept and the rest counted."""

from __future__ import annotations

import functools
import importlib.resources
import os
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from harness import store
from harness.data.beginnings import grouped
from harness.data.columns import ColumnMissingError, Columns
from harness.data.faults import Dropped, RowFaultError, Tally
from harness.data.formats import FORMATS, Format, guess, majority, named_otherwise
from harness.data.kept import Keeper, Kept, OnDisk, first_of_each, has_fixed_splits
from harness.data.labelled import LabelledRow, SingleRow, label_row
from harness.data.numbered import NumberedRow, kind_of
from harness.data.pairing import pair_up
from harness.data.schemas import missing
from harness.data.sources import Source
from harness.errors import HarnessError

Tell = Callable[[int], None]
"""Called now and then with the number of rows read."""

LOOKED_AT = 32  # rows whose format is the file's
TOLD_ROWS = 10_000
HOPELESS_ROWS = 1000  # faulty, and more than half of all: the rest is not read
ROWS, INDEX, META = "rows.jsonl", "index.safetensors", "meta.json"
_ODD = np.uint64(0x9E3779B97F4A7C15)
EITHER = "'instruction' or 'prompt'"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was understood of a source, as it is kept beside its rows."""

    form: str  # of FORMATS
    rows: int  # read
    columns: tuple[str, ...]  # of the first row
    dropped: dict[str, Dropped]  # kind → rows left out
    other_splits: tuple[str, ...]  # names in its 'split' column that are not ours; ten at most
    shapes: tuple[tuple[str, ...], ...]
    digest: str  # of the rows that were kept


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A source's good rows, and what was understood of it."""

    name: str
    digest: str  # of the source
    found: Found
    kept: Kept
    split_files: tuple[str, ...] = ()  # of the source

    @property
    def form(self) -> Format:
        return FORMATS[self.found.form]

    @property
    def places(self) -> npt.NDArray[np.int64]:
        """The kept rows that repeat no earlier one."""
        return np.flatnonzero(self._first)

    @property
    def dropped(self) -> dict[str, Dropped]:
        """Kind → rows left out, those that repeat an earlier one among them."""
        again = np.flatnonzero(~self._first)
        if not len(again):
            return self.found.dropped
        rows = tuple(self.kept.index["numbers"][again[:10]].tolist())
        what, remedy = "repeats an earlier row word for word", "delete it"
        repeated = Dropped(
            kind="repeated", count=len(again), rows=rows, at=f"{self.name}: row {rows[0]}", what=what, remedy=remedy
        )
        return {**self.found.dropped, "repeated": repeated}

    @functools.cached_property
    def _first(self) -> npt.NDArray[np.bool_]:
        """Whether each kept row repeats no earlier one; a repetition in another fixed split stays, and is a leak."""
        texts, splits = self.kept.index["pair_ids"], self.kept.index["splits"]
        return first_of_each(texts + splits.astype(np.uint64) * _ODD if has_fixed_splits(splits) else texts)

    @property
    def sentence(self) -> str:
        """Said aloud: what the source was read as."""
        paired = f", {len(self.kept):,} pairs" if self.form.name.startswith("unpaired") else ""
        return f"{self.name} is read as {self.form.words}, {self.found.rows:,} rows{paired}"


def read_source(source: Source, columns: Sequence[str], cache: Path, tell: Tell | None = None) -> Reading:
    """Read it, or find what was kept of it. HarnessError where a row is not what its file's format has.

    Many rows are kept in the cache, by the source's digest and all that decides how they are read.
    """
    named, known, files, pin = Columns.parse(columns), source.digest, source.split_files, source.key
    key = store.digest("rows", source.name, pin, dict(named.theirs), code_digest()) if pin else None
    if key is not None and (kept := _load(cache / "rows" / key[:32])) is not None:
        return Reading(name=source.name, digest=known or kept[0].digest, found=kept[0], kept=kept[1], split_files=files)
    folder = cache / "rows"
    keeper = Keeper(folder)
    found = _Reader(source, named, keeper, folder, tell or (lambda rows: None)).read()
    kept_rows = _store(keeper, found, folder, key)
    return Reading(name=source.name, digest=known or found.digest, found=found, kept=kept_rows, split_files=files)


@functools.cache
def code_digest() -> str:
    """Of the code that reads rows: what other code kept is not read."""
    folder = Path(str(importlib.resources.files("harness.data")))
    files = [file for file in sorted(folder.glob("*.py")) if not file.name.startswith("courtesy")]
    return store.digest([(file.name, store.file_digest(file)) for file in files])


def _load(folder: Path) -> tuple[Found, Kept] | None:
    """What a finished folder holds; None where there is none, or a damaged one."""
    try:
        found = store.read_json(folder / META, Found)
        index = load_file(folder / INDEX)
    except (HarnessError, OSError, ValueError):
        return None
    except Exception as error:  # safetensors' own, which it does not name
        if type(error).__name__ != "SafetensorError":
            raise
        return None
    rows = folder / ROWS
    if not rows.exists() or rows.stat().st_size != int(index["ends"][-1]):
        return None
    os.utime(folder)  # what is in use is never the longest unused
    return found, Kept(content=OnDisk(rows), index=index, digest=found.digest, shapes=found.shapes)


def _store(keeper: Keeper, found: Found, folder: Path, key: str | None) -> Kept:
    """Few rows stay in memory; many go into the cache, whole or not at all."""
    written = keeper.close()
    if found.form == "text-implicit":
        written = grouped(written)
    if keeper.spool.in_memory:
        return written
    target = folder / (key or found.digest)[:32]
    with tempfile.TemporaryDirectory(dir=folder, prefix=".making-") as name:
        new = Path(name) / "rows"
        new.mkdir()
        keeper.spool.copy(new / ROWS)
        save_file(written.index, new / INDEX)
        store.write_json(new / META, found)
        shutil.rmtree(target, ignore_errors=True)
        new.replace(target)
    loaded = _load(target)
    assert loaded is not None, target
    return loaded[1]


class _Reader:
    """One pass over a source."""

    def __init__(self, source: Source, columns: Columns, keeper: Keeper, folder: Path, tell: Tell) -> None:
        self.source, self.columns, self.keeper, self.folder, self.tell = source, columns, keeper, folder, tell
        self.tally = Tally()
        self.other_splits: dict[str, None] = {}
        self.read_rows = 0

    def read(self) -> Found:
        rows = self.source.read()
        first = list(islice(rows, LOOKED_AT))
        if not first:
            raise HarnessError(f"{self.source.name} is empty: give a source with one preference per row")
        self.form = self._format(first)
        checked = self._checked(chain(first, rows))
        for row in self._paired(checked) if self.form.name.startswith("unpaired") else checked:
            assert isinstance(row, LabelledRow)
            self.keeper.add(row)
        if not self.keeper.written:
            worst = max(self.tally.found.values(), key=lambda dropped: dropped.count)
            several = f" (so have {worst.count} of {self.read_rows} rows)" if self.read_rows > 1 else ""
            raise HarnessError(f"{worst.at} {worst.what}{several}: {worst.remedy}")
        return Found(
            form=self.form.name,
            rows=self.read_rows,
            columns=tuple(map(str, first[0].value)),
            dropped=self.tally.found,
            other_splits=tuple(self.other_splits),
            shapes=tuple(self.keeper.shapes),
            digest=self.keeper.hash.hexdigest(),
        )

    def _format(self, first: Sequence[NumberedRow]) -> Format:
        """What the first rows look like; HarnessError where they have no columns of ours."""
        named = [self._named(row) for row in first]
        form = majority(named)
        if form is None:
            hint = named_otherwise(named[0]) or ""
            ours = EITHER if "chosen" in named[0] or "completion" not in named[0] else "'label'"
            raise HarnessError(f"{first[0].at} {missing(ours, named[0], hint)}")
        if form.name == "alpaca" and "output" in named[0] and not {"chosen", "rejected"} & named[0].keys():
            raise HarnessError(
                f"{self.source.name} has instructions with one output each and no preferences, so no recipe can be "
                "compared on it: give rows with chosen and rejected (of the book's two files: --data rasbt)"
            )
        return form

    def _named(self, row: NumberedRow) -> dict[str, Any]:
        """The row's columns by our names."""
        if not isinstance(row.value, dict):
            raise HarnessError(f"{row.at} is {kind_of(row.value)}, not an object with columns: mend it, or delete it")
        try:
            return self.columns.rename(row.value)
        except ColumnMissingError as error:
            raise HarnessError(f"{row.at} {error}") from error

    def _checked(self, rows: Iterator[NumberedRow]) -> Iterator[LabelledRow | SingleRow]:
        """The good rows; the others are counted, or end the reading."""
        for row in rows:
            self.read_rows += 1
            if self.read_rows % TOLD_ROWS == 0:
                self.tell(self.read_rows)
            columns = self._named(row)
            self._refuse_mixture(row, columns)
            try:
                checked = label_row(columns, row.row, self.form)
            except RowFaultError as error:
                self._count(row, error)
                continue
            if checked.split is None and isinstance(columns.get("split"), str) and len(self.other_splits) < 10:
                self.other_splits.setdefault(columns["split"])
            yield checked

    def _refuse_mixture(self, row: NumberedRow, columns: dict[str, Any]) -> None:
        found = guess(columns)
        if found is not None and found.family != self.form.family:
            raise HarnessError(
                f"{row.at} has {found.family}, and other rows {self.form.family}: put them into two files"
            )

    def _count(self, row: NumberedRow, error: RowFaultError) -> None:
        if error.kind is None:
            raise HarnessError(f"{row.at} {error}") from error
        self.tally.add(error.kind, row.row, row.at, error.what, error.remedy)
        if self.tally.grave > max(HOPELESS_ROWS, self.read_rows // 2):
            raise HarnessError(
                f"{row.at} {error.what} (and {self.tally.grave:,} of the {self.read_rows:,} rows up to here have a "
                f"fault): {error.remedy}"
            )

    def _paired(self, checked: Iterator[LabelledRow | SingleRow]) -> Iterator[LabelledRow]:
        """Completions as pairs: all are read first, since those of a prompt may lie anywhere."""
        singles, good = Keeper(self.folder), array("b")
        for row in checked:
            assert isinstance(row, SingleRow)
            singles.add(LabelledRow(row=row.row, ask=row.ask, chosen=row.completion, rejected="", split=row.split))
            good.append(row.good)
        return pair_up(self.source.name, singles.close(), np.array(good, dtype=bool), self.tally)
