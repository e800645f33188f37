"""Attention on a processor, tile by tile: blocks of queries with just the keys that any of them sees.

A dense grid of rows computes every score that the mask then throws away: half of them for a prompt, more where a row
has two responses. Tiles are cut from the mask once a batch and used by all layers; a few large multiplications each
are 2 to 9 times faster here than the fused kernel, in the backward pass above all (docs/log.md, 2026-11-26).
Shapes: N tokens · H heads · K key/value heads · G = H / K · E head width · B rows · T queries of each · S keys of each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

QUERIES = 128  # of one row in a tile: fewer skip more of what is not seen, more multiply faster
TOKENS = 16 * QUERIES  # of rows that share tiles, padding included
ROWS_ALIKE = 1.25  # longest by shortest row of a tile: padding costs its square
NOBODY = -1  # in a grid: no token
_softmax_backward = torch.ops.aten._softmax_backward_data  # what autograd itself calls: one pass over the scores


@dataclass(frozen=True)
class Tile:
    """Stream indices of some queries and of the keys that they may see; of no token: 0 to read, N to write."""

    queries_BT: Tensor
    written_M: Tensor  # queries_BT, flattened, to write at
    keys_BS: Tensor
    bias_B11TS: Tensor  # added to the scores: 0 where seen, else −∞

    def ask(self, x_NHE: Tensor, kv_heads: int) -> Tensor:
        """The queries as (B·K, G·T, E)."""
        return self._by_head(x_NHE.index_select(0, self.queries_BT.flatten()), kv_heads)

    def ask_written(self, x_N1HE: Tensor, kv_heads: int) -> Tensor:
        """Of what has a row for no token: what belongs to the queries, (B·K, G·T, E)."""
        return self._by_head(x_N1HE.index_select(0, self.written_M), kv_heads)

    def _by_head(self, x_MHE: Tensor, kv_heads: int) -> Tensor:
        (B, T), (_, H, E) = self.queries_BT.shape, x_MHE.shape
        return x_MHE.view(B, T, kv_heads, H // kv_heads, E).permute(0, 2, 3, 1, 4).reshape(B * kv_heads, -1, E)

    def write(self, into_N1HE: Tensor, x_BKxGTxE: Tensor) -> None:
        """The inverse of `ask`, into what has a row for no token."""
        (B, T), (_, H, E) = self.queries_BT.shape, into_N1HE.shape
        x_BTKGE = x_BKxGTxE.view(B, x_BKxGTxE.shape[0] // B, -1, T, E).permute(0, 3, 1, 2, 4)
        into_N1HE.index_copy_(0, self.written_M, x_BTKGE.reshape(B * T, H, E))

    def read(self, x_NKE: Tensor) -> Tensor:
        """Keys or values as (B·K, S, E)."""
        x_BSKE = x_NKE.index_select(0, self.keys_BS.flatten()).view(*self.keys_BS.shape, *x_NKE.shape[1:])
        return x_BSKE.transpose(1, 2).flatten(0, 1)

    def add_to(self, total_NKE: Tensor, x_BKxSxE: Tensor) -> None:
        """Add gradients of keys or values where `read` took them from."""
        (B, S), (K, E) = self.keys_BS.shape, total_NKE.shape[1:]
        x_BSKE = x_BKxSxE.view(B, K, S, E).transpose(1, 2).to(total_NKE.dtype)
        total_NKE.index_add_(0, self.keys_BS.flatten(), x_BSKE.reshape(B * S, K, E))

    def shares(self, q_BKxGTxE: Tensor, k_BKxSxE: Tensor) -> Tensor:
        """softmax of scaled queries by keys over what is seen, (B·K, G·T, S). Who is nobody sees the row's prompt."""
        B, T = self.queries_BT.shape
        scores = q_BKxGTxE @ k_BKxSxE.transpose(1, 2)
        scores.view(B, -1, scores.shape[1] // T, T, scores.shape[2]).add_(self.bias_B11TS.to(scores.dtype))
        return torch.softmax(scores, -1)


def cut(mask_B1TS: Tensor, slots: Tensor, prefix: int) -> list[Tile]:
    """The tiles of a packed batch (models/packing.py), those of the common prefix first."""
    B, _, T, _ = mask_B1TS.shape
    tokens = prefix + len(slots)
    place_BT = torch.full((B * T,), NOBODY).index_copy_(0, slots, torch.arange(prefix, tokens)).view(B, T)
    head_P = torch.arange(prefix)
    place_BS = torch.cat((head_P.expand(B, prefix), place_BT), dim=1)
    causal_1PP = torch.ones(prefix, prefix, dtype=torch.bool).tril()[None]
    found = list(_tiles(head_P[None], head_P[None], causal_1PP, tokens)) if prefix else []
    for rows in alike((place_BT != NOBODY).sum(1).tolist()):
        found += _tiles(place_BT[rows], place_BS[rows], mask_B1TS[rows, 0], tokens)
    return found


def alike(lengths: Sequence[int]) -> Iterator[slice]:
    """Neighbouring rows of nearly one length, at most TOKENS of them together, or one row."""
    start = 0
    for end in range(1, len(lengths) + 1):
        part = lengths[start : end + 1]
        if end == len(lengths) or max(part) > ROWS_ALIKE * min(part) or max(part) * len(part) > TOKENS:
            yield slice(start, end)
            start = end


def _tiles(queries_BT: Tensor, keys_BS: Tensor, seen_BTS: Tensor, tokens: int) -> Iterator[Tile]:
    longest = int((queries_BT != NOBODY).sum(1).max())
    for start in range(0, longest, QUERIES):
        part = slice(start, min(start + QUERIES, longest))
        columns = seen_BTS[:, part].any(1).any(0).nonzero()[:, 0]
        seen_BTs, asked_BT = seen_BTS[:, part].index_select(2, columns), queries_BT[:, part]
        yield Tile(
            queries_BT=asked_BT.clamp(min=0),
            written_M=asked_BT.where(asked_BT != NOBODY, tokens).flatten(),
            keys_BS=keys_BS.index_select(1, columns).clamp(min=0),
            bias_B11TS=torch.zeros(seen_BTs.shape).masked_fill_(~seen_BTs, -math.inf)[:, None, None],
        )


def attend(query_NHE: Tensor, key_NKE: Tensor, value_NKE: Tensor, tiles: Sequence[Tile]) -> Tensor:
    """softmax(q · kᵀ / √E) · v over what each query sees, (N, H, E).

    Kept for the gradient: the three alone; softmax is computed twice. Second derivatives are not defined.
    """
    scaled_NHE = query_NHE * (1 / math.sqrt(query_NHE.shape[2]))
    # What is kept of a view keeps all that it is a view of: queries, keys and values of one matrix.
    k, v = key_NKE.contiguous(), value_NKE.contiguous()
    out: Tensor = _Attend.apply(scaled_NHE, k, v, tiles)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return out


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, tiles):  # type: ignore[no-untyped-def]  # torch's own signature is untyped
        kv_heads, out = key.shape[1], query.new_empty(len(query) + 1, *query.shape[1:])
        for tile in tiles:
            tile.write(out, tile.shares(tile.ask(query, kv_heads), tile.read(key)) @ tile.read(value))
        ctx.tiles = tiles
        ctx.save_for_backward(query, key, value)
        return out[:-1]

    @staticmethod
    def backward(ctx, grad_NHE):  # type: ignore[no-untyped-def]
        query, key, value = ctx.saved_tensors
        kv_heads, grad = key.shape[1], _and_nobody(grad_NHE)
        wide = torch.promote_types(key.dtype, torch.float32)
        of_query = torch.empty_like(grad)
        of_key, of_value = (torch.zeros(x.shape, dtype=wide, device=x.device) for x in (key, value))
        for tile in ctx.tiles:
            q, k, g = tile.ask(query, kv_heads), tile.read(key), tile.ask_written(grad, kv_heads)
            shares = tile.shares(q, k)
            tile.add_to(of_value, shares.transpose(1, 2) @ g)
            slope = _softmax_backward(g @ tile.read(value).transpose(1, 2), shares, -1, shares.dtype)
            tile.write(of_query, slope @ k)
            tile.add_to(of_key, slope.transpose(1, 2) @ q)
        return of_query[:-1], of_key.to(key.dtype), of_value.to(value.dtype), None


def _and_nobody(x_NHE: Tensor) -> Tensor:
    """With a row of zeros behind, for no token."""
    return torch.cat((x_NHE, x_NHE.new_zeros(1, *x_NHE.shape[1:])))
