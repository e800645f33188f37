"""Products here are torch's own, whichever way they are computed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models import kernels, products
from models.packing import pack
from tests.tiny import GPT2, LLAMA, decoder_of, pair_rows

needs_amx = pytest.mark.skipif(not kernels.built().amx, reason="no AMX here")
ROUNDING = 2**-8  # of bfloat16
SIZES = [(32, 64, 96), (832, 576, 576), (1120, 576, 960), (64, 1536, 576), (832, 576, 3072), (96, 64, 64)]


def close(found: Tensor | None, wanted: Tensor | None) -> None:
    """Each number, against float64's."""
    assert found is not None
    assert wanted is not None
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), wanted, rtol=ROUNDING, atol=1e-4 * float(wanted.abs().max()))


@needs_amx
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.usefixtures("threads")
def test_a_linear_layer_and_its_gradients(size: tuple[int, int, int], biased: bool) -> None:
    """Twice: memory that the first backward pass used is used again."""
    N, I, O = size  # noqa: E741  # as the shapes are called
    draw = torch.Generator().manual_seed(0)
    for _ in range(2):
        x, weight, grad, bias = (
            torch.randn(size, generator=draw).bfloat16() for size in ((N, I), (O, I), (N, O), (O,))
        )
        assert products.take(x, weight)
        given = (x, weight, bias) if biased else (x, weight)
        leaves = [t.clone().requires_grad_() for t in given]
        exact = [t.double().requires_grad_() for t in given]
        ours, theirs = products.linear(*leaves), F.linear(*exact)
        close(ours.detach(), theirs.detach())
        ours.backward(grad)
        theirs.backward(grad.double())
        for mine, other in zip(leaves, exact, strict=True):
            close(mine.grad, other.grad)
        with torch.no_grad():
            assert torch.equal(products.linear(*given), ours)


@needs_amx
def test_a_frozen_matrix_gets_no_gradient() -> None:
    x, weight = torch.ones(32, 32).bfloat16().requires_grad_(), torch.ones(32, 32).bfloat16()
    products.linear(x, weight).sum().backward()
    assert x.grad is not None
    assert weight.grad is None


@needs_amx
def test_what_is_no_such_product_is_left_to_torch() -> None:
    x, weight = torch.ones(32, 64).bfloat16(), torch.ones(96, 64).bfloat16()
    assert products.take(x, weight)
    assert not products.take(x.float(), weight.float())
    assert not products.take(x[:31], weight)
    assert not products.take(x, weight[:95])
    assert not products.take(x[:, :63], weight[:, :63])
    assert not products.take(x[None], weight)
    assert not products.take(x, torch.ones(64, 96).bfloat16().T)
    assert not products.take(x.to("meta"), weight.to("meta"))


@needs_amx
def test_a_decoders_matrices_are_multiplied_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """All four of both blocks, with biases and without."""
    asked, multiply = [], products.multiply
    monkeypatch.setattr(products, "multiply", lambda *given: (asked.append(given[1].shape), multiply(*given))[1])
    batch = pack(pair_rows(6), multiple=kernels.SIDE)
    for architecture in (LLAMA, GPT2):
        wide = replace(architecture, width=32, head_width=32, hidden=64)
        decoder = decoder_of(wide).in_dtype(torch.bfloat16)
        with torch.no_grad():
            decoder(batch.tokens_N, batch.positions_N, batch.attend, dtype=torch.bfloat16)
    assert len(asked) == 2 * 2 * 4


@pytest.mark.usefixtures("without_kernels")
def test_without_kernels_all_is_left_to_torch() -> None:
    assert not products.take(torch.ones(32, 32).bfloat16(), torch.ones(32, 32).bfloat16())
