"""Attention on a processor, tile by tile: blocks of queries with just the keys that any of them sees.

A dense grid of rows computes every score that the mask then throws away: half of them for a prompt, more where a row
has two responses. Tiles are cut from the mask once a batch and used by all layers. Forwards each goes through torch's
fused kernel; backwards a few large multiplications are 2 to 6 times faster than its (docs/log.md, 2026-11-27).
Shapes: N tokens · H heads · K key/value heads · G = H / K · E head width · B rows · T queries of each · S keys of each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models import kernels

QUERIES = 128  # of one row in a tile: fewer skip more of what is not seen, more multiply faster
TOKENS = 16 * QUERIES  # of rows that share tiles, padding included
KEYS = 4 * TOKENS  # that rows which share tiles read
READ = 2**16  # key heads that are gathered at once
SCORES = 2**20  # computed at once, where rows share a tile: what a processor's caches hold
ROWS_ALIKE = 1.25  # longest by shortest row of a tile: padding costs its square
NOBODY = -1  # in a grid: no token
_softmax_backward = torch.ops.aten._softmax_backward_data  # what autograd itself calls: one pass over the scores


@dataclass(frozen=True)
class Tile:
    """Stream indices of some queries and of the keys that they may see; NOBODY where a row is shorter than others.

    The first `open` keys are seen by all.
    """

    queries_BT: Tensor
    keys_BS: Tensor
    seen_BTS: Tensor
    open: int

    def bias(self, dtype: torch.dtype) -> Tensor:
        """What is added to scores, (B, 1, T, S): 0 where seen, else −∞."""
        return torch.zeros(self.seen_BTS.shape, dtype=dtype).masked_fill_(~self.seen_BTS, -math.inf)[:, None]

    def in_cache(self, heads: int) -> Iterator[Tile]:
        """The same in parts of its rows: at most SCORES of all heads at once, or one row's."""
        rows = max(1, SCORES // (heads * self.seen_BTS[0].numel()))
        parts = zip(self.queries_BT.split(rows), self.keys_BS.split(rows), self.seen_BTS.split(rows), strict=True)
        return (Tile(*part, self.open) for part in parts)


class Seen(NamedTuple):
    """Who sees what in a tile."""

    bias_B1TS: Tensor
    open: int  # keys, the first ones, that all see


class Tiles(list[Tile]):
    """The tiles of a batch."""

    def __init__(self, tiles: Iterable[Tile]) -> None:
        super().__init__(tiles)
        self._layouts: dict[tuple[int, int, torch.dtype], Layout] = {}

    def layout(self, heads: int, kv_heads: int, dtype: torch.dtype) -> Layout:
        """Made once for all layers."""
        key = heads, kv_heads, dtype
        if key not in self._layouts:
            self._layouts[key] = Layout(self, *key)
        return self._layouts[key]


class Band:
    """Some tiles whose keys are gathered at once; a stream is taken as (N·heads, E).

    A tile's heads lie as its multiplications read them, (B·K, G·T, E) and (B·K, S, E). A: query heads of all bands'
    tiles; C: key heads of this band's tiles, each as often as it is read.
    """

    def __init__(self, asked: slice, lengths: list[int], keys: list[Tensor], batches: list[int], seen: list[Seen]):
        """By tile: how many query heads it has, places of its key heads, B·K, and what is seen."""
        self._asked, self._lengths, self._read = asked, lengths, list(map(len, keys))
        self._read_at, self._batches, self.seen = torch.cat(keys), batches, seen

    def read(self, x_NKE: Tensor) -> Tensor:
        """Keys or values, (C, E)."""
        return x_NKE.reshape(-1, x_NKE.shape[-1]).index_select(0, self._read_at)

    def add_to(self, total_NKxE: Tensor, x_CxE: Tensor) -> None:
        """Add gradients of keys or values where `read` took them from."""
        total_NKxE.index_add_(0, self._read_at, x_CxE.to(total_NKxE.dtype))

    def asked_by_tile(self, x_AxE: Tensor) -> list[Tensor]:
        """Of what all bands' queries have, each tile's, (B·K, G·T, E)."""
        return self._by_tile(x_AxE[self._asked], self._lengths)

    def read_by_tile(self, x_CxE: Tensor) -> list[Tensor]:
        """Each tile's, (B·K, S, E)."""
        return self._by_tile(x_CxE, self._read)

    def _by_tile(self, x: Tensor, lengths: list[int]) -> list[Tensor]:
        parts = zip(x.split(lengths), self._batches, strict=True)
        return [part.view(batch, -1, x.shape[1]) for part, batch in parts]


class Layout:
    """Where the heads of all tiles lie in a stream: a gather of many at once costs far less than several a tile."""

    def __init__(self, tiles: Sequence[Tile], heads: int, kv_heads: int, dtype: torch.dtype) -> None:
        tiles = [part for tile in tiles for part in tile.in_cache(heads)]
        head_KG1, head_K1 = torch.arange(heads).view(kv_heads, -1, 1), torch.arange(kv_heads)[:, None]
        queries = [_heads_of(tile.queries_BT[:, None, None], heads, head_KG1) for tile in tiles]
        keys = [_heads_of(tile.keys_BS[:, None], kv_heads, head_K1).clamp_(min=0) for tile in tiles]
        batches = [len(tile.queries_BT) * kv_heads for tile in tiles]
        places_A = torch.cat(queries)
        self._nobody = (places_A == NOBODY).nonzero()[:, 0]
        self._asked_at = places_A.clamp(min=0)
        self._back = places_A.argsort()[len(self._nobody) :]  # of each query head of the stream, its place in A
        self.bands, start = [], 0
        for part in _up_to(READ, list(map(len, keys))):
            lengths = list(map(len, queries[part]))
            seen = [Seen(tile.bias(dtype), tile.open) for tile in tiles[part]]
            asked = slice(start, start := start + sum(lengths))
            self.bands.append(Band(asked, lengths, keys[part], batches[part], seen))

    def ask(self, x_NHE: Tensor) -> Tensor:
        """The queries, (A, E); for nobody there are those of the first token."""
        return x_NHE.reshape(-1, x_NHE.shape[-1]).index_select(0, self._asked_at)

    def ask_gradient(self, x_NHE: Tensor) -> Tensor:
        """What belongs to the queries, (A, E); nobody's is zero."""
        return self.ask(x_NHE).index_fill_(0, self._nobody, 0)

    def to_stream(self, x_AxE: Tensor) -> Tensor:
        """The inverse of `ask`, (N·H, E)."""
        return x_AxE.index_select(0, self._back)


def _up_to(most: int, sizes: Sequence[int]) -> Iterator[slice]:
    """Neighbours of at most so much together, or one."""
    start = total = 0
    for end, size in enumerate(sizes):
        total += size
        if total > most and end > start:
            yield slice(start, end)
            start, total = end, size
    yield slice(start, len(sizes))


def _heads_of(places: Tensor, heads: int, head: Tensor) -> Tensor:
    """Of tokens' places, those of their heads in (N·heads, E), flattened; nobody's are nobody's."""
    return (places * heads + head).masked_fill_(places == NOBODY, NOBODY).flatten()


def _look(q_BKxGTxE: Tensor, k_BKxSxE: Tensor, v_BKxSxE: Tensor, seen: Seen) -> Tensor:
    """softmax(q · kᵀ) · v over what is seen, (B, H, T, E), by torch's fused kernel. Who is nobody sees the trunk."""
    B, _, T, S = seen.bias_B1TS.shape
    q_BHTE = q_BKxGTxE.view(B, -1, T, q_BKxGTxE.shape[2])
    k_BKSE, v_BKSE = (x.view(B, -1, S, x.shape[2]) for x in (k_BKxSxE, v_BKxSxE))
    return F.scaled_dot_product_attention(q_BHTE, k_BKSE, v_BKSE, attn_mask=seen.bias_B1TS, scale=1.0, enable_gqa=True)


def _shares_and_slope(scores: Tensor, grads: Tensor, seen: Seen) -> tuple[Tensor, Tensor]:
    """The softmax itself, (B·K, G·T, S), and what goes back to the scores where `grads` came to it."""
    if kernels.take(scores, grads, seen.bias_B1TS):
        kernels.soften(scores, grads, seen.bias_B1TS, seen.open)
        return scores, grads
    B, _, T, S = seen.bias_B1TS.shape
    if seen.open < S:
        scores.view(B, -1, T, S)[..., seen.open :].add_(seen.bias_B1TS[..., seen.open :])
    shares = torch.softmax(scores, -1)
    return shares, _softmax_backward(grads, shares, -1, shares.dtype)


def cut(mask_B1TS: Tensor, slots: Tensor, prefix: int) -> Tiles:
    """The tiles of a packed batch (models/packing.py), those of the common prefix first."""
    B, _, T, _ = mask_B1TS.shape
    tokens = prefix + len(slots)
    place_BT = torch.full((B * T,), NOBODY).index_copy_(0, slots, torch.arange(prefix, tokens)).view(B, T)
    head_P = torch.arange(prefix)
    place_BS = torch.cat((head_P.expand(B, prefix), place_BT), dim=1)
    causal_1PP = torch.ones(prefix, prefix, dtype=torch.bool).tril()[None]
    found = list(_tiles(head_P[None], head_P[None], causal_1PP)) if prefix else []
    for rows in alike((place_BT != NOBODY).sum(1).tolist(), prefix):
        found += _tiles(place_BT[rows], place_BS[rows], mask_B1TS[rows, 0])
    return Tiles(found)


def alike(lengths: Sequence[int], prefix: int = 0) -> Iterator[slice]:
    """Neighbouring rows of nearly one length, or one row: at most TOKENS together, and KEYS with each row's prefix."""
    start = 0
    for end in range(1, len(lengths) + 1):
        part = lengths[start : end + 1]
        longest, count = max(part), len(part)
        full = longest * count > TOKENS or (prefix + longest) * count > KEYS
        if end == len(lengths) or full or longest > ROWS_ALIKE * min(part):
            yield slice(start, end)
            start = end


def _tiles(queries_BT: Tensor, keys_BS: Tensor, seen_BTS: Tensor) -> Iterator[Tile]:
    longest = int((queries_BT != NOBODY).sum(1).max())
    for start in range(0, longest, QUERIES):
        part = slice(start, min(start + QUERIES, longest))
        seen, queries = seen_BTS[:, part], queries_BT[:, part]
        everybody_S = (seen | (queries == NOBODY)[:, :, None]).all(1).all(0)
        somebody_S = seen.any(1).any(0)
        by_all, by_some = (x.nonzero()[:, 0] for x in (everybody_S, somebody_S & ~everybody_S))
        columns = torch.cat((by_all, by_some))
        yield Tile(queries, keys_BS.index_select(1, columns), seen.index_select(2, columns), len(by_all))


def attend(query_NHE: Tensor, key_NKE: Tensor, value_NKE: Tensor, tiles: Tiles) -> Tensor:
    """softmax(q · kᵀ / √E) · v over what each query sees, (N, H, E).

    Kept for the gradient: the three alone; softmax is computed twice. Second derivatives are not defined.
    """
    scaled_NHE = query_NHE * (1 / math.sqrt(query_NHE.shape[2]))
    # What is kept of a view keeps all that it is a view of: queries, keys and values of one matrix.
    k, v = key_NKE.contiguous(), value_NKE.contiguous()
    layout = tiles.layout(query_NHE.shape[1], key_NKE.shape[1], query_NHE.dtype)
    out: Tensor = _Attend.apply(scaled_NHE, k, v, layout)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return out


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, layout):  # type: ignore[no-untyped-def]  # torch's own signature is untyped
        q_A = layout.ask(query)
        out_A = torch.empty_like(q_A)
        for band in layout.bands:
            asked = map(band.asked_by_tile, (q_A, out_A))
            read = map(band.read_by_tile, (band.read(key), band.read(value)))
            for q, out, k, v, seen in zip(*asked, *read, band.seen, strict=True):
                look_BHTE = _look(q, k, v, seen)
                out.view(look_BHTE.shape).copy_(look_BHTE)
        ctx.layout = layout
        ctx.save_for_backward(query, key, value)
        return layout.to_stream(out_A).view(query.shape)

    @staticmethod
    def backward(ctx, grad_NHE):  # type: ignore[no-untyped-def]
        layout, (query, key, value) = ctx.layout, ctx.saved_tensors
        q_A, g_A = layout.ask(query), layout.ask_gradient(grad_NHE)
        of_q_A, wide = torch.empty_like(q_A), torch.promote_types(key.dtype, torch.float32)
        of_key, of_value = (torch.zeros(x.shape, dtype=wide, device=x.device) for x in (key, value))
        for band in layout.bands:
            k_C, v_C = band.read(key), band.read(value)
            of_k_C, of_v_C = torch.empty_like(k_C), torch.empty_like(v_C)
            asked = map(band.asked_by_tile, (q_A, g_A, of_q_A))
            read = map(band.read_by_tile, (k_C, v_C, of_k_C, of_v_C))
            for q, g, of_q, k, v, of_k, of_v, seen in zip(*asked, *read, band.seen, strict=True):
                shares, slope = _shares_and_slope(q @ k.transpose(1, 2), g @ v.transpose(1, 2), seen)
                torch.bmm(shares.transpose(1, 2), g, out=of_v)
                torch.bmm(slope, k, out=of_q)
                torch.bmm(slope.transpose(1, 2), q, out=of_k)
            band.add_to(of_key.flatten(0, 1), of_k_C)
            band.add_to(of_value.flatten(0, 1), of_v_C)
        return layout.to_stream(of_q_A).view(query.shape), of_key.to(key.dtype), of_value.to(value.dtype), None
