"""Where rows come from: a name, a file, several files of one format, or a data set of the Hub."""

from __future__ import annotations

import difflib
import glob
import importlib.resources
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness import store
from harness.data.fetch import FILES, fetch
from harness.data.hub import PREFIX, HubSet
from harness.data.json_rows import Placed, array_rows, line_rows
from harness.data.numbered import NumberedRow
from harness.data.optional import optional
from harness.data.table_rows import csv_rows, parquet_rows
from harness.errors import HarnessError
from models.nearby import nearest

READERS: dict[str, Callable[[Path], Iterator[Placed]]] = {
    ".json": array_rows,
    ".jsonl": line_rows,
    ".ndjson": line_rows,
    ".csv": csv_rows,
    ".tsv": csv_rows,
    ".parquet": parquet_rows,
}
NAMES = ("courtesy", *FILES)
_GLOB = "*?["
# `train.jsonl`, `validation-0001.parquet`, `test/rows.csv`.
_SPLIT = re.compile(r"(train|test|val|dev|eval|judge)(?:ing|id|idation|uation|elopment)?(?![a-z]).*", re.IGNORECASE)


class Source(Protocol):
    """Rows that can be read once or more."""

    @property
    def name(self) -> str: ...  # as it was asked for

    @property
    def digest(self) -> str | None: ...  # of its content; None where only reading it tells

    @property
    def key(self) -> str | None: ...  # what its rows are kept by; None where nothing pins them before they are read

    @property
    def bytes(self) -> int | None: ...  # on disk; None where that is not known

    @property
    def split_files(self) -> tuple[str, ...]: ...  # a file of each split that its files are named after

    def read(self) -> Iterator[NumberedRow]: ...


@dataclass(frozen=True, kw_only=True)
class Files:
    """Files of one format, read one after another."""

    name: str
    digest: str  # a file's sha256; of several the digest of theirs
    paths: tuple[Path, ...]

    @property
    def key(self) -> str:
        """Their content."""
        return self.digest

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.paths)

    @property
    def split_files(self) -> tuple[str, ...]:
        """The first of each split, where they are named after several; `train-0.jsonl` and `train-1.jsonl` are one."""
        first: dict[str, str] = {}
        for path in self.paths:
            if found := _SPLIT.match(path.name) or _SPLIT.fullmatch(path.parent.name):
                shown = path.name if found.string == path.name else f"{path.parent.name}/{path.name}"
                first.setdefault(found[1].lower(), shown)
        return tuple(first.values()) if len(first) > 1 else ()

    def read(self) -> Iterator[NumberedRow]:
        """Every row of every file; HarnessError names file and line where it cannot be read, or has none."""
        row = 0
        for path in self.paths:
            before = row
            for line, value in READERS[_suffix(path)](path):
                row += 1
                yield NumberedRow(source=str(path), line=line, row=row, value=value)
            if row == before:
                raise HarnessError(f"{path} is empty: give a file with one preference per row")


def check_source(name: str) -> None:
    """HarnessError where `--data` names nothing, or needs a library that is missing; nothing is fetched or read."""
    if name.startswith(PREFIX):
        HubSet.parse(name)
        optional("datasets", f"data {name!r}")
    elif name not in NAMES:
        for path in _local(name):
            if _suffix(path) == ".parquet":
                optional("pyarrow.parquet", f"{path}: Parquet")


def find_source(name: str, cache: Path) -> Source:
    """What `--data` names, fetched first where it is far away."""
    if name.startswith(PREFIX):
        return HubSet.parse(name).open()
    paths = _paths(name, cache)
    for path in paths:
        if _suffix(path) not in READERS:
            raise HarnessError(
                f"{path} ends in '{path.suffix}', which is no format of rows: "
                f"give a file that ends in {', '.join(READERS)}, each of them plain or with .gz behind it"
            )
    if len(kinds := sorted({_suffix(path) for path in paths})) > 1:
        raise HarnessError(f"{name!r} has files of {', '.join(kinds)}: give those of one, as {name}/*{kinds[0]}")
    try:
        digests = [store.file_digest(path) for path in paths]
    except OSError as error:
        raise HarnessError(f"{error.filename} cannot be read ({error.strerror}): check the path") from error
    return Files(name=name, digest=digests[0] if len(digests) == 1 else store.digest(*digests), paths=paths)


def _paths(name: str, cache: Path) -> tuple[Path, ...]:
    if name == "courtesy":
        return (Path(str(importlib.resources.files("harness.data") / "courtesy.jsonl")),)
    if name in FILES:
        return (fetch(FILES[name], cache),)
    return _local(name)


def _local(name: str) -> tuple[Path, ...]:
    """The files on this machine that a path, a folder or a pattern names."""
    if not name.strip():
        raise HarnessError(f"no data named {name!r}: give {', '.join(NAMES)}, or the path of a file of rows")
    path = Path(os.path.expanduser(name))
    if path.is_dir():
        return _shards(name, path)
    if path.is_file():
        return (path,)
    if path.exists():
        raise HarnessError(f"{name!r} is no file that can be read twice: save its rows to a file")
    found = tuple(Path(p) for p in sorted(glob.glob(str(path), recursive=True)) if Path(p).is_file())
    if found and any(mark in name for mark in _GLOB):
        return found
    raise HarnessError(f"no data named '{name}', and no such file: {_guess(path)}")


def _shards(name: str, folder: Path) -> tuple[Path, ...]:
    """The files of rows in a folder, by name. What describes them (README.md) or is hidden lies beside them."""
    found = sorted(p for p in folder.iterdir() if p.is_file() and _suffix(p) in READERS and p.name[0] not in "._")
    described = [p for p in found if p.name in ("dataset_info.json", "state.json", "dataset_infos.json")]
    found = [p for p in found if p not in described]
    if not found:
        raise HarnessError(f"'{name}' is a folder without a file of rows: give the path of a file, or of their folder")
    return tuple(found)


def _suffix(path: Path) -> str:
    """`.jsonl` of `rows.jsonl` and of `rows.jsonl.gz`."""
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix


def _guess(path: Path) -> str:
    close = difflib.get_close_matches(str(path), NAMES, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    if near := _nearest_pattern(path) if any(mark in path.name for mark in _GLOB) else nearest(path, Path.exists):
        return f"did you mean '{near}'?"
    return f"give {', '.join(NAMES)}, the path of a file of rows, or hf:ORG/NAME:split"


def _nearest_pattern(path: Path) -> Path | None:
    """For a pattern that nothing matches: in the folder that was meant, the file whose name is most like it."""
    folder = path.parent if path.parent.is_dir() else nearest(path.parent, Path.is_dir)
    if folder is None:
        return None
    if any(folder.glob(path.name)):
        return folder / path.name
    rows = [entry.name for entry in sorted(folder.iterdir()) if _suffix(entry) in READERS]
    close = difflib.get_close_matches(re.sub(r"[*?\[\]]", "", path.name), rows, 1, 0.5)
    return folder / close[0] if close else None
