"""The most memory that a stage held at once."""

from __future__ import annotations

import threading
from types import TracebackType

import psutil
import torch

EVERY_SECONDS = 0.02


class PeakMemory:
    """While entered, watches the memory in use; `peak_bytes` is the most of it that was seen.

    On the processor that is the process's resident set, sampled; on an accelerator, what was allocated there, exactly.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.peak_bytes = device, 0
        self._process = psutil.Process()
        self._over = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.device.type == "cuda":
            self.peak_bytes = torch.cuda.max_memory_allocated(self.device)
        else:
            self._over.set()
            self._sampler.join()

    def _sample(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)
            if self._over.wait(EVERY_SECONDS):
                return
