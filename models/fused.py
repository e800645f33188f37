"""What stands between the matrices, in few passes over memory and with little kept for the backward pass.

Each of these is a formula of a line whose gradient is written out by hand: autograd would keep every intermediate and
pass over memory three times as often (docs/log.md). Second derivatives are not defined. Without gradients the formula
is computed as it is: autograd's own cost of all these calls is about a tenth of a decoding step. On a processor
kernels compute the same in one pass (models/kernels.py) where they can be compiled.
Shapes: N tokens · D width · H heads · E head width · F feed-forward width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models import kernels
from models.kernels import Normed, NormSlopes


def rms_norm(x: Tensor, weight_D: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """x / √(mean x² + eps) · weight over the last dimension (RMSNorm, arXiv:1910.07467), in float32, then cast.

    Kept: x itself, which the residual stream holds anyway, and one number a row.
    """
    if not torch.is_grad_enabled():
        return _normed(x, None, weight_D, eps, dtype).out
    normed: Tensor = _RmsNorm.apply(x, weight_D, eps, dtype)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return normed


def add_and_norm(
    x_ND: Tensor, added_ND: Tensor, weight_D: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """x + added, in float32, and its RMSNorm in `dtype`."""
    if not torch.is_grad_enabled():
        normed = _normed(x_ND, added_ND, weight_D, eps, dtype)
        return normed.x, normed.out
    both: tuple[Tensor, Tensor] = _AddAndNorm.apply(x_ND, added_ND, weight_D, eps, dtype)  # type: ignore[no-untyped-call]
    return both


def _normed(x: Tensor, added: Tensor | None, weight_D: Tensor, eps: float, dtype: torch.dtype) -> Normed:
    if x.dtype == torch.float32 and dtype in kernels.WIDE and kernels.take(x, weight_D):
        if added is not None and not (added.dtype == dtype and kernels.take(added)):
            x, added = x + added, None
        return kernels.norm(x, added, weight_D, eps, dtype)
    x = x if added is None else x + added
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    scale = (norm.square_().div_(x.shape[-1]).add_(eps)).rsqrt_()
    return Normed((x * scale).mul_(weight_D).to(dtype), scale, x)


def _norm_slopes(
    grad: Tensor, passed: Tensor | None, x: Tensor, weight: Tensor, scale: Tensor, learnt: bool
) -> NormSlopes:
    grad, beside = grad.contiguous(), () if passed is None else (passed,)
    if x.dtype == torch.float32 and kernels.take(x, weight, *beside) and kernels.take(grad):
        return kernels.norm_back(grad, passed, x, weight, scale, learnt)
    dtype, grad = grad.dtype, grad.float()
    product_ND = (grad * x).flatten(0, -2)
    scale_N = scale.flatten()
    along_N = product_ND.mv(weight) * scale_N.pow(3) / x.shape[-1]
    slope = (grad * weight).mul_(scale).addcmul_(x, along_N.view(scale.shape), value=-1)
    if passed is not None:
        slope += passed
    return NormSlopes(slope.to(x.dtype), slope.to(dtype), product_ND.T.mv(scale_N) if learnt else None)


def rotate(x_NHE: Tensor, cosine_N1F: Tensor, sine_N1F: Tensor) -> Tensor:
    """Turn each pair of features (e, e + E/2) by its position's angle (RoFormer, arXiv:2104.09864, in two halves).

    Cosine and sine have half the head's width; the gradient is the turn back, so nothing else is kept.
    """
    return rotate_first(x_NHE, (x_NHE.shape[1],), 1, cosine_N1F, sine_N1F)[0]


def rotate_first(
    heads_NHE: Tensor, sizes: tuple[int, ...], turned: int, cosine_N1F: Tensor, sine_N1F: Tensor
) -> tuple[Tensor, ...]:
    """Heads side by side as groups of these sizes, the first `turned` groups rotated and the others as they are.

    One tensor each way: what goes back through a split would be put together again in a pass of its own.
    """
    if not torch.is_grad_enabled():
        return _turn_first(heads_NHE, sizes, turned, cosine_N1F, sine_N1F)
    groups: tuple[Tensor, ...] = _RotateFirst.apply(heads_NHE, sizes, turned, cosine_N1F, sine_N1F)  # type: ignore[no-untyped-call]
    return groups


def silu_gate(gate_and_up_NF: Tensor) -> Tensor:
    """silu(gate) · up of a gate and an up side by side (SwiGLU, arXiv:2002.05202). Kept: the two."""
    if not torch.is_grad_enabled():
        return _gated(gate_and_up_NF)
    gated: Tensor = _SiluGate.apply(gate_and_up_NF)  # type: ignore[no-untyped-call]
    return gated


def _gated(gate_and_up_NF: Tensor) -> Tensor:
    if kernels.take(gate_and_up_NF):
        return kernels.gate(gate_and_up_NF)
    gate, up = gate_and_up_NF.chunk(2, dim=-1)
    return torch.nn.functional.silu(gate).mul_(up)


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, eps, dtype):  # type: ignore[no-untyped-def]  # torch's own signature is untyped
        normed = _normed(x, None, weight, eps, dtype)
        ctx.save_for_backward(x, weight, normed.scale)
        return normed.out

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        x, weight, scale = ctx.saved_tensors
        slopes = _norm_slopes(grad, None, x, weight, scale, ctx.needs_input_grad[1])
        return slopes.x, slopes.weight, None, None


class _AddAndNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, added, weight, eps, dtype):  # type: ignore[no-untyped-def]
        normed = _normed(x, added, weight, eps, dtype)
        ctx.save_for_backward(normed.x, weight, normed.scale)
        ctx.set_materialize_grads(False)
        ctx.dtype = added.dtype
        return normed.x, normed.out

    @staticmethod
    def backward(ctx, passed, grad):  # type: ignore[no-untyped-def]
        if grad is None:
            return passed, passed.to(ctx.dtype), None, None, None
        x, weight, scale = ctx.saved_tensors
        slopes = _norm_slopes(grad, passed, x, weight, scale, ctx.needs_input_grad[2])
        return slopes.x, slopes.added.to(ctx.dtype), slopes.weight, None, None


class _RotateFirst(torch.autograd.Function):
    @staticmethod
    def forward(ctx, heads, sizes, turned, cosine, sine):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(cosine, sine)
        ctx.sizes, ctx.turned = sizes, turned
        return _turn_first(heads, sizes, turned, cosine, sine)

    @staticmethod
    def backward(ctx, *grads):  # type: ignore[no-untyped-def]
        cosine, sine = ctx.saved_tensors
        slope = grads[0].new_empty(len(grads[0]), sum(ctx.sizes), grads[0].shape[2])
        for number, (of_group, grad) in enumerate(zip(slope.split(ctx.sizes, dim=1), grads, strict=True)):
            if number < ctx.turned:
                _turn(grad, cosine, sine, of_group, -1.0)
            else:
                of_group.copy_(grad)
        return slope, None, None, None, None


def _turn_first(
    heads_NHE: Tensor, sizes: tuple[int, ...], turned: int, cosine_N1F: Tensor, sine_N1F: Tensor
) -> tuple[Tensor, ...]:
    assert heads_NHE.shape[1] == sum(sizes)
    out, last = torch.empty_like(heads_NHE, memory_format=torch.contiguous_format), sum(sizes[:turned])
    _turn(heads_NHE[:, :last], cosine_N1F, sine_N1F, out[:, :last], 1.0)
    if last < sum(sizes):
        out[:, last:] = heads_NHE[:, last:]
    groups: tuple[Tensor, ...] = out.split(sizes, dim=1)
    return groups


def _turn(x_NHE: Tensor, cosine_N1F: Tensor, sine_N1F: Tensor, out_NHE: Tensor, way: float) -> None:
    """Forwards, or back where `way` is −1."""
    if kernels.take(x_NHE[:1], out_NHE[:1], cosine_N1F, sine_N1F):  # tokens may lie apart
        kernels.turn(x_NHE, cosine_N1F, sine_N1F, out_NHE, way)
        return
    first, second = x_NHE.chunk(2, dim=-1)
    one, two = out_NHE.chunk(2, dim=-1)
    torch.mul(first, cosine_N1F, out=one).addcmul_(second, sine_N1F, value=-way)
    torch.mul(second, cosine_N1F, out=two).addcmul_(first, sine_N1F, value=way)


class _SiluGate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, both):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(both)
        return _gated(both)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        (both,) = ctx.saved_tensors
        if kernels.take(grad := grad.contiguous(), both):
            return kernels.gate_back(grad, both)
        gate, up = both.chunk(2, dim=-1)
        slope = torch.empty_like(both)
        of_gate, of_up = slope.chunk(2, dim=-1)
        torch.mul(torch.nn.functional.silu(gate), grad, out=of_up)
        torch.ops.aten.silu_backward.grad_input(grad * up, gate, grad_input=of_gate)
        return slope
