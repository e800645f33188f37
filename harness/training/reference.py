"""What a preference objective is held against: cached log-probs of a frozen policy, or a copy that moves.

Of a policy with an adapter only the adapter is copied: both are read on the same base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from harness.training.mixed_precision import MixedPrecision
from models.decoder import Decoder
from models.logprobs import sum_logps
from models.low_rank import own_weights, twin
from models.packing import Row, pack
from models.transfer import send

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
        return send(torch.tensor([self.table[i] for i in pairs]), self.device)

    def refresh(self, policy: Decoder, alpha: float) -> None:
        raise AssertionError("a frozen reference does not move")


class Moving:
    """A copy of what is trained of the policy, computed live and mixed with the policy as the plan says."""

    def __init__(self, policy: Decoder, dtype: torch.dtype) -> None:
        self.dtype, self._copied = dtype, MixedPrecision(twin(policy), dtype)

    @property
    def decoder(self) -> Decoder:
        """In float32."""
        return self._copied.masters

    def logps(self, pairs: Batch, rows: Sequence[Row]) -> Tensor:
        return pair_logps(self._copied.computing, rows, self.dtype)

    @torch.no_grad()
    def refresh(self, policy: Decoder, alpha: float) -> None:
        """ref ← α·policy + (1−α)·ref, on what is trained.

        With an adapter that is A and B, each mixed by itself. What is mixed for full weights is then only nearly so:
        the reference's change of a matrix is its mixed B times its mixed A, whose cross terms are no mean of the two
        products, off it by α(1−α)(B−B′)(A−A′). At α = 1, a hard refresh, nothing is off.
        """
        for mine, theirs in zip(own_weights(self.decoder).values(), own_weights(policy).values(), strict=True):
            mine.lerp_(theirs, alpha)
        self._copied.refresh()


@torch.no_grad()
def pair_logps(decoder: Decoder, rows: Sequence[Row], dtype: torch.dtype) -> Tensor:
    """log π of the two responses of each row, (B, 2) float32 nats."""
    return sum_logps(decoder, pack(rows).to(decoder.device), dtype=dtype).view(-1, 2)
