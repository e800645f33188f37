"""The existing path that a mistyped one probably means."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

ALIKE = 0.6  # of two names, as difflib measures it


def nearest(path: Path, wanted: Callable[[Path], bool]) -> Path | None:
    """The same path with its mistyped parts as they are on disk, if it leads to what is wanted; else None."""
    place, parts = Path(path.anchor), path.parts[1:] if path.anchor else path.parts
    for number, part in enumerate(parts, 1):
        fits = wanted if number == len(parts) else Path.is_dir
        name = part if fits(place / part) else _closest(part, place, fits)
        if name is None:
            return None
        place = place / name
    return place if place != path else None


def _closest(part: str, folder: Path, fits: Callable[[Path], bool]) -> str | None:
    try:
        names = [entry.name for entry in folder.iterdir() if fits(entry)]
    except OSError:
        return None
    return next(iter(difflib.get_close_matches(part, sorted(names), 1, ALIKE)), None)
