"""The peak is of what was held meanwhile, not of what is left."""

from __future__ import annotations

import mmap
import time

import psutil
import torch

from harness.training.memory import EVERY_SECONDS, PeakMemory

SIZE = 100 * 2**20


def test_what_was_freed_before_the_end_counts() -> None:
    """A hundred mebibytes of fresh pages, touched and given back."""
    before = psutil.Process().memory_info().rss
    with PeakMemory(torch.device("cpu")) as memory, mmap.mmap(-1, SIZE) as held:
        held.write(bytes(SIZE))
        time.sleep(10 * EVERY_SECONDS)
    assert memory.peak_bytes > before + 0.9 * SIZE
