"""Files that are whole or absent: atomic writes, typed records in JSON and JSONL, digests, and the cache.

A run's folder and the cache hold JSON, JSONL, TOML and safetensors only; nothing is pickled.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from harness.errors import HarnessError

R = TypeVar("R")

# The field's names of the training log have slashes, which no Python field can carry.
_SLASHED = {
    name: name.replace("_", "/", 1)
    for name in (
        "rewards_chosen",
        "rewards_rejected",
        "rewards_accuracies",
        "rewards_margins",
        "logps_chosen",
        "logps_rejected",
    )
}
_UNSLASHED = {slashed: name for name, slashed in _SLASHED.items()}


def digest(*parts: Any) -> str:
    """SHA-256, as 64 hex digits, of the parts' canonical JSON: same content, same digest, on every machine."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=_plain, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def code_in(folder: Path) -> list[Path]:
    """The files of a package that compute, in one order."""
    return sorted(file for file in folder.rglob("*") if file.suffix in (".py", ".c", ".h"))


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, sync it, and put it in place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def set_aside(folder: Path, into: Path) -> Path:
    """Move a folder into another one, under the first free name: its own, or its own and a number."""
    into.mkdir(parents=True, exist_ok=True)
    names = (f"{folder.name}{f'-{n}' if n else ''}" for n in itertools.count())
    target = next(path for name in names if not (path := into / name).exists())
    folder.rename(target)
    return target


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_atomically(path, lambda temporary: _write_utf8(temporary, text))


def _write_utf8(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any, *, indent: int | None = 2) -> None:
    """Write a record, or plain data, as JSON, atomically. Keys keep their order: the record's own."""
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False, default=_plain, allow_nan=False) + "\n")


def write_jsonl(path: Path, values: Iterable[Any]) -> None:
    """Write records one to a line, atomically."""
    lines = (json.dumps(_plain(v), ensure_ascii=False, default=_plain, allow_nan=False) for v in values)
    write_text(path, "".join(f"{line}\n" for line in lines))


def read_json(path: Path, kind: type[R]) -> R:
    """Read one record of this kind; HarnessError names the file when it is damaged."""
    return _parse(path, kind, _read_text(path), "")


def read_jsonl(path: Path, kind: type[R]) -> tuple[R, ...]:
    """Read records one from a line; HarnessError names the file and line when one is damaged."""
    lines = _read_text(path).split("\n")  # not splitlines: text holds U+2028 too
    return tuple(_parse(path, kind, line, f":{n}") for n, line in enumerate(lines, 1) if line.strip())


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise HarnessError(f"{path} is missing: run the same command again to make it") from error
    except UnicodeDecodeError as error:
        raise HarnessError(f"{path} is damaged ({error.reason}): delete it and run again") from error


def _parse(path: Path, kind: type[R], text: str, where: str) -> R:
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        if isinstance(value, dict):
            value = {_UNSLASHED.get(key, key): item for key, item in value.items()}
        record: R = _adapter(kind).validate_python(value)  # type: ignore[arg-type]  # every type is hashable
        return record
    except (ValueError, RecursionError) as error:  # broken JSON and pydantic's refusals are ValueErrors
        reason = str(error).splitlines()[0]
        raise HarnessError(f"{path}{where} is damaged ({reason}): delete it and run again") from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _plain(value: Any) -> Any:
    """Dataclasses as dictionaries, field names in the field's own spelling."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {_SLASHED.get(f.name, f.name): getattr(value, f.name) for f in fields}
    if isinstance(value, dict | list | tuple | str | int | float | bool | None):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} does not go into a record")
