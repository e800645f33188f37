"""Attention by segments is that of tiles in float32, but for bfloat16's rounding; nothing else is read or written."""

from __future__ import annotations

import functools
import math
import os
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models import kernels, segments, tiles
from models.architecture import Architecture
from models.packing import Packed, Row, pack
from tests.tiny import GPT2, LLAMA, decoder_of, pair_rows, row

pytestmark = pytest.mark.skipif(not kernels.built().attends, reason="this processor does not multiply bfloat16")
ROUNDING = 0.005  # of what is rounded to bfloat16 a few times, relative in the mean
HEADS = {"grouped": (9, 3, 64), "wide": (4, 2, 128), "each its own": (3, 3, 16), "no multiple of 32": (2, 1, 80)}


BATCHES = {
    "short, with a prefix": pack([row(n, 12, 20) for n in range(30, 46)], multiple=32),
    "one long": pack([row(300, 100, 101)]),
    "short and long": pack([row(5, 3, 3), row(400, 20, 300)], read_last=True),
    "no prefix": pack([row(40, 33, 31), row(64, 65, first=9)]),
    "responses without tokens of their own": pack([row(7, 1, 1), row(9, 1, 40)]),
    "one token": pack([Row(prompt=(1,), responses=((2,),))]),
}


@functools.cache
def built_without_amx() -> kernels.Built:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CC", f"{os.environ.get('CC') or 'cc'} -mno-amx-bf16")
        return kernels.built.__wrapped__()


@pytest.fixture(params=["this processor's", "without AMX"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to multiply, where a processor has both."""
    torch.manual_seed(0)
    if request.param == "this processor's":
        return
    if not kernels.built().library.lend_tiles():
        pytest.skip("no AMX here")
    other = built_without_amx()
    assert other.attends
    assert not other.multiplies
    monkeypatch.setattr(kernels, "built", lambda: other)


def drawn(batch: Packed, heads: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, keys, values and what comes back, the first three views of one tensor whose other numbers are none."""
    (H, K, E), N = heads, len(batch.tokens_N)
    whole = torch.full((N, H + 2 * K + 1, E), math.nan).bfloat16()
    whole[:, :-1] = torch.randn(N, H + 2 * K, E)
    query, key, value, _ = whole.split((H, K, K, 1), dim=1)
    return query, key, value, torch.randn(N, H, E).bfloat16()


def computed(batch: Packed, drawn: tuple[Tensor, Tensor, Tensor, Tensor]) -> list[Tensor]:
    """The answer and the three gradients."""
    leaves = [x.detach().requires_grad_() for x in drawn[:3]]
    out = segments.attend(*leaves, batch.segments)
    return [out.detach(), *torch.autograd.grad(out, leaves, drawn[3])]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS.keys())
@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES.keys())
def test_it_is_attention(batch: Packed, heads: tuple[int, int, int]) -> None:
    given = drawn(batch, heads)
    leaves = [x.detach().float().requires_grad_() for x in given[:3]]
    out = tiles.attend(*leaves, batch.tiles)
    wanted = [out.detach(), *torch.autograd.grad(out, leaves, given[3].float())]
    found = computed(batch, given)
    for mine, other in zip(found, wanted, strict=True):
        assert mine.dtype == torch.bfloat16
        assert mine.shape == other.shape
        error = (mine.float() - other).norm()
        assert error <= ROUNDING * other.norm().clamp(min=0.1)  # one token's scores have no gradient
    with torch.no_grad():
        assert torch.equal(segments.attend(*given[:3], batch.segments), found[0])


@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS.keys())
@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES.keys())
def test_memory_is_neither_read_before_it_is_written_nor_left(
    batch: Packed, heads: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is handed over holds no numbers, and ends in a guard."""
    given, plan, guards = drawn(batch, heads), segments._plan, []

    def guarded(*asked):  # type: ignore[no-untyped-def]
        sizes, room = plan(*asked)
        longer = torch.full((len(room) + 4096,), 0xFF, dtype=torch.uint8)
        guards.append(longer[len(room) :])
        return sizes, longer

    before = computed(batch, given)
    monkeypatch.setattr(segments, "_plan", guarded)
    assert all(torch.equal(one, other) for one, other in zip(computed(batch, given), before, strict=True))
    assert len(guards) == 2
    assert all((guard == 0xFF).all() for guard in guards)


def test_how_many_threads_there_are_changes_nothing() -> None:
    batch, before = BATCHES["short, with a prefix"], torch.get_num_threads()
    given, found = drawn(batch, HEADS["grouped"]), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(computed(batch, given))
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


def test_large_scores_are_softmaxed_without_overflow() -> None:
    """Far apart, so that all but one share are zero, and some below the smallest number."""
    batch = BATCHES["no prefix"]
    query, key, value, grad = drawn(batch, HEADS["grouped"])
    found = computed(batch, (query * 40, key * 40, value, grad))
    assert all(x.isfinite().all() for x in found)
    wide = tiles.attend((query * 40).float(), (key * 40).float(), value.float(), batch.tiles)
    assert (found[0].float() - wide).norm() <= ROUNDING * wide.norm()


def test_what_a_token_does_not_see_changes_nothing_of_it() -> None:
    """Another response, another row, and what comes behind it."""
    batch = BATCHES["no prefix"]
    query, key, value, grad = drawn(batch, HEADS["grouped"])
    seen = torch.arange(40 + 10)  # the first row's trunk, and the beginning of its first response
    before = computed(batch, (query, key, value, grad))[0][seen]
    key, value = key.clone(), value.clone()
    key[50:], value[50:] = 7, -7
    assert torch.equal(computed(batch, (query, key, value, grad))[0][seen], before)


@pytest.mark.parametrize("which", range(4), ids=["query", "key", "value", "grad"])
def test_a_number_that_is_none_is_told_of_and_not_hidden(which: int) -> None:
    batch = BATCHES["no prefix"]
    given = [x.clone() for x in drawn(batch, HEADS["grouped"])]
    given[which][3] = math.nan
    out, *slopes = computed(batch, (given[0], given[1], given[2], given[3]))
    assert out[3].isnan().all() or which == 3
    assert all(slope.isnan().any() for slope in slopes) or which == 2
    assert slopes[0][3].isnan().all()


def test_torchs_own_products_are_undisturbed() -> None:
    """Tiles are a state of the processor that both set."""
    a, b = torch.randn(2, 256, 256).bfloat16()
    before = a @ b
    for _ in range(3):
        computed(BATCHES["one long"], drawn(BATCHES["one long"], HEADS["grouped"]))
        assert torch.equal(a @ b, before)


def test_what_it_is_not_for_goes_by_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.ones(4, 2, 16).bfloat16()
    assert segments.take(x, x, x)
    for other in (x.float(), x.transpose(0, 1), x.to("meta")):
        assert not segments.take(x, x, other)
        assert not segments.take(other, x, x)
    monkeypatch.setattr(kernels, "built", lambda: kernels.Built(None, "not here"))
    assert not segments.take(x, x, x)


@pytest.mark.parametrize(
    "architecture", [LLAMA, GPT2, replace(LLAMA, qk_norm=True)], ids=["rotated", "one matrix", "normed"]
)
def test_a_decoders_attention_goes_by_segments(architecture: Architecture, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    decoder, batch = decoder_of(architecture), pack(pair_rows(6))
    monkeypatch.setattr(tiles, "cut", never)
    decoder(batch.tokens_N, batch.positions_N, batch.attend, dtype=torch.bfloat16)
    with pytest.raises(AssertionError):
        decoder(batch.tokens_N, batch.positions_N, batch.attend, dtype=torch.float32)


@pytest.mark.usefixtures("threads")
def test_threads_without_a_row_and_key_head_of_their_own_take_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    by, attend = [], segments.attend
    monkeypatch.setattr(segments, "attend", lambda *given: (by.append("segments"), attend(*given))[1])
    x, batch = torch.ones(41, 1, 16).bfloat16(), pack([row(40, 1, 2)])
    batch.attend(0, x, x, x)
    assert by == (["segments"] if torch.get_num_threads() == 1 else [])


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES.keys())
def test_segments_are_what_the_batch_says(batch: Packed) -> None:
    """Each token sees the prefix, its row's first segment and, up to itself, its own: as many as the mask has."""
    firsts, starts, prefix, longest = batch.segments
    seen = 0
    for first, last in zip(firsts.tolist(), firsts[1:].tolist(), strict=False):
        before = 0 if starts[first] < prefix else prefix
        assert before + starts[last] - starts[first] <= longest
        for number in range(first, last):
            own, trunk = int(starts[number + 1] - starts[number]), int(starts[first + 1] - starts[first])
            seen += own * (before + (trunk if number > first else 0)) + own * (own + 1) // 2
    mask = batch.mask_B1TS.flatten(0, 2).index_select(0, batch.slots)
    assert seen == int(mask.sum()) + batch.prefix * (batch.prefix + 1) // 2
