"""Matrices times matrices in bfloat16 on a processor with AMX (models/products.c).

oneDNN, which torch multiplies with, is up to three times slower there at some sizes than at others: where the answer is
narrow one of two threads may do it all, and a first factor that lies transposed, as a gradient does for its weight's,
takes twice as long (docs/log.md, 2026-11-28, products in C). Here all take about the same. Elsewhere torch multiplies.
Shapes: N tokens · I numbers in · O numbers out.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from models import kernels
from models.kernels import SIDE


def take(a: Tensor, b: Tensor) -> bool:
    """Whether a · b is computed here. Either may lie transposed; rows may be any number where `a` does not."""
    return (
        a.dtype == b.dtype == torch.bfloat16
        and a.dim() == b.dim() == 2
        and a.is_cpu
        and b.is_cpu
        and min(*a.shape, *b.shape) >= SIDE
        and a.shape[1] % SIDE == b.shape[1] % SIDE == 0
        and (a.stride(1) == 1 or (a.stride(0) == 1 and a.shape[0] % SIDE == 0))
        and (b.stride(1) == 1 or (b.stride(0) == 1 and b.stride(1) % 2 == 0))  # words of two numbers are read
        and kernels.built().multiplies
    )


def multiply(
    a: Tensor, b: Tensor, bias: Tensor | None = None, *, out: Tensor | None = None, add: bool = False
) -> Tensor:
    """a · b, and the bias added to each row before it is rounded; with `add`, added to what is in `out`.

    Gradients do not go through it.
    """
    assert a.shape[1] == b.shape[0]
    assert out is not None or not add
    if out is not None:
        assert bias is None
        assert out.shape == (a.shape[0], b.shape[1])
        assert out.dtype == a.dtype
        assert out.is_contiguous()
    if not take(a, b):
        if out is not None:
            return out.addmm_(a, b, beta=int(add))
        return a @ b if bias is None else torch.addmm(bias, a, b)
    if bias is not None:
        assert bias.dtype == torch.bfloat16
        assert bias.shape == (b.shape[1],)
        assert bias.is_contiguous()
    into = a.new_empty(a.shape[0], b.shape[1]) if out is None else out
    assert into.is_cpu
    threads, transposed = torch.get_num_threads(), [x.stride(1) != 1 for x in (a, b)]
    pointers = a.data_ptr(), b.data_ptr(), None if bias is None else bias.data_ptr(), into.data_ptr()
    apart = [x.stride(0) if x.stride(1) == 1 else x.stride(1) for x in (a, b)]
    sizes = a.shape[0], b.shape[1], a.shape[1], threads
    kernels.built().library.multiply(*pointers, *apart, *transposed, *sizes, add, _room.of(threads).data_ptr())
    if out is not None:
        torch.autograd.graph.increment_version([out])
    return into


def linear(x_NI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """x · Wᵀ + bias, (N, O), of what `takes_linear` says. Second derivatives are not defined."""
    if not torch.is_grad_enabled():
        return multiply(x_NI, weight_OI.T, bias_O)
    out: Tensor = _Linear.apply(x_NI, weight_OI, bias_O)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return out


def takes_linear(x_NI: Tensor, weight_OI: Tensor) -> bool:
    """Whether a linear layer, and its gradients where they are asked for, are computed here."""
    learns = torch.is_grad_enabled() and weight_OI.requires_grad  # then tokens are the depth of a product
    return take(x_NI, weight_OI.T) and not (learns and x_NI.shape[0] % SIDE)


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
            multiply(grad_NO.T, x) if of_weight else None,
            grad_NO.sum(0) if of_bias else None,
        )


class _Room(threading.local):
    """Memory to lay factors out in, taken once: its first touches would cost more than its use."""

    threads, bytes = 0, torch.empty(0, dtype=torch.uint8, device="cpu")

    def of(self, threads: int) -> Tensor:
        if threads > self.threads:
            needed = kernels.built().library.multiply_room(threads)
            self.threads, self.bytes = threads, torch.empty(needed, dtype=torch.uint8, device="cpu")
        return self.bytes


_room = _Room()
