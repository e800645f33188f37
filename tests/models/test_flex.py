"""A GPU's attention over the stream: mask and gradient on the processor, and what is done where a kernel is not right.

torch refuses gradients of FlexAttention on a processor at its door only: behind it they are computed by the formula.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import flex_attention as torchs

from models import flex
from models.flex import Kernel
from models.flex_check import Flex, example
from models.packing import Packed, Row, pack
from models.room import is_out_of_memory
from tests.models.test_packing import SHAPES, relative_error
from tests.tiny import pair_rows

ROWS = SHAPES | {
    "prompts alone": [Row(prompt=(1, 2, 3)), Row(prompt=(1, 2, 4, 5))],
    "over several blocks": [
        Row(prompt=tuple(range(n)), responses=((7,) * 150, (8,) * 90, (9,) * 3)) for n in (40, 7, 180)
    ],
}
HEADS = {"all alike": (4, 4), "grouped": (4, 2), "one key head": (3, 1)}
PLAIN = flex.kernel_of(torchs.flex_attention)  # uncompiled
Drawn = tuple[Tensor, Tensor, Tensor]


@pytest.fixture(autouse=True)
def _gradients_on_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchs, "_validate_device", lambda *qkv: None)
    monkeypatch.setattr(torchs, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)  # nothing is compiled


def drawn(batch: Packed, heads: int = 4, kv_heads: int = 2, width: int = 16) -> Drawn:
    draw, tokens = torch.Generator().manual_seed(0), len(batch.tokens_N)
    q, k, v = (torch.randn(tokens, h, width, generator=draw).requires_grad_() for h in (heads, kv_heads, kv_heads))
    return q, k, v


def answer_and_gradients(attend: Callable[..., Tensor], qkv: Drawn) -> Tensor:
    """One vector: of a sum with other weights for each number, so that no mistake cancels out."""
    out_NHE = attend(*qkv)
    weights = torch.linspace(-1, 2, out_NHE.numel()).view(out_NHE.shape)
    slopes = torch.autograd.grad((out_NHE * weights).sum(), qkv)
    return torch.cat([x.detach().flatten() for x in (out_NHE, *slopes)])


@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS.keys())
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS.keys())
def test_the_stream_and_a_processors_tiles_attend_alike(rows: list[Row], heads: tuple[int, int]) -> None:
    """FlexAttention itself under our mask: answers and gradients, of every kind of rows."""
    batch = pack(rows)
    qkv = drawn(batch, *heads)
    stream = answer_and_gradients(lambda *qkv: flex.attend(*qkv, batch.block_mask, PLAIN), qkv)
    assert relative_error(stream, answer_and_gradients(batch.attend_in_tiles, qkv)) < 1e-5


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS.keys())
def test_blocks_that_are_left_out_hold_nothing_that_is_seen(rows: list[Row]) -> None:
    """A compiled kernel goes over the blocks, which the formula above does not."""
    batch = pack(rows)
    seen = dense(batch.block_mask)
    blocks = batch.block_mask.to_dense()[0, 0].bool()
    wide = blocks.repeat_interleave(flex.BLOCK, 0).repeat_interleave(flex.BLOCK, 1)
    assert not (seen & ~wide).any()


def test_blocks_of_other_rows_are_left_out() -> None:
    """Four rows of two blocks each, without a prefix: of 64 blocks those below the diagonal of each row are seen."""
    rows = [Row(prompt=(n, *range(2 * flex.BLOCK - 1))) for n in range(4)]
    assert int(pack(rows).block_mask.to_dense().sum()) == 4 * 3


def test_padding_leaves_no_softmax_without_a_token() -> None:
    """Nobody sees at least itself."""
    assert dense(pack(pair_rows(3)).block_mask).any(1).all()


def test_the_mask_is_made_once_a_batch() -> None:
    batch = pack(pair_rows(2))
    assert batch.block_mask is batch.block_mask


def dense(mask: Any) -> Tensor:
    """What sees what, by the mask's own function."""
    places = torch.arange(mask.shape[-1])
    seen: Tensor = mask.mask_mod(places, places, places[:, None], places[None])
    return seen


class Wrong:
    """A kernel that attends to everything, or lets no gradient through, or fails."""

    def __init__(self, how: str) -> None:
        self.how, self.asked = how, 0

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, mask: Any) -> Tensor:
        self.asked += 1
        if self.how == "raises":
            raise RuntimeError("no kernel for sm_13\nand a page of traceback")
        if self.how == "sees all":
            return F.scaled_dot_product_attention(query, key, value, enable_gqa=True)
        out = PLAIN(query, key, value, mask)
        if self.how == "no number":
            return out * torch.nan
        if self.how == "late" and self.asked > 2:
            raise RuntimeError("too many compiled kernels")
        return out if self.how == "late" else out.detach() + 0 * (query.sum() + key.sum() + value.sum())


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("raises", "RuntimeError: no kernel for sm_13 and a page of traceback)"),
        ("sees all", "WrongAnswerError: its answer is "),
        ("no number", "WrongAnswerError: its answer is nan"),
        ("no gradient", "WrongAnswerError: its gradient of queries is 1.0e+00 off"),
        ("late", "RuntimeError: too many compiled kernels"),
    ],
)
def test_a_kernel_that_does_not_work_is_left_to_the_grid_with_one_line(how: str, why: str) -> None:
    told: list[str] = []
    kernel, batch = Wrong(how), pack(pair_rows(4))
    by, qkv = Flex(lambda: kernel, told.append), drawn(batch)
    found = [answer_and_gradients(lambda *qkv: batch.attend_in_stream(*qkv, by), qkv) for _ in range(3)]
    grid = answer_and_gradients(batch.attend_in_grid, qkv)
    assert all(torch.equal(one, grid) for one in found)
    assert len(told) == 1
    assert why in told[0]
    assert "\n" not in told[0]


def test_a_kernel_that_cannot_be_made_is_left_to_the_grid() -> None:
    """A torch without FlexAttention, or without a compiler."""

    def none() -> Kernel:
        raise ImportError("cannot import name 'flex_attention'")

    told: list[str] = []
    batch = pack(pair_rows(2))
    qkv = drawn(batch)
    out = batch.attend_in_stream(*qkv, Flex(none, told.append))
    assert torch.equal(out, batch.attend_in_grid(*qkv))
    assert len(told) == 1


def test_a_kernel_that_works_is_tried_once_for_each_kind_of_heads() -> None:
    """Two passes of its own over a small batch, then what is asked for."""
    told: list[str] = []
    asked: list[int] = []

    def kernel(query: Tensor, key: Tensor, value: Tensor, mask: Any) -> Tensor:
        asked.append(query.shape[2])
        return PLAIN(query, key, value, mask)

    by, batch = Flex(lambda: kernel, told.append), pack(pair_rows(4))
    for heads, times in ((4, 3), (4, 4), (2, 7)):
        batch.attend_in_stream(*drawn(batch, heads=heads), by)
        assert len(asked) == times
    assert not told


def test_memory_that_runs_out_is_no_fault_of_the_kernel() -> None:
    """The caller halves its batch and comes again."""

    full: list[bool] = []

    def kernel(*qkv_and_mask: Any) -> Tensor:
        if full:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return PLAIN(*qkv_and_mask)

    by, batch = Flex(lambda: kernel), pack(pair_rows(2))
    batch.attend_in_stream(*drawn(batch), by)
    full.append(True)
    with pytest.raises(torch.OutOfMemoryError) as raised:
        batch.attend_in_stream(*drawn(batch), by)
    assert is_out_of_memory(raised.value)
    assert not by.failed


def test_a_trial_that_does_not_fit_leaves_it_to_the_grid() -> None:
    """It takes the same memory each time: coming again with less would not help."""
    told: list[str] = []

    def kernel(*_: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    batch = pack(pair_rows(2))
    qkv = drawn(batch)
    assert torch.equal(batch.attend_in_stream(*qkv, Flex(lambda: kernel, told.append)), batch.attend_in_grid(*qkv))
    assert len(told) == 1


def test_a_kernel_is_tried_on_seven_blocks() -> None:
    rows_N, segments_N = example(torch.device("cpu"))
    assert mask_blocks(flex.mask_of(rows_N, segments_N)) == mask_blocks(pack(pair_rows(80)).block_mask) == 7


def mask_blocks(mask: Any) -> int:
    return int(mask.shape[-1]) // flex.BLOCK


@pytest.mark.slow
def test_one_compiled_kernel_serves_all_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the processor, forwards: its kernel too goes over our blocks, and is compiled by the same dynamo.

    The first has seven blocks, as what a kernel is tried on.
    """
    monkeypatch.undo()
    torch._dynamo.reset()
    graphs = torch._dynamo.utils.counters["stats"]
    before = graphs["unique_graphs"]
    with torch.no_grad():
        for count in (80, 10, 60):
            batch = pack(pair_rows(count))
            qkv = drawn(batch)
            found = flex.attend(*qkv, batch.block_mask, flex.compiled())
            assert relative_error(found, batch.attend_in_tiles(*qkv)) < 1e-5
    assert graphs["unique_graphs"] - before == 1
