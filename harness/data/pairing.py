"""Unpaired completions made into pairs: a good one with a bad one to the same prompt, in their order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.data.faults import Tally
from harness.data.kept import Kept
from harness.data.labelled import LabelledRow
from harness.errors import HarnessError

Places = npt.NDArray[np.int64]


def pair_up(name: str, singles: Kept, good: npt.NDArray[np.bool_], tally: Tally) -> Iterator[LabelledRow]:
    """Pairs in the order of their good completions. Each completion is used once; those left over are counted.

    `singles` hold a completion each, as their chosen response.
    """
    ids = singles.index["prompt_ids"]
    chosen, rejected = _matched(ids, np.flatnonzero(good), np.flatnonzero(~good))
    if not len(chosen):
        raise HarnessError(
            f"{name} has no prompt with both a true and a false 'label', so nothing can be paired: "
            "give rows that share their prompts"
        )
    _count_left_over(name, singles, np.concatenate([chosen, rejected]), tally)
    for mine, theirs in zip(chosen.tolist(), rejected.tolist(), strict=True):
        better, worse = singles.row(mine), singles.row(theirs)
        if better.split != worse.split:
            raise HarnessError(
                f"{name}: rows {better.row} and {worse.row} have the same prompt and the splits {better.split} and "
                f"{worse.split}: give all its rows the same 'split'"
            )
        if better.chosen.strip() == worse.chosen.strip():
            what = f"has the same completion as row {worse.row} with the other label"
            tally.add("tied", better.row, f"{name}: row {better.row}", what, "mend or delete them")
            continue
        yield replace(better, rejected=worse.chosen)


def _matched(ids: npt.NDArray[Any], good: Places, bad: Places) -> tuple[Places, Places]:
    """The n-th good place of each prompt with its n-th bad one."""
    kind = np.dtype([("id", "u8"), ("rank", "i8")])
    key_good, key_bad = np.empty(len(good), kind), np.empty(len(bad), kind)
    for key, places in ((key_good, good), (key_bad, bad)):
        key["id"], key["rank"] = ids[places], _ranks(ids[places])
    _, mine, theirs = np.intersect1d(key_good, key_bad, assume_unique=True, return_indices=True)
    order = np.argsort(good[mine])
    return good[mine][order], bad[theirs][order]


def _ranks(ids: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """How many of the same id come before each."""
    order = np.argsort(ids, kind="stable")
    _, begins, counts = np.unique(ids[order], return_index=True, return_counts=True)
    ranks = np.empty(len(ids), dtype=np.int64)
    ranks[order] = np.arange(len(ids)) - np.repeat(begins, counts)
    return ranks


def _count_left_over(name: str, singles: Kept, used: Places, tally: Tally) -> None:
    left = np.ones(len(singles), dtype=bool)
    left[used] = False
    for row in singles.index["numbers"][left].tolist():
        what = "has a completion that no other one can be paired with"
        tally.add("alone", row, f"{name}: row {row}", what, "add one with the other label, or delete the row")
