"""Text that strangers wrote, made safe to show on a terminal or a page."""

from __future__ import annotations

import unicodedata

# Format characters that ordinary text needs: the joiner of emoji. All others (bidi overrides, zero-width
# spaces, tags) can make text read as what it is not, so they are shown by their number.
_KEPT = {"\n", "\t", "\u200d"}
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def visible(text: str) -> str:
    """The same text with every invisible, direction-changing or unpaired character shown as `\\u{…}`."""
    text = text.replace("\r\n", "\n")
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    hidden = unicodedata.category(character) in _HIDDEN and character not in _KEPT
    return f"\\u{{{ord(character):x}}}" if hidden else character


def on_one_line(text: str) -> str:
    """The visible text with every run of white space as one space."""
    return visible(" ".join(text.split()))
