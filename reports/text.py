"""Text that strangers and models wrote, cut to size; and lists of names in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from harness.plain import visible


def clipped(text: str, characters: int) -> str:
    """The visible text, cut at so many characters; says how much was left out."""
    left_out = len(text) - characters
    if left_out <= 0:
        return visible(text)
    return f"{visible(text[:characters])} … ({left_out:,} more characters)"


def one_line(text: str, characters: int = 300) -> str:
    """The visible text on one line, cut at so many characters."""
    return clipped(" ".join(text.split()), characters)


def listed(names: Sequence[str], last: str = "and") -> str:
    """Names in a sentence: "a", "a and b", "a, b and c"."""
    if not names:
        raise ValueError("there is nothing to list")
    *head, tail = names
    return f"{', '.join(head)} {last} {tail}" if head else tail


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number and its noun: "1 prompt", "2,000 prompts"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
