"""Attention on a processor, tile by tile: blocks of queries with just the keys that any of them sees.

A dense grid of rows computes every score that the mask then throws away: half of them for a prompt, more where a row
has two responses. Tiles are cut from the mask once a batch and used by all layers; a few large multiplications each
are 2 to 9 times faster here than the fused kernel, in the backward pass above all (docs/log.md, 2026-11-26).
Shapes: N tokens · H heads · K key/value heads · G = H / K · E head width · B rows · T queries of each · S keys of each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

QUERIES = 128  # of one row in a tile: fewer skip more of what is not seen, more multiply faster
TOKENS = 16 * QUERIES  # of rows that share tiles, padding included
KEYS = 4 * TOKENS  # that rows which share tiles read
READ = 2**16  # key heads that are gathered at once
ROWS_ALIKE = 1.25  # longest by shortest row of a tile: padding costs its square
NOBODY = -1  # in a grid: no token
_softmax_backward = torch.ops.aten._softmax_backward_data  # what autograd itself calls: one pass over the scores


@dataclass(frozen=True)
class Tile:
    """Stream indices of some queries and of the keys that they may see; NOBODY where a row is shorter than others."""

    queries_BT: Tensor
    keys_BS: Tensor
    seen_BTS: Tensor

    def bias(self, dtype: torch.dtype) -> Tensor:
        """What is added to scores, (B, 1, 1, T, S): 0 where seen, else −∞."""
        return torch.zeros(self.seen_BTS.shape, dtype=dtype).masked_fill_(~self.seen_BTS, -math.inf)[:, None, None]


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

    def __init__(self, asked: slice, lengths: list[int], keys: list[Tensor], batches: list[int], biases: list[Tensor]):
        """By tile: how many query heads it has, places of its key heads, B·K, and its bias (B, 1, 1, T, S)."""
        self._asked, self._lengths, self._read = asked, lengths, list(map(len, keys))
        self._read_at, self._batches, self.biases = torch.cat(keys), batches, biases

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
            biases = [tile.bias(dtype) for tile in tiles[part]]
            asked = slice(start, start := start + sum(lengths))
            self.bands.append(Band(asked, lengths, keys[part], batches[part], biases))

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


def _shares(q_BKxGTxE: Tensor, k_BKxSxE: Tensor, bias_B11TS: Tensor) -> Tensor:
    """softmax of scaled queries by keys over what is seen, (B·K, G·T, S). Who is nobody sees the row's trunk."""
    B, _, _, T, S = bias_B11TS.shape
    scores = q_BKxGTxE @ k_BKxSxE.transpose(1, 2)
    scores.view(B, -1, scores.shape[1] // T, T, S).add_(bias_B11TS)
    return torch.softmax(scores, -1)


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
        columns = seen_BTS[:, part].any(1).any(0).nonzero()[:, 0]
        yield Tile(
            queries_BT=queries_BT[:, part],
            keys_BS=keys_BS.index_select(1, columns),
            seen_BTS=seen_BTS[:, part].index_select(2, columns),
        )


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
            for q, out, k, v, bias in zip(*asked, *read, band.biases, strict=True):
                torch.bmm(_shares(q, k, bias), v, out=out)
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
            for q, g, of_q, k, v, of_k, of_v, bias in zip(*asked, *read, band.biases, strict=True):
                shares = _shares(q, k, bias)
                torch.bmm(shares.transpose(1, 2), g, out=of_v)
                slope = _softmax_backward(g @ v.transpose(1, 2), shares, -1, shares.dtype)
                torch.bmm(slope, k, out=of_q)
                torch.bmm(slope.transpose(1, 2), q, out=of_k)
            band.add_to(of_key.flatten(0, 1), of_k_C)
            band.add_to(of_value.flatten(0, 1), of_v_C)
        return layout.to_stream(of_q_A).view(query.shape), of_key.to(key.dtype), of_value.to(value.dtype), None
