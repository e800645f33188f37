"""Products here are torch's own, whichever way they are computed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models import kernels, products

needs_tiles = pytest.mark.skipif(not kernels.built().tiles, reason="no tiles here")
ROUNDING = 2**-7  # of bfloat16, of the largest number
SIZES = [(32, 64, 96), (832, 576, 576), (1120, 576, 960), (64, 1536, 576), (832, 576, 3072), (96, 64, 64)]


@pytest.fixture(params=[1, 2, 3], autouse=True)
def threads(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]  # a generator
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def close(found: Tensor | None, wanted: Tensor | None) -> None:
    assert found is not None
    assert wanted is not None
    assert found.dtype == wanted.dtype == torch.bfloat16
    assert found.shape == wanted.shape
    assert (found.float() - wanted.float()).abs().max() <= ROUNDING * wanted.float().abs().max()


@needs_tiles
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_linear_layer_and_its_gradients(size: tuple[int, int, int]) -> None:
    """Twice: memory that the first backward pass used is used again."""
    N, I, O = size  # noqa: E741  # as the shapes are called
    for _ in range(2):
        x, weight, grad = torch.randn(N, I).bfloat16(), torch.randn(O, I).bfloat16(), torch.randn(N, O).bfloat16()
        assert products.take(x, weight)
        both = [[t.clone().requires_grad_() for t in (x, weight)] for _ in range(2)]
        ours, theirs = products.linear(*both[0]), F.linear(*both[1])
        close(ours.detach(), theirs.detach())
        ours.backward(grad)
        theirs.backward(grad)
        for mine, other in zip(*both, strict=True):
            close(mine.grad, other.grad)
        with torch.no_grad():
            assert torch.equal(products.linear(x, weight), ours)


@needs_tiles
def test_a_frozen_matrix_gets_no_gradient() -> None:
    x, weight = torch.ones(32, 32).bfloat16().requires_grad_(), torch.ones(32, 32).bfloat16()
    products.linear(x, weight).sum().backward()
    assert x.grad is not None
    assert weight.grad is None


@needs_tiles
def test_what_is_no_such_product_is_left_to_torch() -> None:
    x, weight = torch.ones(32, 64).bfloat16(), torch.ones(96, 64).bfloat16()
    assert products.take(x, weight)
    assert not products.take(x.float(), weight.float())
    assert not products.take(x[:31], weight)
    assert not products.take(x, weight[:95])
    assert not products.take(x[:, :63], weight[:, :63])
    assert not products.take(x[None], weight)
    assert not products.take(x, torch.ones(64, 96).bfloat16().T)


@pytest.mark.usefixtures("without_kernels")
def test_without_kernels_all_is_left_to_torch() -> None:
    assert not products.take(torch.ones(32, 32).bfloat16(), torch.ones(32, 32).bfloat16())
