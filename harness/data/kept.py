"""Checked rows on disk, or in memory where they are few: written once, read one at a time by their place.

What is asked of all rows at once (splits, duplicates, lengths) is answered by an index of numbers beside them.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np
import numpy.typing as npt

from harness.data.labelled import SPLIT_NAMES, LabelledRow
from harness.data.prompts import Ask, prompt_id_of
from harness.errors import HarnessError
from harness.records import Gold

IN_MEMORY_BYTES = 64 << 20  # of checked rows; more lie on disk
FLUSHED_BYTES = 1 << 20
_KINDS = {  # of the index, a number a row
    "numbers": "q",  # where it stands in its source, from 1
    "ends": "q",  # its last byte, plus one
    "prompt_ids": "Q",  # prompt_id, as a number
    "pair_ids": "Q",  # digest of all its texts
    "chosen_ids": "Q",  # digest of its chosen response
    "rejected_ids": "Q",
    "prompt_characters": "I",
    "chosen_characters": "I",
    "rejected_characters": "I",
    "most_bytes": "I",  # of the prompt with its longer response
    "splits": "b",  # place in SPLIT_NAMES; -1 where it names none
    "shapes": "h",  # which sequence of roles its messages have; -1 without messages
    "golds": "b",  # whether it knows the truth
}
Index = dict[str, npt.NDArray[Any]]


class Bytes(Protocol):
    """Where rows lie."""

    def read(self, start: int, end: int) -> bytes: ...


class Spool:
    """Rows while they are written: in memory, and once they are many in a file that has no name."""

    def __init__(self, folder: Path) -> None:
        """`folder` is made where it is needed."""
        self.folder, self.memory = folder, bytearray()
        self.file: BinaryIO | None = None
        self.flushed = 0

    @property
    def in_memory(self) -> bool:
        return self.file is None

    def write(self, content: bytes) -> None:
        self.memory += content
        if len(self.memory) > (IN_MEMORY_BYTES if self.file is None else FLUSHED_BYTES):
            self._flush()

    def _flush(self) -> None:
        """What is in memory goes to the file's end."""
        if self.file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.file = cast(BinaryIO, tempfile.TemporaryFile(dir=self.folder))  # noqa: SIM115  # as rows are
        self.file.seek(0, os.SEEK_END)
        self.file.write(self.memory)
        self.file.flush()
        self.flushed += len(self.memory)
        self.memory = bytearray()

    def read(self, start: int, end: int) -> bytes:
        if self.file is None:
            return bytes(self.memory[start:end])
        if self.memory:
            self._flush()
        return os.pread(self.file.fileno(), end - start, start)

    def copy(self, path: Path) -> None:
        """Write all of it to a file."""
        with path.open("wb") as file:
            for start in range(0, self.flushed + len(self.memory), FLUSHED_BYTES):
                file.write(self.read(start, start + FLUSHED_BYTES))


class OnDisk:
    """Rows in a file that stays open: it may be pruned from the cache while it is read."""

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, path.open("rb")

    def read(self, start: int, end: int) -> bytes:
        found = os.pread(self.file.fileno(), end - start, start)
        if len(found) != end - start:
            raise HarnessError(f"{self.path} is damaged: delete its folder and run again")
        return found


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Checked rows, and the index of them."""

    content: Bytes
    index: Index
    digest: str  # sha256 of the rows as they were written
    shapes: tuple[tuple[str, ...], ...]  # the sequences of roles that there are

    def __len__(self) -> int:
        return len(self.index["ends"])

    @property
    def groups(self) -> npt.NDArray[Any]:
        """What no two splits may share: prompts, or what `harness.data.beginnings` makes of them."""
        return self.index.get("groups", self.index["prompt_ids"])

    def row(self, place: int) -> LabelledRow:
        """The row at a place, from 0."""
        ends, split = self.index["ends"], int(self.index["splits"][place])
        start = int(ends[place - 1]) if place else 0
        try:
            fields = json.loads(self.content.read(start, int(ends[place])))
        except ValueError as error:
            raise HarnessError("the cache's rows are damaged: delete its folder 'rows' and run again") from error
        instruction, given, messages, chosen, rejected, gold = fields
        return LabelledRow(
            row=int(self.index["numbers"][place]),
            ask=Ask(
                instruction=instruction,
                input=given,
                messages=tuple({"role": role, "content": content} for role, content in messages),
            ),
            chosen=chosen,
            rejected=rejected,
            gold=_gold(gold),
            split=SPLIT_NAMES[split] if split >= 0 else None,
        )


def _gold(fields: list[Any] | None) -> Gold | None:
    if fields is None:
        return None
    kind, answers, wrong, given = fields
    return Gold(kind=kind, answers=tuple(answers), wrong=tuple(wrong), given=tuple(given))


class Keeper:
    """Writes checked rows, and their index as it goes."""

    def __init__(self, folder: Path) -> None:
        """`folder` is where they lie while they are written, once they are many."""
        self.spool = Spool(folder)
        self.numbers: dict[str, array[int]] = {name: array(kind) for name, kind in _KINDS.items()}
        self.shapes: dict[tuple[str, ...], int] = {}
        self.hash = hashlib.sha256()
        self.written = 0

    def add(self, row: LabelledRow) -> None:
        line = _line(row)
        self.spool.write(line)
        self.hash.update(line)
        self.written += len(line)
        self._note(row, line)

    def _note(self, row: LabelledRow, line: bytes) -> None:
        question = row.ask.question
        shape = tuple(message["role"] for message in row.ask.messages)
        notes = {
            "numbers": row.row,
            "ends": self.written,
            "prompt_ids": int(prompt_id_of(question), 16),
            "pair_ids": _number(line),
            "chosen_ids": _number(row.chosen.encode()),
            "rejected_ids": _number(row.rejected.encode()),
            "prompt_characters": len(question),
            "chosen_characters": len(row.chosen),
            "rejected_characters": len(row.rejected),
            "most_bytes": _bytes(question) + max(_bytes(row.chosen), _bytes(row.rejected)),
            "splits": SPLIT_NAMES.index(row.split) if row.split else -1,
            "shapes": self.shapes.setdefault(shape, min(len(self.shapes), 32_000)) if shape else -1,
            "golds": row.gold is not None,
        }
        for name, number in notes.items():
            self.numbers[name].append(number)

    def close(self) -> Kept:
        """What was written, to be read from where it was written to."""
        index = {name: np.array(numbers, dtype=numbers.typecode) for name, numbers in self.numbers.items()}
        return Kept(content=self.spool, index=index, digest=self.hash.hexdigest(), shapes=tuple(self.shapes))


def _line(row: LabelledRow) -> bytes:
    gold = row.gold and [row.gold.kind, row.gold.answers, row.gold.wrong, row.gold.given]
    messages = [(message["role"], message["content"]) for message in row.ask.messages]
    fields = [row.ask.instruction, row.ask.input, messages, row.chosen, row.rejected, gold]
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


def _number(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def first_of_each(ids: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """True where an id occurs for the first time."""
    first = np.zeros(len(ids), dtype=bool)
    first[np.unique(ids, return_index=True)[1]] = True
    return first


def has_fixed_splits(splits: npt.NDArray[Any]) -> bool:
    """Whether every row names one of our splits, and each of them is named."""
    return set(np.unique(splits).tolist()) == set(range(len(SPLIT_NAMES)))
