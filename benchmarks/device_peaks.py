"""What a GPU could do at most: by its maker's data sheet, or else measured here."""

from __future__ import annotations

from typing import NamedTuple

import torch

from harness.training.machine import seconds_of

# Name as the driver gives it → dense bfloat16 TFLOP/s and memory GB/s, of NVIDIA's data sheets (without sparsity).
SHEETS = {
    "NVIDIA A100 80GB PCIe": (312, 1935),
    "NVIDIA A100-SXM4-40GB": (312, 1555),
    "NVIDIA A100-SXM4-80GB": (312, 2039),
    "NVIDIA H100 80GB HBM3": (989, 3350),
    "NVIDIA H100 PCIe": (756, 2000),
    "NVIDIA H200": (989, 4800),
}
SIDE, NUMBERS, ROUNDS = 8192, 2**29, 5  # of a matrix; of what is copied


class Peaks(NamedTuple):
    """The most in a second, and who says so."""

    name: str
    flops: float
    bytes: float
    source: str


def peaks_of(device: torch.device, dtype: torch.dtype, side: int = SIDE, numbers: int = NUMBERS) -> Peaks:
    """The data sheet's, for bfloat16 on a GPU that is listed; else the best of a large multiplication and a copy."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    if dtype == torch.bfloat16 and name in SHEETS:
        tera, giga = SHEETS[name]
        return Peaks(name, tera * 1e12, giga * 1e9, "NVIDIA's data sheet")
    x = torch.ones(side, side, dtype=dtype, device=device)
    source = torch.ones(numbers, dtype=torch.bfloat16, device=device)
    target = torch.empty_like(source)
    multiplied = min(seconds_of(lambda: x @ x) for _ in range(ROUNDS))
    copied = min(seconds_of(lambda: target.copy_(source)) for _ in range(ROUNDS))
    return Peaks(name, 2 * side**3 / multiplied, 2 * source.nbytes / copied, "measured here")
