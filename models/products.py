"""Matrices times matrices in bfloat16 on a processor with tiles (AMX), in the ways that oneDNN is quick at.

It multiplies half as fast where a first factor lies transposed, as a gradient does for its weight's; and with two
threads it uses one where an answer is narrow and up to twice as high (docs/log.md, 2026-11-28, second section). So
the gradient is transposed first, and such an answer is computed in two halves. The sums are the same.
Shapes: N tokens · I numbers in · O numbers out.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from models import kernels

NARROW = 1024  # columns


def take(x_NI: Tensor, weight_OI: Tensor) -> bool:
    """Whether these are multiplied here."""
    return (
        kernels.built().tiles
        and x_NI.dtype == weight_OI.dtype == torch.bfloat16
        and x_NI.dim() == 2
        and all(side % kernels.SIDE == 0 for side in (*x_NI.shape, *weight_OI.shape))
        and kernels.take(x_NI, weight_OI)
    )


def linear(x_NI: Tensor, weight_OI: Tensor) -> Tensor:
    """x · Wᵀ, (N, O), of what `take` says. Second derivatives are not defined."""
    if not torch.is_grad_enabled():
        return multiply(x_NI, weight_OI.T)
    out: Tensor = _Linear.apply(x_NI, weight_OI)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return out


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):  # type: ignore[no-untyped-def]  # torch's own signature is untyped
        ctx.save_for_backward(x, weight)
        return multiply(x, weight.T)

    @staticmethod
    def backward(ctx, grad_NO):  # type: ignore[no-untyped-def]
        x, weight = ctx.saved_tensors
        of_x, of_weight = ctx.needs_input_grad
        return (
            multiply(grad_NO, weight) if of_x else None,
            multiply(_room.transposed(grad_NO.contiguous()), x) if of_weight else None,
        )


class _Room(threading.local):
    """Memory for one transposed matrix, taken once: its first touches cost as much as the copying."""

    numbers = torch.empty(0, dtype=torch.bfloat16)

    def transposed(self, x: Tensor) -> Tensor:
        """xᵀ until the next one is asked for."""
        if len(self.numbers) < x.numel():
            self.numbers = torch.empty(x.numel(), dtype=torch.bfloat16)
        out = self.numbers[: x.numel()].view(x.shape[1], x.shape[0])
        kernels.transpose(x, out)
        return out


_room = _Room()


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """a · b."""
    rows, columns = a.shape[0], b.shape[1]
    if torch.get_num_threads() != 2 or columns > NARROW or not columns <= rows < 2 * columns:
        return a @ b
    out, half = a.new_empty(rows, columns), columns // 2 // kernels.SIDE * kernels.SIDE
    for part in (slice(0, half), slice(half, columns)):
        torch.mm(a, b[:, part], out=out[:, part])
    return out
