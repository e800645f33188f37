"""What a preference objective is held against: cached log-probs of a frozen policy, or a copy that moves."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from models.decoder import Decoder
from models.logprobs import sum_logps
from models.packing import Row, pack

Batch = Sequence[int]


class ReferenceLogps(Protocol):
    """Log-probs of training pairs, (B, 2) float32 nats: chosen and rejected."""

    def logps(self, pairs: Batch, rows: Sequence[Row]) -> Tensor: ...

    def refresh(self, policy: Decoder, alpha: float) -> None: ...


class Frozen:
    """Reads log-probs computed beforehand, one pass over each pair, shared by all trials."""

    def __init__(self, table: Mapping[int, tuple[float, float]], device: torch.device) -> None:
        self.table, self.device = table, device

    def logps(self, pairs: Batch, rows: Sequence[Row]) -> Tensor:
        return torch.tensor([self.table[i] for i in pairs], device=self.device)

    def refresh(self, policy: Decoder, alpha: float) -> None:
        raise AssertionError("a frozen reference does not move")


class Moving:
    """A copy of the policy's first weights, computed live and mixed with the policy as the plan says."""

    def __init__(self, policy: Decoder, dtype: torch.dtype) -> None:
        self.decoder, self.dtype = copy.deepcopy(policy).requires_grad_(False), dtype

    def logps(self, pairs: Batch, rows: Sequence[Row]) -> Tensor:
        return pair_logps(self.decoder, rows, self.dtype)

    @torch.no_grad()
    def refresh(self, policy: Decoder, alpha: float) -> None:
        """ref ← α·policy + (1−α)·ref."""
        for mine, theirs in zip(self.decoder.parameters(), policy.parameters(), strict=True):
            mine.lerp_(theirs, alpha)


@torch.no_grad()
def pair_logps(decoder: Decoder, rows: Sequence[Row], dtype: torch.dtype) -> Tensor:
    """log π of the two responses of each row, (B, 2) float32 nats."""
    return sum_logps(decoder, pack(rows).to(decoder.device), dtype=dtype).view(-1, 2)
