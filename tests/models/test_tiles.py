"""Tiles cover what the mask allows, once; the packing's tests hold what they compute against separate rows."""

from __future__ import annotations

import math

import pytest
import torch

from models import tiles
from models.packing import Row, pack
from tests.tiny import row

LENGTHS = {
    "short": [row(n, 12, 20) for n in range(30, 46)],
    "one long": [row(300, 100, 101)],
    "short and long": [row(5, 3, 3), row(400, 20, 300)],
    "responses that begin alike": [Row(prompt=(1, 2, 3), responses=((4,) * n, (4,) * 9 + (5,) * n)) for n in (20, 21)],
}


@pytest.mark.parametrize("rows", LENGTHS.values(), ids=LENGTHS.keys())
def test_each_token_sees_what_the_mask_allows_once(rows: list[Row]) -> None:
    batch = pack(rows)
    seen = torch.zeros(len(batch.tokens_N) + 1, len(batch.tokens_N) + 1, dtype=torch.int)  # and of nobody
    for tile in batch.tiles:
        (B, T), S = tile.queries_BT.shape, tile.keys_BS.shape[1]
        readers, keys = (x.where(x != tiles.NOBODY, len(batch.tokens_N)) for x in (tile.queries_BT, tile.keys_BS))
        places = readers[:, :, None].expand(B, T, S), keys[:, None].expand(B, T, S)
        seen.index_put_(places, tile.seen_BTS.int(), True)
    assert seen[:-1].max() == 1
    assert seen[:-1, -1].max() == 0
    prefix = batch.prefix
    assert (
        seen[:-1].sum() == batch.mask_B1TS.flatten(0, 2).index_select(0, batch.slots).sum() + prefix * (prefix + 1) // 2
    )


@pytest.mark.parametrize("rows", LENGTHS.values(), ids=LENGTHS.keys())
def test_the_first_keys_of_a_tile_are_those_that_all_see(rows: list[Row]) -> None:
    for tile in pack(rows).tiles:
        seen_BTS = tile.seen_BTS | (tile.queries_BT == tiles.NOBODY)[:, :, None]
        assert seen_BTS.all(1).all(0).tolist() == [s < tile.open for s in range(seen_BTS.shape[2])]


def test_rows_share_a_tile_as_far_as_their_scores_stay_in_cache() -> None:
    """Of 16 rows of 31 to 46 tokens behind a common beginning, with 64 heads."""
    found = pack(LENGTHS["short"]).tiles
    parts = [part for tile in found for part in tile.in_cache(64)]
    assert max(64 * part.seen_BTS.numel() for part in parts) <= tiles.SCORES
    assert len(found) < len(parts) < sum(len(tile.queries_BT) for tile in found)
    assert sum(part.queries_BT.numel() for part in parts) == sum(tile.queries_BT.numel() for tile in found)


def test_of_a_long_row_little_is_computed_that_is_not_seen() -> None:
    batch = pack(LENGTHS["one long"])
    computed = sum(tile.queries_BT.numel() * tile.keys_BS.shape[1] for tile in batch.tiles)
    assert computed < 0.7 * batch.mask_B1TS.numel()


def test_rows_of_very_different_lengths_do_not_share_a_tile() -> None:
    assert list(tiles.alike([10, 11, 12, 40])) == [slice(0, 3), slice(3, 4)]
    assert list(tiles.alike([1600, 1600])) == [slice(0, 1), slice(1, 2)]


def test_a_long_prefix_is_read_by_few_rows_at_once() -> None:
    """Each of them has it among its keys."""
    assert {part.stop - part.start for part in tiles.alike([16] * 30, prefix=1500)} == {5}
    assert list(tiles.alike([16] * 30)) == [slice(0, 30)]


def test_of_different_heads_and_dtypes_each_is_laid_out_once() -> None:
    batch = pack([row(4, 3, 2), row(6, 2, 5)])
    many, few = (batch.tiles.layout(*heads, torch.float32) for heads in ((4, 2), (4, 1)))
    assert many is batch.tiles.layout(4, 2, torch.float32)
    assert many is not few
    (band,) = batch.tiles.layout(4, 2, torch.bfloat16).bands
    assert {seen.bias_B1TS.dtype for seen in band.seen} == {torch.bfloat16}


@pytest.mark.parametrize("scores", [1, 2**20])
@pytest.mark.parametrize("read", [1, 30, 2**16])
def test_gradients_are_those_of_the_formula(read: int, scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tiles' keys are gathered at once, and however many rows' scores computed."""
    monkeypatch.setattr(tiles, "READ", read)
    monkeypatch.setattr(tiles, "SCORES", scores)
    batch = pack([row(4, 3, 2), row(6, 2, 5)])
    N, draw = len(batch.tokens_N), torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(N, heads, 4, dtype=torch.float64, generator=draw).requires_grad_() for heads in (4, 2, 2))
    assert torch.autograd.gradcheck(lambda *qkv: tiles.attend(*qkv, batch.tiles), (q, k, v))


def test_scores_are_scaled_by_the_root_of_the_head_width() -> None:
    batch = pack([row(2)])
    q, k = torch.full((2, 1, 16), 2.0), torch.tensor([[[0.0]], [[0.5]]]).expand(2, 1, 16)
    _, second = tiles.attend(q, k, torch.tensor([[[0.0]], [[1.0]]]).expand(2, 1, 16), batch.tiles)
    torch.testing.assert_close(second, torch.full((1, 16), 1 / (1 + math.exp(-0.5 * 2 * 16 / math.sqrt(16)))))
