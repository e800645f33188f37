"""Each fused formula and its gradient are those of the plain one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.fused import add_and_norm, rms_norm, rotate, rotate_first, silu_gate

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")
N, H, E = 7, 3, 8
Formula = Callable[..., Tensor]


def plain_rotation(x_NHE: Tensor, cosine_N1F: Tensor, sine_N1F: Tensor) -> Tensor:
    first, second = x_NHE.chunk(2, dim=-1)
    return torch.cat((first * cosine_N1F - second * sine_N1F, second * cosine_N1F + first * sine_N1F), dim=-1)


def plain_gate(both_NF: Tensor) -> Tensor:
    gate, up = both_NF.chunk(2, dim=-1)
    return F.silu(gate) * up


def angles() -> tuple[Tensor, Tensor]:
    angles_N1F = torch.arange(N * E // 2).view(N, 1, E // 2).float()
    return angles_N1F.cos(), angles_N1F.sin()


FORMULAS: dict[str, tuple[Formula, Formula, list[Tensor]]] = {
    "norm": (
        lambda x, w: rms_norm(x, w, 1e-5, torch.float32),
        lambda x, w: F.rms_norm(x, w.shape, w, 1e-5),
        [torch.randn(N, E), torch.randn(E)],
    ),
    "norm by head": (
        lambda x, w: rms_norm(x, w, 1e-5, torch.float32),
        lambda x, w: F.rms_norm(x, w.shape, w, 1e-5),
        [torch.randn(N, H, E), torch.randn(E)],
    ),
    "sum and norm": (
        lambda x, y, w: torch.cat(add_and_norm(x, y, w, 1e-5, torch.float32)),
        lambda x, y, w: torch.cat((x + y, F.rms_norm(x + y, w.shape, w, 1e-5))),
        [torch.randn(N, E), torch.randn(N, E), torch.randn(E)],
    ),
    "norm of a sum that nothing else reads": (
        lambda x, y, w: add_and_norm(x, y, w, 1e-5, torch.float32)[1],
        lambda x, y, w: F.rms_norm(x + y, w.shape, w, 1e-5),
        [torch.randn(N, E), torch.randn(N, E), torch.randn(E)],
    ),
    "sum whose norm nobody reads": (
        lambda x, y: add_and_norm(x, y, torch.ones(E), 1e-5, torch.float32)[0],
        lambda x, y: x + y,
        [torch.randn(N, E), torch.randn(N, E)],
    ),
    "rotation": (lambda x: rotate(x, *angles()), lambda x: plain_rotation(x, *angles()), [torch.randn(N, H, E)]),
    "rotation of the first of three": (
        lambda x: torch.cat([y * n for n, y in enumerate(rotate_first(x, (3, 2, 1), 2, *angles()), 1)], dim=1),
        lambda x: (
            torch.cat((plain_rotation(x[:, :3], *angles()), plain_rotation(x[:, 3:5], *angles()), x[:, 5:]), dim=1)
            * torch.tensor([1, 1, 1, 2, 2, 3])[:, None]
        ),
        [torch.randn(N, 6, E)],
    ),
    "gate": (silu_gate, plain_gate, [torch.randn(N, 2 * E)]),
}


def gradients(formula: Formula, tensors: list[Tensor], slope: Tensor | None) -> tuple[Tensor, list[Tensor]]:
    leaves = [t.clone().requires_grad_() for t in tensors]
    out = formula(*leaves)
    out.backward(torch.ones_like(out) if slope is None else slope)
    return out.detach(), [leaf.grad for leaf in leaves if leaf.grad is not None]


@pytest.mark.parametrize("name", FORMULAS)
def test_a_fused_formula_and_its_gradient_are_the_plain_ones(name: str) -> None:
    fused, plain, tensors = FORMULAS[name]
    slope = torch.randn_like(plain(*tensors))
    out, grads = gradients(fused, tensors, slope)
    expected, wanted = gradients(plain, tensors, slope)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    assert len(grads) == len(wanted) == len(tensors)
    for grad, want in zip(grads, wanted, strict=True):
        torch.testing.assert_close(grad, want, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(fused(*tensors), out)


def test_a_norm_is_given_in_the_dtype_asked_for_and_its_gradient_in_the_inputs() -> None:
    x, weight = torch.randn(N, E, requires_grad=True), torch.randn(E)
    normed = rms_norm(x, weight, 1e-5, torch.bfloat16)
    normed.backward(torch.ones_like(normed))
    assert normed.dtype == torch.bfloat16
    assert x.grad is not None
    assert x.grad.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sum_stays_in_float32_beside_its_norm(dtype: torch.dtype) -> None:
    """What was added gets its gradient in its own dtype, also where the norm has another."""
    x, added = torch.randn(N, E, requires_grad=True), torch.randn(N, E).bfloat16().requires_grad_()
    total, normed = add_and_norm(x, added, torch.randn(E), 1e-5, dtype)
    (total.sum() + normed.float().sum()).backward()
    assert (total.dtype, normed.dtype) == (torch.float32, dtype)
    assert torch.equal(total, x + added)
    assert x.grad is not None
    assert added.grad is not None
    assert torch.equal(added.grad, x.grad.bfloat16())


def test_a_view_of_a_larger_tensor_can_be_turned() -> None:
    """Queries are a slice of what one matrix gives."""
    whole = torch.randn(N, 2 * H, E)
    torch.testing.assert_close(rotate(whole[:, :H], *angles()), plain_rotation(whole[:, :H].contiguous(), *angles()))


def test_little_is_kept_for_the_backward_pass() -> None:
    """The norm keeps its input, which the residual stream holds anyway, and a number a row; the gate its input."""
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    x, weight, both = torch.randn(N, E, requires_grad=True), torch.randn(E), torch.randn(N, 2 * E, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        rms_norm(x, weight, 1e-5, torch.float32)
        assert sorted(kept) == [N, E, N * E]
        kept.clear()
        add_and_norm(x, x, weight, 1e-5, torch.float32)  # the sum is what the residual stream holds then
        assert sorted(kept) == [N, E, N * E]
        kept.clear()
        silu_gate(both)
        assert kept == [2 * N * E]
