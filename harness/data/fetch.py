"""Data fetched by name: checked whole by its sha256, and kept in the cache."""

from __future__ import annotations

import hashlib
import http.client
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from harness import store
from harness.errors import HarnessError

TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file on a web server, and what its bytes have to be."""

    name: str  # as `--data` asks for it
    url: str
    sha256: str

    @property
    def filename(self) -> str:
        return self.url.rsplit("/", 1)[-1]


RASBT = RemoteFile(
    name="rasbt",
    url=(
        "https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/main/"
        "ch07/04_preference-tuning-with-dpo/instruction-data-with-preference.json"
    ),
    sha256="305315abf14f65fa42c01a0877572f832606571c2a7d49f152ac1d758b16756e",
)


# The book's other file: the same instructions with one output each, and no preferences.
RASBT_INSTRUCTIONS = RemoteFile(
    name="rasbt-instructions",
    url=(
        "https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/main/ch07/01_main-chapter-code/instruction-data.json"
    ),
    sha256="7e09a9af353722ca15c18bc580f093f9c39d3178335a75177319cb1e1d163944",
)
FILES = {file.name: file for file in (RASBT, RASBT_INSTRUCTIONS)}


def fetch(file: RemoteFile, cache: Path) -> Path:
    """The file's path in the cache, fetched first if it is not there whole."""
    path = cache / "data" / file.sha256[:16] / file.filename
    if path.is_file() and store.file_digest(path) == file.sha256:
        return path
    content = _download(file)
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise _unusable(file, f"its sha256 is {found[:16]}…, not {file.sha256[:16]}…")
    try:
        store.write_atomically(path, lambda temporary: _write_bytes(temporary, content))
    except OSError as error:
        raise HarnessError(f"{path} cannot be written ({error.strerror}): give a cache that can be") from error
    return path


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _download(file: RemoteFile) -> bytes:
    """All bytes that the server announces, or a HarnessError."""
    try:
        with urllib.request.urlopen(file.url, timeout=TIMEOUT_SECONDS) as response:
            content: bytes = response.read()
            return content
    except http.client.IncompleteRead as error:
        raise _unusable(file, f"cut after {len(error.partial)} bytes") from error
    except (OSError, http.client.HTTPException) as error:
        raise _unusable(file, str(error).strip("<>") or type(error).__name__) from error


def _unusable(file: RemoteFile, reason: str) -> HarnessError:
    return HarnessError(
        f"data '{file.name}' cannot be fetched from {file.url} ({reason}): "
        f"try again, or get {file.filename} another way and pass its path"
    )
