"""Products here are the exact ones, each rounded once, whichever way the factors lie."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models import kernels, products
from models.packing import pack
from tests.tiny import GPT2, LLAMA, decoder_of, pair_rows

needs_amx = pytest.mark.skipif(not kernels.built().multiplies, reason="no AMX here")
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
        assert products.takes_linear(x, weight)
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


SHAPES = {  # rows, depth, columns
    "smallest": (32, 32, 32),
    "rows that end within a square": (77, 64, 96),
    "all of the depth at once": (64, 576, 1600),
    "a part of the depth at a time": (96, 1888, 576),
    "more rows than sums are kept of": (1152, 1920, 832),
    "sums of rows that end within a square": (77, 1888, 576),
    "more threads than squares": (32, 64, 32),
    "a head": (160, 64, 4096),
}


def factors(shape: tuple[int, int, int], turned: tuple[bool, bool]) -> tuple[Tensor, Tensor]:
    """Each one's rows, as they lie, are part of a wider matrix."""
    rows, depth, columns = shape
    found = []
    for number, (size, turn) in enumerate(zip(((rows, depth), (depth, columns)), turned, strict=True)):
        draw = torch.Generator().manual_seed(number)
        high, wide = reversed(size) if turn else size
        lies = torch.randn(high, wide + 8, generator=draw).bfloat16()[:, 8:]
        found.append(lies.T if turn else lies)
    return found[0], found[1]


@needs_amx
@pytest.mark.parametrize("turned", [(False, False), (False, True), (True, False), (True, True)], ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_product_is_right_whichever_way_its_factors_lie(
    shape: tuple[int, int, int], turned: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the same to the bit among any number of threads."""
    rows = shape[0] // kernels.SIDE * kernels.SIDE if turned[0] else shape[0]
    a, b = factors((rows, *shape[1:]), turned)
    assert products.take(a, b)
    bias, before = torch.randn(shape[2]).bfloat16(), torch.randn(rows, shape[2]).bfloat16()
    exact = a.double() @ b.double()
    found = {}
    for threads in (1, 2, 3, 6):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found[threads] = products.multiply(a, b, bias)
        assert torch.equal(found[threads], found[1])
    close(found[1], exact + bias.double())
    added = before.clone()
    assert products.multiply(a, b, out=added, add=True) is added
    close(added, exact + before.double())
    products.multiply(a, b, out=added)
    close(added, exact)


@needs_amx
@pytest.mark.parametrize("turned", [(False, False), (True, True)], ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_memory_is_neither_read_before_it_is_written_nor_left(
    shape: tuple[int, int, int], turned: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is handed over holds no numbers, and ends in a guard."""
    a, b = factors((shape[0] // kernels.SIDE * kernels.SIDE, *shape[1:]), turned)
    before = products.multiply(a, b)
    for threads in (1, 2):
        needed = kernels.built().library.multiply_room(threads)
        longer = torch.full((needed + 4096,), 0xFF, dtype=torch.uint8)
        out = torch.full((len(a) + 2, b.shape[1]), math.nan).bfloat16()
        with monkeypatch.context() as patch:
            patch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
            patch.setattr(products, "_room", SimpleNamespace(of=lambda _, longer=longer: longer))
            assert torch.equal(products.multiply(a, b, out=out[1:-1]), before)
        assert out[[0, -1]].isnan().all()
        assert (longer[needed:] == 0xFF).all()


@needs_amx
def test_factors_may_lie_in_one_another() -> None:
    """A row for all, as what goes back through a sum, and rows an odd number of numbers apart."""
    row, b, odd = torch.randn(64).bfloat16(), torch.randn(64, 96).bfloat16(), torch.randn(64, 65).bfloat16()[:, :64]
    assert products.take(row.expand(32, 64), b)
    close(products.multiply(row.expand(32, 64), b), row.double().expand(32, 64) @ b.double())
    close(products.multiply(odd, b), odd.double() @ b.double())
    close(products.multiply(odd.T, b), odd.double().T @ b.double())
    close(products.multiply(b.T, odd), b.double().T @ odd.double())


@needs_amx
def test_what_is_no_number_stays_none_where_it_belongs() -> None:
    a, b = torch.ones(64, 64).bfloat16(), torch.ones(64, 64).bfloat16()
    a[3, 5], b[7, 40] = torch.nan, torch.inf
    found = products.multiply(a, b)
    assert found[3].isnan().all()
    assert found[:3, 40].isinf().all()
    assert torch.equal(found[4:, :40], torch.full((60, 40), 64.0).bfloat16())


@needs_amx
def test_what_is_no_such_product_is_left_to_torch() -> None:
    """And is computed all the same."""
    a, b, odd = torch.ones(64, 64).bfloat16(), torch.ones(64, 96).bfloat16(), torch.ones(96, 65).bfloat16()[:, :64]
    assert products.take(a, b)
    assert products.take(a[:33], b)
    assert products.take(odd, a)
    for one, two in (
        (a.float(), b.float()),
        (a[:31], b),
        (a[:, :63], b[:63]),
        (a, b[:, :95]),
        (a.T[:33], b),  # rows of what lies transposed
        (a[:, ::2], b[:32]),
        (a, odd.T),  # words of two numbers would be read across rows
    ):
        assert not products.take(one, two)
        bias, out = torch.ones(two.shape[1], dtype=one.dtype), torch.ones(len(one), two.shape[1], dtype=one.dtype)
        assert torch.equal(products.multiply(one, two, bias), one @ two + 1)
        assert torch.equal(products.multiply(one, two, out=out, add=True), one @ two + 1)
    assert not products.take(a[None], b)
    assert not products.take(a.to("meta"), b.to("meta"))


@needs_amx
def test_layers_whose_gradients_cannot_be_computed_here_are_left_to_torch() -> None:
    x, weight = torch.ones(33, 64).bfloat16(), torch.ones(96, 64).bfloat16()
    assert products.takes_linear(x, weight), "a frozen one gets none"
    weight.requires_grad_()
    assert not products.takes_linear(x, weight)
    with torch.no_grad():
        assert products.takes_linear(x, weight)
    assert products.takes_linear(x[:32], weight)


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
