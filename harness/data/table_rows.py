"""CSV, TSV and Parquet, a row at a time. Cells of CSV are text, but messages may be written in them as JSON."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from harness.data.json_rows import Placed
from harness.data.opening import lines, opened
from harness.data.optional import optional
from harness.errors import HarnessError

BATCH_ROWS = 500


def csv_rows(path: Path) -> Iterator[Placed]:
    """Rows as columns → text, by the header. Semicolons or tabs part the cells where the header has them instead."""
    csv.field_size_limit(sys.maxsize)  # of the whole process; a cell is bounded by its line
    reader = csv.reader((line for _, line in lines(path)), delimiter=_delimiter(path), strict=True)
    begun = 1
    try:
        header = next(reader, None)
        if header is None:
            return
        _refuse_header(path, header)
        begun = reader.line_num + 1
        for cells in reader:
            if cells:
                yield begun, dict(zip(header, _cells(path, begun, header, cells), strict=True))
            begun = reader.line_num + 1
    except csv.Error as error:
        raise HarnessError(
            f"{path}:{begun}: CSV that cannot be read ({error}): close its quotes, and double those within a cell"
        ) from error


def _delimiter(path: Path) -> str:
    """What the header parts its names with: a comma, or what it has most of where it has none."""
    header = next((line for _, line in lines(path)), "")
    if "\t" in header and (".tsv" in path.suffixes or "," not in header):
        return "\t"
    return ";" if ";" in header and "," not in header else ","


def _refuse_header(path: Path, header: Sequence[str]) -> None:
    for name in header:
        if not name.strip() or header.count(name) > 1:
            problem = f"the column {name!r} twice" if name.strip() else "a column without a name"
            raise HarnessError(f"{path}:1: the header has {problem}: name every column once in the first line")


def _cells(path: Path, line: int, header: Sequence[str], cells: Sequence[str]) -> list[Any]:
    if len(cells) != len(header):
        raise HarnessError(
            f"{path}:{line}: {len(cells)} cells under {len(header)} columns ({', '.join(header)}): "
            "put cells with commas, quotes or line ends in quotes"
        )
    return [_cell(path, line, name, cell) for name, cell in zip(header, cells, strict=True)]


def _cell(path: Path, line: int, name: str, cell: str) -> Any:
    """The text, or the messages that it spells in JSON."""
    if not cell.startswith("[{"):
        return cell
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        if cell.startswith(("[{'role'", "[{'content'")):
            raise HarnessError(
                f"{path}:{line}: {name!r} holds messages as Python prints them: write them as JSON (json.dumps)"
            ) from None
        return cell
    return value if all(isinstance(m, dict) and {"role", "content"} <= m.keys() for m in value) else cell


def parquet_rows(path: Path) -> Iterator[Placed]:
    """Rows as columns → values, a batch at a time. Such files have no lines."""
    parquet, arrow = optional("pyarrow.parquet", f"{path}: Parquet"), optional("pyarrow", f"{path}: Parquet")
    try:
        with opened(path) as file, tempfile.TemporaryFile() as unpacked:
            whole: BinaryIO = file
            if isinstance(file, gzip.GzipFile):  # Parquet is read from its end, which a packed file does not offer
                shutil.copyfileobj(file, unpacked)
                whole = cast(BinaryIO, unpacked)
            for batch in parquet.ParquetFile(whole).iter_batches(batch_size=BATCH_ROWS):
                yield from ((None, value) for value in batch.to_pylist())
    except (arrow.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise HarnessError(f"{path} is no Parquet file that can be read ({reason}): get it again") from error
