"""Train, judge and test parts of a data set, with no prompt in two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.data.labelled import SPLIT_NAMES
from harness.data.rows import DataSet, PairList
from harness.errors import HarnessError
from harness.records import Pair, Splits

SHARES = (0.70, 0.15, 0.15)
MOST_PROMPTS = {"judge": 4_000, "test": 16_000}  # that are drawn: more make no number surer, and the rest can train


def split_pairs(dataset: DataSet, seed: int = 0, shares: Sequence[float] = SHARES) -> Splits:
    """Three parts by normalised prompt, the same for the same data and seed; fixed splits are kept."""
    assert len(shares) == len(SPLIT_NAMES), shares
    prompts, numbers = _groups(dataset.pairs), split_numbers(dataset, seed, shares)
    _refuse_leaks(dataset, prompts, numbers)
    parts = {
        name: _taken(dataset.pairs, _shuffled(np.flatnonzero(numbers == number), seed))
        for number, name in enumerate(SPLIT_NAMES)
    }
    for name, part in parts.items():
        if not part:
            raise HarnessError(
                f"no pairs left in the {name} split: '{dataset.name}' has {len(np.unique(prompts))} "
                "different prompts: give more rows, with different prompts"
            )
    return Splits(train=parts["train"], judge=parts["judge"], test=parts["test"])


def split_numbers(dataset: DataSet, seed: int = 0, shares: Sequence[float] = SHARES) -> npt.NDArray[np.int8]:
    """The place in SPLIT_NAMES of each pair: its own, or the one that its prompt is drawn for."""
    if dataset.splits is not None:
        return np.array([SPLIT_NAMES.index(name) for name in dataset.splits], dtype=np.int8)
    return _drawn_splits(_groups(dataset.pairs), seed, shares)


def _groups(pairs: Sequence[Pair]) -> npt.NDArray[Any]:
    """Of prompts, as numbers out of the index, or as texts; either kind is drawn by its text."""
    return pairs.groups if isinstance(pairs, PairList) else np.array([pair.prompt_id for pair in pairs])


def _drawn_splits(prompts: npt.NDArray[Any], seed: int, shares: Sequence[float]) -> npt.NDArray[np.int8]:
    """A split per pair: prompts are ranked by a seeded hash, so the order of rows does not matter."""
    distinct, prompt_of = np.unique(prompts, return_inverse=True)
    ranked = _drawn_order((p if isinstance(p, str) else f"{p:016x}" for p in distinct.tolist()), seed)
    first_end, second_end = (round(len(distinct) * sum(shares[: part + 1])) for part in range(2))
    second_end = max(second_end, len(distinct) - MOST_PROMPTS["test"])
    first_end = max(first_end, second_end - MOST_PROMPTS["judge"])
    rank = np.empty(len(distinct), dtype=np.int64)
    rank[ranked] = np.arange(len(distinct))
    split_of = (rank >= first_end).astype(np.int8) + (rank >= second_end)
    drawn: npt.NDArray[np.int8] = split_of[prompt_of.ravel()]
    return drawn


def _refuse_leaks(dataset: DataSet, prompts: npt.NDArray[Any], numbers: npt.NDArray[np.int8]) -> None:
    """Every pair has the split of the first pair of its prompt."""
    _, first, prompt_of = np.unique(prompts, return_index=True, return_inverse=True)
    own = numbers[first][prompt_of.ravel()]
    leaks = np.flatnonzero(own != numbers)
    if len(leaks):
        here, there = (dataset.pairs[int(place)] for place in (leaks[0], first[prompt_of.ravel()[leaks[0]]]))
        what = "the prompt" if here.prompt_id == there.prompt_id else "beginnings of the prompt"
        longer = max(here.question, there.question, key=len)
        raise HarnessError(
            f"'{dataset.name}' has {what} {longer[:30]!r} in the splits {SPLIT_NAMES[own[leaks[0]]]} and "
            f"{SPLIT_NAMES[numbers[leaks[0]]]}: give all its rows the same 'split'"
        )


def _taken(pairs: Sequence[Pair], places: npt.NDArray[np.int64]) -> Sequence[Pair]:
    return pairs.take(places) if isinstance(pairs, PairList) else tuple(pairs[place] for place in places.tolist())


def _shuffled(places: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    shuffled: npt.NDArray[np.int64] = places[_drawn_order(map(str, places.tolist()), seed)]
    return shuffled


def _drawn_order(keys: Iterable[str], seed: int) -> npt.NDArray[np.int64]:
    """The keys' places, by a seeded random rank that no other key, machine or Python version changes."""
    digests = b"".join(hashlib.sha256(f"{seed}:{key}".encode()).digest() for key in keys)
    words = np.frombuffer(digests, dtype=">u8").reshape(-1, 4).astype(np.uint64) if digests else np.empty((0, 4))
    return np.lexsort((words[:, 3], words[:, 2], words[:, 1], words[:, 0]))
