"""Train, judge and test parts of a data set, with no prompt in two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from harness.data.labelled import SPLIT_NAMES
from harness.data.rows import DataSet
from harness.errors import HarnessError
from harness.records import Pair, Splits

SHARES = (0.70, 0.15, 0.15)


def split_pairs(dataset: DataSet, seed: int = 0, shares: Sequence[float] = SHARES) -> Splits:
    """Three parts by normalised prompt, the same for the same data and seed; fixed splits are kept."""
    assert len(shares) == len(SPLIT_NAMES), shares
    names = dataset.splits or _drawn_splits(dataset.pairs, seed, shares)
    _refuse_leaks(dataset, names)
    parts = {name: _shuffled(dataset.pairs, names, name, seed) for name in SPLIT_NAMES}
    for name, part in parts.items():
        if not part:
            raise HarnessError(
                f"no pairs left in the {name} split: '{dataset.name}' has {_prompts(dataset.pairs)} "
                "different prompts: give more rows, with different prompts"
            )
    return Splits(train=parts["train"], judge=parts["judge"], test=parts["test"])


def _drawn_splits(pairs: Sequence[Pair], seed: int, shares: Sequence[float]) -> tuple[str, ...]:
    """A split name per pair: prompts are ranked by a seeded hash, so the order of rows does not matter."""
    ranked = sorted({pair.prompt_id for pair in pairs}, key=lambda prompt_id: _draw(seed, prompt_id))
    ends = [round(len(ranked) * sum(shares[: part + 1])) for part in range(len(shares))]
    name_of = {prompt_id: SPLIT_NAMES[sum(rank >= end for end in ends[:-1])] for rank, prompt_id in enumerate(ranked)}
    return tuple(name_of[pair.prompt_id] for pair in pairs)


def _refuse_leaks(dataset: DataSet, names: Sequence[str]) -> None:
    split_of: dict[str, str] = {}
    for pair, name in zip(dataset.pairs, names, strict=True):
        if split_of.setdefault(pair.prompt_id, name) != name:
            raise HarnessError(
                f"'{dataset.name}' has the prompt {pair.question[:30]!r} in the splits "
                f"{split_of[pair.prompt_id]} and {name}: give all its rows the same 'split'"
            )


def _shuffled(pairs: Sequence[Pair], names: Sequence[str], name: str, seed: int) -> tuple[Pair, ...]:
    rows = [row for row, own in enumerate(names) if own == name]
    return tuple(pairs[row] for row in sorted(rows, key=lambda row: _draw(seed, f"{row}")))


def _draw(seed: int, key: str) -> bytes:
    """A seeded random rank that no other key, machine or Python version changes."""
    return hashlib.sha256(f"{seed}:{key}".encode()).digest()


def _prompts(pairs: Sequence[Pair]) -> int:
    return len({pair.prompt_id for pair in pairs})
