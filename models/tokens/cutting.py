"""How text is cut before merging: the published ways that one tiktoken pattern does exactly. Others go elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

# GPT-2's own pattern, from its published vocabulary's documentation.
GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# The same after every digit was split off on its own, so white space before a digit ends a piece and stays whole.
DIGITS_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\p{N}|\s+(?=\p{N})|\s+(?!\S)|\s+"
# The same after every run of digits was split off.
NUMBERS_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\p{N}+|\s+(?=\p{N})|\s+(?!\S)|\s+"
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_PATTERN = LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")
# Digits of Unicode 17, which not every library calls so.
_NEW_DIGITS = "\U00011de0-\U00011de9\U00016ff4-\U00016ff6"
# As tokenizer.json files spell them. Each matches every character, so that nothing falls between two pieces.
KNOWN = {LLAMA3_PATTERN, QWEN2_PATTERN, GPT2_PATTERN, r"'s|'t|'re|'ve|'m|'ll|'d" + GPT2_PATTERN[20:]}


class Cut(NamedTuple):
    """A way of cutting text."""

    pattern: str
    prefix_space: bool = False
    elsewhere: str = ""  # characters on which the two libraries' tables of Unicode differ


def cut_of(cutter: Mapping[str, Any] | None) -> Cut | None:
    """The cut that a tokenizer.json's `pre_tokenizer` makes; None where no one pattern is known to make it."""
    steps = _steps(cutter)
    match [step.get("type") for step in steps]:
        case ["ByteLevel"] if steps[0].get("use_regex", True):
            return Cut(GPT2_PATTERN, bool(steps[0].get("add_prefix_space")))
        case ["Digits", "ByteLevel"] if steps[1].get("use_regex", True) and not steps[1].get("add_prefix_space"):
            pattern = DIGITS_PATTERN if steps[0].get("individual_digits") else NUMBERS_PATTERN
            return Cut(pattern, elsewhere=_NEW_DIGITS)
        case ["Split", "ByteLevel"] if not steps[1].get("use_regex", True) and not steps[1].get("add_prefix_space"):
            return _split(steps[0])
    return None


def _steps(cutter: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if cutter is None:
        return []
    return list(cutter["pretokenizers"]) if cutter.get("type") == "Sequence" else [cutter]


def _split(step: Mapping[str, Any]) -> Cut | None:
    """Pieces are the matches: kept with what is between them, or what is between them removed; there is nothing."""
    pattern = step.get("pattern", {}).get("Regex")
    kept = (step.get("behavior"), bool(step.get("invert"))) in (("Isolated", False), ("Removed", True))
    return Cut(pattern) if kept and pattern in KNOWN else None
