"""The peak is of what was held meanwhile, not of what is left."""

from __future__ import annotations

import time

import torch

from harness.training.memory import EVERY_SECONDS, PeakMemory

MIB = 2**20


def test_what_was_freed_before_the_end_counts() -> None:
    """A hundred mebibytes, touched and dropped."""
    with PeakMemory(torch.device("cpu")) as before:
        pass
    with PeakMemory(torch.device("cpu")) as memory:
        held = torch.ones(100 * MIB // 4)
        time.sleep(10 * EVERY_SECONDS)
        del held
    assert memory.peak_bytes > before.peak_bytes + 80 * MIB
