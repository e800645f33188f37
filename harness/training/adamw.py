"""AdamW (arXiv:1711.05101) on float32 masters, in torch's fused kernel, with the gradient's norm clipped.

On a processor a matrix that has a copy is stepped on in pieces that caches hold: its gradient is cast to float32, the
master steps, the copy is cast anew, where three passes would each read all of it from memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from harness.training.mixed_precision import PIECE, Learnt, MixedPrecision, in_pieces
from models.decoder import Decoder
from models.low_rank import own_weights

CLIP = 1.0  # gradient norm
BETAS, EPSILON = (0.9, 0.999), 1e-8  # torch's own


class Part(NamedTuple):
    """Of one weight, all or a piece: what a step reads and writes. Moments are means of gradients and of squares."""

    master: Tensor
    gradient: Tensor
    mean: Tensor
    square: Tensor
    copy: Tensor | None = None


def start_optimizer(policy: Decoder, rate: float) -> AdamW:
    """AdamW on what is trained of the policy, which needs gradients from now on; the rest needs none."""
    weights = list(own_weights(policy.requires_grad_(False)).values())
    for weight in weights:
        weight.requires_grad_(True)
    return AdamW(weights, rate)


class AdamW:
    """Two moments of each weight, made when they are first needed. No weight decay."""

    def __init__(self, weights: Sequence[Tensor], rate: float) -> None:
        """`rate` may be set anew before each step."""
        self.weights, self.rate = tuple(weights), rate
        self._moments: dict[int, tuple[Tensor, Tensor]] = {}  # by the weight's id
        self._steps = torch.zeros((), device=self.weights[0].device)

    @torch.no_grad()
    def update(self, policy: MixedPrecision) -> float:
        """What ends a training step: clip, step, and let the gradients go; their norm before.

        The kernel divides gradients by `grad_scale` in its own pass, which is there for a `GradScaler`: a norm above
        CLIP becomes CLIP, smaller ones stay. A norm that is no number makes all weights so, which the log refuses.
        """
        learnt = policy.learnt()
        norm = total_norm([one.gradient for one in learnt])
        scale = (norm / CLIP).clamp(min=1)
        self._steps += 1
        for parts in self._parts(learnt):
            self._step(parts, scale)
        policy.zero_grad()
        return float(norm)

    def _parts(self, learnt: Sequence[Learnt]) -> Iterator[list[Part]]:
        """What is stepped on at once: on a processor a piece of a matrix with a copy, and all else together."""
        together, in_float = [], InFloat()
        for master, gradient, copy in learnt:
            if id(master) not in self._moments:
                self._moments[id(master)] = torch.zeros_like(master), torch.zeros_like(master)
            moments = self._moments[id(master)]
            if copy is not None and master.device.type == "cpu":
                pieces = in_pieces(master, gradient, *moments, copy)
                yield from ([Part(one, in_float(slope), *more)] for one, slope, *more in pieces)
            else:
                together.append(Part(master, gradient, *moments, copy))
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


def total_norm(gradients: Sequence[Tensor]) -> Tensor:
    """√Σ g² over all of them, in float32: on a processor, by pieces, in half the time of torch's own (docs/log.md)."""
    if gradients[0].device.type != "cpu":
        return torch.nn.utils.get_total_norm(gradients)
    pieces = map(InFloat(), (piece for gradient in gradients for (piece,) in in_pieces(gradient)))
    return torch.stack([piece.dot(piece) for piece in pieces]).sum(dtype=torch.float64).sqrt().float()


class InFloat:
    """Pieces in float32: themselves, or cast into memory that the next one takes the place of."""

    def __init__(self) -> None:
        self._scratch = torch.empty(PIECE)

    def __call__(self, piece: Tensor) -> Tensor:
        return piece if piece.dtype == torch.float32 else self._scratch[: len(piece)].copy_(piece)
