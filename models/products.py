"""Matrices times matrices in bfloat16 on a processor with AMX, in the ways that oneDNN is quick at.

It multiplies half as fast where a first factor lies transposed, as a gradient does for its weight's; and with two
threads it uses one where an answer is narrow and up to twice as high (docs/log.md, 2026-11-28, attention in C). So
the gradient is transposed first, and such an answer is computed in two halves. Sums differ in a last bit at most.
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
        x_NI.dtype == torch.bfloat16
        and x_NI.dim() == 2
        and all(side % kernels.SIDE == 0 for side in (*x_NI.shape, *weight_OI.shape))
        and kernels.take(x_NI, weight_OI)
        and kernels.built().amx
    )


def linear(x_NI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """x · Wᵀ + bias, (N, O), of what `take` says. Second derivatives are not defined."""
    if not torch.is_grad_enabled():
        return multiply(x_NI, weight_OI.T, bias_O)
    out: Tensor = _Linear.apply(x_NI, weight_OI, bias_O)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return out


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):  # type: ignore[no-untyped-def]  # torch's own signature is untyped
        ctx.save_for_backward(x, weight)
        return multiply(x, weight.T, bias)

    @staticmethod
    def backward(ctx, grad_NO):  # type: ignore[no-untyped-def]
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            multiply(grad_NO, weight) if of_x else None,
            multiply(_room.transposed(grad_NO.contiguous()), x) if of_weight else None,
            grad_NO.sum(0) if of_bias else None,
        )


class _Room(threading.local):
    """Memory for one transposed matrix, as large as the largest yet: its first touches cost as much as the copying."""

    numbers = torch.empty(0, dtype=torch.bfloat16)

    def transposed(self, x: Tensor) -> Tensor:
        """xᵀ until the next one is asked for."""
        if len(self.numbers) < x.numel():
            self.numbers = x.new_empty(x.numel())
        out = self.numbers[: x.numel()].view(x.shape[1], x.shape[0])
        kernels.transpose(x, out)
        return out


_room = _Room()


def multiply(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a · b, and the bias added to each row before it is rounded."""
    rows, columns = a.shape[0], b.shape[1]
    if torch.get_num_threads() != 2 or not (2 * kernels.SIDE <= columns <= NARROW and columns <= rows < 2 * columns):
        return a @ b if bias is None else torch.addmm(bias, a, b)
    out, half = a.new_empty(rows, columns), columns // 2 // kernels.SIDE * kernels.SIDE
    for part in (slice(0, half), slice(half, columns)):
        if bias is None:
            torch.mm(a, b[:, part], out=out[:, part])
        else:
            torch.addmm(bias[part], a, b[:, part], out=out[:, part])
    return out
