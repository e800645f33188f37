"""AdamW (arXiv:1711.05101) on float32 masters, with the gradient's norm clipped.

Our own kernel reads a gradient as it lies, steps and casts a copy anew in one pass (models/kernels.c). Where there is
none it is torch's; on a processor a matrix that has a copy is then stepped on piece by piece: its gradient is cast to
float32, the master steps, the copy is cast anew. So no gradient is held in float32 as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from harness.training.mixed_precision import PIECE, Learnt, MixedPrecision, in_pieces
from models import kernels
from models.decoder import Decoder
from models.low_rank import own_weights

CLIP = 1.0  # gradient norm
BETAS, EPSILON = (0.9, 0.999), 1e-8  # torch's own


class Part(NamedTuple):
    """Of one weight, all or a piece: what a step reads and writes. Moments are means of gradients and of squares."""

    master: Tensor
    mean: Tensor
    square: Tensor
    copy: Tensor | None
    gradient: Tensor


def start_optimizer(policy: Decoder, rate: float) -> AdamW:
    """AdamW on what is trained of the policy, which needs gradients from now on; the rest needs none."""
    weights = list(own_weights(policy.requires_grad_(False)).values())
    for weight in weights:
        weight.requires_grad_(True)
    return AdamW(weights, rate)


class AdamW:
    """Two moments of each weight, made when they are first needed. No weight decay.

    Steps are counted for all weights at once, where torch counts those in which a weight has a gradient.
    """

    def __init__(self, weights: Sequence[Tensor], rate: float) -> None:
        """`rate` may be set anew before each step."""
        assert all(weight.ndim and weight.is_contiguous() for weight in weights), "pieces are views"
        self.weights, self.rate = tuple(weights), rate
        self._moments: dict[int, tuple[Tensor, Tensor]] = {}  # by the weight's id
        self._steps = torch.zeros((), device=self.weights[0].device)
        self._scratch = torch.empty(max(PIECE, *(weight.shape[-1] for weight in weights)))

    @torch.no_grad()
    def update(self, policy: MixedPrecision) -> float:
        """What ends a training step: clip, step, and let the gradients go; their norm before.

        The kernel divides gradients by `grad_scale` in its own pass, which is there for a `GradScaler`: a norm above
        CLIP becomes CLIP, smaller ones stay. A norm that is no number makes all weights so, which the log refuses.
        """
        learnt = policy.learnt()
        assert learnt, "a step without gradients"
        assert {id(one.master) for one in learnt} <= {id(weight) for weight in self.weights}
        self._steps += 1
        if all(kernels.take(one.master) and kernels.take(one.gradient) for one in learnt):
            norm = self._update_by_kernel(learnt)
            policy.zero_grad()
            return norm
        norm = total_norm(learnt, self._scratch)
        scale = (norm / CLIP).clamp(min=1)
        for parts in self._parts(learnt):
            self._step(parts, scale)
        policy.zero_grad()
        return float(norm)

    def _update_by_kernel(self, learnt: Sequence[Learnt]) -> float:
        """All but letting go of the gradients."""
        added = [one.added() for one in learnt]
        norm = math.sqrt(sum(kernels.squares(one.gradient, more) for one, more in zip(learnt, added, strict=True)))
        for one, more in zip(learnt, added, strict=True):
            kernels.adamw(
                one.master,
                *self._moments_of(one.master),
                one.copy,
                one.gradient,
                more,
                shrink=CLIP / norm if norm > CLIP or norm != norm else 1.0,
                betas=BETAS,
                rate=self.rate,
                step=int(self._steps),
                eps=EPSILON,
            )
        return norm

    def _moments_of(self, master: Tensor) -> tuple[Tensor, Tensor]:
        if id(master) not in self._moments:
            self._moments[id(master)] = torch.zeros_like(master), torch.zeros_like(master)
        return self._moments[id(master)]

    def _parts(self, learnt: Sequence[Learnt]) -> Iterator[list[Part]]:
        """What is stepped on at once: on a processor a piece of a matrix with a copy, and all else together."""
        together: list[Part] = []
        for one in learnt:
            master, copy = one.master, one.copy
            moments = self._moments_of(master)
            if copy is not None and master.device.type == "cpu":
                for weights, gradient in zip(
                    in_pieces(master, *moments, copy), one.in_float(self._scratch), strict=True
                ):
                    yield [Part(weights[0], weights[1], weights[2], weights[3], gradient)]
            else:
                together.append(Part(master, *moments, copy, one.gradient))
        if together:
            yield together

    def _step(self, parts: Sequence[Part], scale: Tensor) -> None:
        torch._fused_adamw_(
            [part.master for part in parts],
            [part.gradient for part in parts],
            [part.mean for part in parts],
            [part.square for part in parts],
            [],
            [self._steps] * len(parts),
            lr=self.rate,
            beta1=BETAS[0],
            beta2=BETAS[1],
            eps=EPSILON,
            weight_decay=0.0,
            amsgrad=False,
            maximize=False,
            grad_scale=scale,
        )
        for part in parts:
            if part.copy is not None:
                part.copy.copy_(part.master)


def total_norm(learnt: Sequence[Learnt], scratch: Tensor) -> Tensor:
    """√Σ g² over all, in float32: on a processor piece by piece, in less time than torch takes (docs/log.md)."""
    if learnt[0].master.device.type != "cpu":
        return torch.nn.utils.get_total_norm([one.gradient for one in learnt])
    squares = [piece.dot(piece) for one in learnt for piece in one.in_float(scratch)]
    return torch.stack(squares).sum(dtype=torch.float64).sqrt().float()
