"""AdamW (arXiv:1711.05101) on float32 masters, with the gradient's norm clipped.

On a processor our own kernel reads a gradient as it lies, steps and casts the copy anew in one pass (models/kernels.c);
elsewhere it is torch's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from harness.training.mixed_precision import Learnt, MixedPrecision
from models import kernels
from models.decoder import Decoder
from models.low_rank import own_weights

CLIP = 1.0  # gradient norm
BETAS, EPSILON = (0.9, 0.999), 1e-8  # torch's own


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
        assert all(w.ndim and w.dtype == torch.float32 and w.is_contiguous() for w in weights), "as kernels read them"
        self.weights, self.rate = tuple(weights), rate
        self._moments: dict[int, tuple[Tensor, Tensor]] = {}  # means of gradients and of squares, by the weight's id
        self._steps = 0

    @torch.no_grad()
    def update(self, policy: MixedPrecision) -> float:
        """What ends a training step: clip, step, and let the gradients go; their norm before.

        A norm above CLIP becomes CLIP, smaller ones stay. One that is no number makes all weights so, which the log
        refuses.
        """
        learnt = policy.learnt()
        assert learnt, "a step without gradients"
        assert {id(one.master) for one in learnt} <= {id(weight) for weight in self.weights}
        self._steps += 1
        known = all(kernels.take(one.master) and kernels.take(one.gradient) for one in learnt)
        norm = self._step_by_kernel(learnt) if known else self._step_by_torch(learnt)
        policy.zero_grad()
        return norm

    def _step_by_kernel(self, learnt: Sequence[Learnt]) -> float:
        norm = math.sqrt(sum(kernels.squares(one.gradient, one.added) for one in learnt))
        for one in learnt:
            kernels.adamw(
                one.master,
                *self._moments_of(one.master),
                one.copy,
                one.gradient,
                one.added,
                shrink=1.0 if norm <= CLIP else CLIP / norm,
                betas=BETAS,
                rate=self.rate,
                step=self._steps,
                eps=EPSILON,
            )
        return norm

    def _step_by_torch(self, learnt: Sequence[Learnt]) -> float:
        """Its kernel divides by `grad_scale` in its own pass, which is there for a `GradScaler`."""
        norm = torch.stack([torch.linalg.vector_norm(one.in_float()) for one in learnt]).norm()
        steps = torch.full((), float(self._steps), device=norm.device)
        # A GPU steps on all at once; a processor on one by one, so that one gradient at a time is held in float32.
        for part in [learnt] if norm.is_cuda else [[one] for one in learnt]:
            means, squares = zip(*(self._moments_of(one.master) for one in part), strict=True)
            torch._fused_adamw_(
                [one.master for one in part],
                [one.in_float() for one in part],
                list(means),
                list(squares),
                [],
                [steps] * len(part),
                lr=self.rate,
                beta1=BETAS[0],
                beta2=BETAS[1],
                eps=EPSILON,
                weight_decay=0.0,
                amsgrad=False,
                maximize=False,
                grad_scale=(norm / CLIP).clamp(min=1),
            )
            for one in part:
                if one.copy is not None:
                    one.copy.copy_(one.master)
        return float(norm)

    def _moments_of(self, master: Tensor) -> tuple[Tensor, Tensor]:
        if id(master) not in self._moments:
            self._moments[id(master)] = torch.zeros_like(master), torch.zeros_like(master)
        return self._moments[id(master)]
