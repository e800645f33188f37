"""The time, once what was begun is done."""

from __future__ import annotations

import time

import torch


def now() -> float:
    """Seconds on a clock that waits for the GPU: it computes on after it was told what."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()
