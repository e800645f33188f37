"""Marks around control tokens: what tells a template's own special tokens from the same words in people's texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

MARK = "\ufdd0"  # a Unicode noncharacter: never in honest text
CHAT = MARK + MARK  # before a rendered chat that has no control token to tell it from a plain text


def marked(name: str) -> str:
    """A special token's name, to be read as control."""
    return f"{MARK}{name}{MARK}"


def pieces(text: str, special: Mapping[str, int]) -> Iterator[tuple[str, int | None]]:
    """The text's parts in their order: a marked special token with its id, anything else as text without marks."""
    plain = ""
    for place, part in enumerate(text.split(MARK)):
        if place % 2 and part in special:  # every second part stands between two marks
            if plain:
                yield plain, None
            yield part, special[part]
            plain = ""
        else:
            plain += part
    if plain:
        yield plain, None


def any_of(names: Iterable[str]) -> re.Pattern[str] | None:
    """A pattern of these names, the longest first; None where there are none."""
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
