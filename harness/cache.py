"""What all runs share, by digest: checkpoints, reference log-probs, models, data. Bounded: the longest unused goes."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import HarnessError
from models.home import cache_path

BOUNDED = ("nodes", "rows")  # of the cache: checkpoints and log-probs, and large data as it was checked
ABANDONED_SECONDS = 24 * 3600  # a folder still being made after a day is what a killed run left
LIMIT_BYTES = 20 * 2**30  # about 37 checkpoints of the embedded model


def cache_root() -> Path:
    """PREFBENCH_CACHE, or the user's cache folder."""
    root = cache_path()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HarnessError(f"the cache {root} cannot be made ({error}): set PREFBENCH_CACHE to another") from error
    return root


def node_folder(root: Path, digest: str) -> Path:
    """Where a node's results lie; touched, so that what is in use is never the longest unused."""
    folder = root / "nodes" / digest[:32]
    if folder.exists():
        os.utime(folder)
    return folder


def size_bytes(root: Path) -> int:
    """What the cache takes on disk."""
    total = 0
    for file in root.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # another run tidies up at the same time
            total += file.stat().st_size if file.is_file() else 0
    return total


def prune(root: Path, limit_bytes: int = LIMIT_BYTES) -> int:
    """Delete the longest unused nodes and rows until the cache is within its limit; the bytes that were freed."""
    for kind in BOUNDED:
        _clear_abandoned(root / kind)
    # A hidden folder is one that another run is making.
    found = (f for kind in BOUNDED for f in (root / kind).glob("*") if f.is_dir() and not f.name.startswith("."))
    folders = sorted(found, key=lambda f: f.stat().st_mtime)
    total, freed = size_bytes(root), 0
    for folder in folders:
        if total - freed <= limit_bytes:
            break
        with contextlib.suppress(Timeout), FileLock(folder.with_suffix(".lock"), timeout=0):  # else it is in use
            size = size_bytes(folder)
            shutil.rmtree(folder, ignore_errors=True)
            freed += size
    return freed


def _clear_abandoned(made: Path) -> None:
    for folder in made.glob(".*"):
        if folder.is_dir() and time.time() - folder.stat().st_mtime > ABANDONED_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
