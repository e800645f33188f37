"""The way to a device: tensors made on the processor wait in pinned memory, and nobody waits for them."""

from __future__ import annotations

import torch
from torch import Tensor


def send(x: Tensor, device: torch.device) -> Tensor:
    """The same tensor on a device.

    A GPU fetches it by itself while the processor goes on, which takes memory that the system cannot move: torch keeps
    that until it was fetched, and uses it again.
    """
    if device.type == "cuda" and x.device.type == "cpu":
        x = x.pin_memory()
    return x.to(device, non_blocking=device.type == "cuda")
