"""How much is computed at once, halved where the memory runs out: a pass then goes on in smaller parts.

Parts change no result but for rounding, so what is smaller stays smaller: the next pass need not run out again.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from models.failure import ModelError

READ_TOKENS = 4096  # by a pass without gradients
WRITTEN_ANSWERS = 128

T = TypeVar("T")
# How torch says on a processor (Linux, Windows) and in CUDA's libraries that there is no memory left: it has no class
# of its own for that.
_SAID = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "std::bad_alloc",
)


class OutOfMemoryError(ModelError):
    """The least that can be computed at once does not fit: one line."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left, on whatever device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _SAID)


def warn(line: str) -> None:
    """Tell who has no better place for it."""
    warnings.warn(line, stacklevel=2)


class Room:
    """What is computed at once: `most` of its unit at first, and what fitted since memory ran out."""

    def __init__(self, most: int, unit: str = "tokens", tell: Callable[[str], None] = warn) -> None:
        self.most, self.unit, self.tell = most, unit, tell

    def halve(self, what: str, tried: int, rows: int) -> None:
        """Compute half of what was tried from now on, and say so; OutOfMemoryError where that was one row."""
        if rows == 1:
            raise OutOfMemoryError(
                f"out of memory: {what} of one row ({tried:,} {self.unit}) does not fit: choose a smaller model, train "
                "an adapter (--adapter lora:r=16), shorten the longest rows, or free memory"
            )
        self.most = max(1, min(self.most, tried) // 2)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.tell(
            f"out of memory: {what} of {tried:,} {self.unit} did not fit, so at most {self.most:,} are computed at "
            "once from here on; the numbers are the same but for rounding"
        )


def unless_out_of_memory(work: Callable[[], T]) -> T | None:
    """What `work` gives, which is not None; None where it ran out of memory, what it had held being free again."""
    try:
        return work()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    return None


@dataclass(frozen=True, kw_only=True)
class Rooms:
    """What measuring computes at once; one for all models of a run, so that none runs out where another did."""

    reading: Room = field(default_factory=lambda: Room(READ_TOKENS))
    writing: Room = field(default_factory=lambda: Room(WRITTEN_ANSWERS, "answers"))

    @classmethod
    def telling(cls, tell: Callable[[str], None]) -> Rooms:
        """Full ones, that tell where memory ran out."""
        rooms = cls()
        rooms.tell(tell)
        return rooms

    def tell(self, tell: Callable[[str], None]) -> None:
        """Tell it there from now on."""
        self.reading.tell = self.writing.tell = tell
