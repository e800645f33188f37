"""Where two texts differ, word by word."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import NamedTuple


class Piece(NamedTuple):
    """A few words in a row, and whether the other text lacks them there."""

    text: str
    differs: bool


def differing(a: str, b: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts in pieces; those of each, with single spaces between, are its words in their order."""
    mine, theirs = a.split(), b.split()
    first: list[Piece] = []
    second: list[Piece] = []
    for kind, start, end, other_start, other_end in SequenceMatcher(None, mine, theirs, autojunk=False).get_opcodes():
        for pieces, words in ((first, mine[start:end]), (second, theirs[other_start:other_end])):
            if words:
                pieces.append(Piece(" ".join(words), kind != "equal"))
    return first, second
