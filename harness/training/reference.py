"""What a preference objective is held against: cached log-probs of a frozen policy, or a copy that moves.

Of a policy with an adapter only the adapter is copied: both are read on the same base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from harness.training.mixed_precision import MixedPrecision
from models.adapted import Adapted
from models.decoder import Decoder
from models.logprobs import sum_logps
from models.low_rank import own_weights, twin
from models.packing import Row, few_sizes, pack
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

    def __init__(self, policy: Decoder, dtype: torch.dtype, *, mixes: bool = True) -> None:
        """`mixes`: a refresh may take the policy in part. Else no float32 is kept of a matrix that is read in less."""
        self.dtype = dtype
        narrow = dtype != torch.float32 and not isinstance(policy, Adapted)
        self.mixes = mixes or not narrow
        if self.mixes:
            self._read = MixedPrecision(twin(policy), dtype)
        else:
            self._read = MixedPrecision(narrow_twin(policy, dtype), torch.float32)  # read as it is

    @property
    def decoder(self) -> Decoder:
        """In float32 where it mixes."""
        return self._read.masters

    def logps(self, pairs: Batch, rows: Sequence[Row]) -> Tensor:
        return pair_logps(self._read.computing, rows, self.dtype)

    @torch.no_grad()
    def refresh(self, policy: Decoder, alpha: float) -> None:
        """ref ← α·policy + (1−α)·ref, on what is trained.

        With an adapter that is A and B, each mixed by itself. What is mixed for full weights is then only nearly so:
        the reference's change of a matrix is its mixed B times its mixed A, whose cross terms are no mean of the two
        products, off it by α(1−α)(B−B′)(A−A′). At α = 1, a hard refresh, nothing is off.
        """
        assert self.mixes or alpha == 1, "what is read in less than float32 is not mixed"
        own = own_weights(policy)
        for name, theirs in own.items():
            mine = self.decoder.get_parameter(name)
            mine.lerp_(theirs, alpha) if self.mixes else mine.copy_(theirs)
        self._read.refresh()


def narrow_twin(policy: Decoder, dtype: torch.dtype) -> Decoder:
    """A frozen copy of what is trained, its matrices in `dtype`; what an adapter leaves frozen is cast, or shared."""
    copy = policy.in_dtype(dtype)
    own = {id(weight) for weight in own_weights(policy).values()}
    if policy.untied_head is None and id(policy.head) in own:
        copy.embedding.weight = copy.head  # tied again
    for module in copy.modules():
        for name, weight in module.named_parameters(recurse=False):
            if id(weight) in own:
                setattr(module, name, torch.nn.Parameter(weight.detach().clone()))
    return copy.requires_grad_(False)


@torch.no_grad()
def pair_logps(decoder: Decoder, rows: Sequence[Row], dtype: torch.dtype) -> Tensor:
    """log π of the two responses of each row, (B, 2) float32 nats."""
    batch = pack(rows, multiple=few_sizes(dtype)).to(decoder.device)
    return sum_logps(decoder, batch, dtype=dtype).view(-1, 2)
