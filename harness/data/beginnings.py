"""Prompts of which one begins another: where rows hold no prompt of their own, they are of one question."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from harness.data.kept import Kept
from harness.data.prompts import folded_words, prompt_id_of

Ids = npt.NDArray[np.uint64]


def grouped(kept: Kept) -> Kept:
    """The same rows, their index with a column `groups`: what splits are drawn for in the place of prompts.

    A prompt that was cut where two responses stop to be alike has the group of the shortest prompt that begins it. One
    that begins more than half of all others is an opening that all have, and groups nothing. Two prompts that were cut
    after different words of a response are told to be one question's only by a third that begins both.
    """
    ids, first, row_of = np.unique(kept.index["prompt_ids"], return_index=True, return_inverse=True)
    prompts, beginnings = _beginnings(kept, first.tolist(), ids)
    begun = np.bincount(beginnings, minlength=len(ids))
    question = begun[beginnings] <= (len(ids) - 1) / 2
    groups = ids.copy()
    # From the longest beginning to the shortest, so that the shortest is what stays.
    groups[prompts[question][::-1]] = ids[beginnings[question][::-1]]
    return replace(kept, index={**kept.index, "groups": groups[row_of.ravel()]})


def _beginnings(kept: Kept, places: Sequence[int], ids: Ids) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Each prompt beside each that begins it, the shortest first, as places among the ids; texts are never all held."""
    known = {_last(_sums(_words(kept, place))) for place in places}
    prompts, found = array("q"), array("q")
    for number, place in enumerate(places):
        words = _words(kept, place)
        for count, checksum in enumerate(_sums(words[:-1]), 1):
            if checksum in known:
                beginning = np.uint64(int(prompt_id_of(" ".join(words[:count])), 16))
                at = int(np.searchsorted(ids, beginning))
                if at < len(ids) and ids[at] == beginning:
                    prompts.append(number)
                    found.append(at)
    return np.array(prompts, dtype=np.int64), np.array(found, dtype=np.int64)


def _words(kept: Kept, place: int) -> list[str]:
    return folded_words(kept.row(place).ask.question)


def _sums(words: Sequence[str]) -> Iterator[int]:
    """A checksum of the first word, of the first two, and so on: cheap, and what it finds is looked at again."""
    checksum = 0
    for word in words:
        checksum = zlib.crc32(f"{word} ".encode(), checksum)
        yield checksum


def _last(checksums: Iterator[int]) -> int:
    last = 0
    for last in checksums:  # noqa: B007  # the last one is what is wanted
        pass
    return last
