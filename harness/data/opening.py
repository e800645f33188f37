"""Files of rows as bytes, plain or gzip, a line or a piece at a time; whatever stops the reading is one line."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from harness.errors import HarnessError

PIECE_BYTES = 1 << 20
LONGEST_LINE_BYTES = 1 << 28
_GZIP = b"\x1f\x8b"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, unpacked if they are gzip's, whatever its name says."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(len(_GZIP)) == _GZIP
            raw.seek(0)
            yield cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise HarnessError(f"{path} is damaged or cut off ({error}): get it again") from error
    except OSError as error:
        raise HarnessError(f"{path} cannot be read ({error.strerror or error}): check the path") from error


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Each line with its number from 1, its end included; HarnessError where one is no UTF-8, or has no end."""
    with opened(path) as file:
        for number in _counter():
            line = file.readline(LONGEST_LINE_BYTES)
            if not line:
                return
            if len(line) == LONGEST_LINE_BYTES:
                raise HarnessError(
                    f"{path}:{number}: a line of over {LONGEST_LINE_BYTES >> 20} MB: put one row to a line, "
                    "or name the file .json if it holds a list"
                )
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            try:
                yield number, line.decode()
            except UnicodeDecodeError as error:
                raise _not_utf8(path, number, line[error.start]) from error


def pieces(path: Path) -> Iterator[str]:
    """The text in pieces of about a megabyte; HarnessError where it is no UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    line = 1
    with opened(path) as file:
        while piece := file.read(PIECE_BYTES):
            kept = len(decoder.getstate()[0])  # bytes of a character that the last piece ended within
            try:
                text = decoder.decode(piece)
            except UnicodeDecodeError as error:
                line += piece.count(b"\n", 0, max(0, error.start - kept))
                raise _not_utf8(path, line, error.object[error.start]) from error
            line += piece.count(b"\n")
            yield text
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise _not_utf8(path, line, error.object[error.start]) from error


def _counter() -> Iterator[int]:
    number = 0
    while True:
        number += 1
        yield number


def _not_utf8(path: Path, line: int, byte: int) -> HarnessError:
    return HarnessError(f"{path}:{line}: byte 0x{byte:02x} is not UTF-8: save the file as UTF-8")
