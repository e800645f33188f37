"""Rows of one prompt and any number of responses to it, packed so that nothing is computed twice and nothing is padded.

The stream is `[prefix | trunk | response | response | trunk | response | …]`: the tokens that all prompts begin with
(a template's preamble) come once, then each row's trunk, its prompt and what all its responses begin with. A response
sees the prefix, its trunk and itself, never its neighbours, and its positions go on from the trunk's: the log-probs are
those of separate rows. Where few sizes are wanted, the stream ends with some tokens that nobody sees.
Shapes: N tokens · P prefix · B rows · T longest row without prefix · R responses of all rows · M their tokens · U of
these, what a row's responses share once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models import flex, flex_check, segments, tiles
from models.transfer import send

# Tokens. For each shape that oneDNN multiplies in bfloat16 it writes a program, which takes 2 to 25 ms: a tenth of a
# training step where all shapes are new (docs/log.md, 2026-11-27).
MULTIPLE = 32


@dataclass(frozen=True, kw_only=True)
class Row:
    """Token ids of a prompt and its responses, each response with its end token."""

    prompt: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        assert all(self.responses), "a response has an end token at least"

    @cached_property
    def shared_tokens(self) -> int:
        """How many tokens all responses begin with, each keeping at least one of its own."""
        return _common(self.responses)

    @property
    def input_tokens(self) -> int:
        """Tokens that the model reads, the trunk's once: a response's last one is only ever predicted."""
        return len(self.prompt) + self.shared_tokens + sum(self._own_read_tokens)

    @property
    def response_tokens(self) -> int:
        """Tokens of all responses."""
        return sum(len(r) for r in self.responses)

    @property
    def predicted_tokens(self) -> int:
        """Response tokens that the model predicts, the trunk's once."""
        return self.shared_tokens + sum(n + 1 for n in self._own_read_tokens)

    @property
    def attended(self) -> int:
        """Pairs (token, token it sees), itself included: what attention costs."""
        trunk = len(self.prompt) + self.shared_tokens
        return trunk * (trunk + 1) // 2 + sum(n * trunk + n * (n + 1) // 2 for n in self._own_read_tokens)

    @property
    def _own_read_tokens(self) -> list[int]:
        """Of each response, how many tokens are read that are not the trunk's."""
        return [len(r) - 1 - self.shared_tokens for r in self.responses]


def common_prefix(rows: Sequence[Row]) -> int:
    """How many tokens all prompts begin with, each keeping at least one of its own."""
    return _common([r.prompt for r in rows])


def _common(texts: Sequence[tuple[int, ...]]) -> int:
    """One alone shares with nobody."""
    if len(texts) < 2:
        return 0
    first, shortest = texts[0], min(map(len, texts)) - 1
    return next((n for n in range(shortest) if any(text[n] != first[n] for text in texts)), shortest)


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A micro-batch of rows as one stream of tokens."""

    tokens_N: Tensor
    positions_N: Tensor
    prefix: int  # P
    segments_N: Tensor  # 0 in prefix and trunks, then the response's number in its row
    slots: Tensor  # each row token's place in the (B, T) grid, flattened: (N − P,)
    mask_B1TS: Tensor  # (B, 1, T, P + T), True where the second token is seen by the first
    sources_U: Tensor  # stream index of the hidden state that predicts each response token
    targets_U: Tensor  # that response token; filled up, with more than `places_M` asks for
    places_M: Tensor  # each response token's place among those
    response_M: Tensor  # which response it belongs to, 0 … R−1, row by row
    ends_R: Tensor  # stream index of each response's last token that was read
    responses: int  # R

    def to(self, device: torch.device) -> Packed:
        """The same batch on another device."""
        moved: dict[str, Any] = {k: send(v, device) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)

    @cached_property
    def tiles(self) -> tiles.Tiles:
        """What a processor's attention goes over, the same in every layer."""
        return tiles.cut(self.mask_B1TS, self.slots, self.prefix)

    @cached_property
    def segments(self) -> segments.Segments:
        """What a processor's attention goes over where it multiplies bfloat16 itself."""
        return segments.cut(self.segments_N, self.slots, self.mask_B1TS.shape[2], self.prefix)

    @cached_property
    def block_mask(self) -> Any:
        """What a GPU's attention goes over, the same in every layer."""
        rows = self.slots // self.mask_B1TS.shape[2]
        return flex.mask_of(F.pad(rows, (self.prefix, 0), value=flex.EVERYBODY), self.segments_N)

    def attend(self, layer: int, query_NHE: Tensor, key_NKE: Tensor, value_NKE: Tensor) -> Tensor:
        """Attention as the mask allows: an `Attend` for the decoder."""
        if query_NHE.is_cuda:
            return self.attend_in_stream(query_NHE, key_NKE, value_NKE, flex_check.of_this_process())
        if query_NHE.device.type != "cpu":
            return self.attend_in_grid(query_NHE, key_NKE, value_NKE)
        threads, kv_heads = torch.get_num_threads(), key_NKE.shape[1]
        if segments.take(query_NHE, key_NKE, value_NKE) and self.segments.shared_by(threads, kv_heads):
            return segments.attend(query_NHE, key_NKE, value_NKE, self.segments)
        return self.attend_in_tiles(query_NHE, key_NKE, value_NKE)

    def attend_in_stream(self, query_NHE: Tensor, key_NKE: Tensor, value_NKE: Tensor, by: flex_check.Flex) -> Tensor:
        """What is fast on a GPU, or the grid where that does not work."""
        out_NHE = by.attend(query_NHE, key_NKE, value_NKE, lambda: self.block_mask)
        return self.attend_in_grid(query_NHE, key_NKE, value_NKE) if out_NHE is None else out_NHE

    def attend_in_tiles(self, query_NHE: Tensor, key_NKE: Tensor, value_NKE: Tensor) -> Tensor:
        """What is fast on any processor."""
        return tiles.attend(query_NHE, key_NKE, value_NKE, self.tiles)

    def attend_in_grid(self, query_NHE: Tensor, key_NKE: Tensor, value_NKE: Tensor) -> Tensor:
        """What is safe on a GPU: one fused kernel over padded rows."""
        P, (B, _, T, _) = self.prefix, self.mask_B1TS.shape
        grids = [
            Spread.apply(x[P:], self.slots, B * T)  # type: ignore[no-untyped-call]  # torch leaves it untyped
            for x in (query_NHE, key_NKE, value_NKE)
        ]
        q, k, v = (x.unflatten(0, (B, T)).transpose(1, 2) for x in grids)
        if P:
            k, v = _after(key_NKE[:P], k), _after(value_NKE[:P], v)
        out_BHTE = grouped_attention(q, k, v, mask=self.mask_B1TS)
        rows_RHE = out_BHTE.transpose(1, 2).flatten(0, 1)
        out: Tensor = Gather.apply(rows_RHE, self.slots)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return torch.cat((_attend_causally(query_NHE[:P], key_NKE[:P], value_NKE[:P]), out)) if P else out


def _after(prefix_PKE: Tensor, rows_BKTE: Tensor) -> Tensor:
    """Every row's keys (or values) behind those of the prefix: (B, K, P + T, E)."""
    prefix_BKPE = prefix_PKE.transpose(0, 1)[None].expand(len(rows_BKTE), -1, -1, -1)
    return torch.cat((prefix_BKPE, rows_BKTE), dim=2)


def grouped_attention(
    q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, *, mask: Tensor | None = None, is_causal: bool = False
) -> Tensor:
    """Attention in which each key head serves H / K query heads, (B, H, T, E)."""
    groups = q_BHTE.shape[1] // k_BKSE.shape[1]
    if groups > 1 and q_BHTE.is_cuda:  # its fast kernels with a mask know no groups
        k_BKSE, v_BKSE = (x.repeat_interleave(groups, dim=1) for x in (k_BKSE, v_BKSE))
        groups = 1
    return F.scaled_dot_product_attention(
        q_BHTE, k_BKSE, v_BKSE, attn_mask=mask, is_causal=is_causal, enable_gqa=groups > 1
    )


def _attend_causally(query_PHE: Tensor, key_PKE: Tensor, value_PKE: Tensor) -> Tensor:
    q, k, v = (x.transpose(0, 1)[None] for x in (query_PHE, key_PKE, value_PKE))
    return grouped_attention(q, k, v, is_causal=True)[0].transpose(0, 1)


def pack(rows: Sequence[Row], *, read_last: bool = False, multiple: int = 1) -> Packed:
    """Pack rows into one stream.

    `read_last`: also read each response's last token, whose hidden state then lies at `ends_R`.
    `multiple`: of N and of U, see `few_sizes`.
    """
    prefix = common_prefix(rows)
    stream = _Stream(rows[0].prompt[:prefix], None if read_last else -1)
    for row in rows:
        stream.add(row)
    stream.fill(multiple)
    T = max(len(s) for s in stream.segments)
    slots = [b * T + t for b, segment in enumerate(stream.segments) for t in range(len(segment))]
    segments = [s + [-1] * (T - len(s)) for s in stream.segments]
    return Packed(
        tokens_N=torch.tensor(stream.tokens),
        positions_N=torch.tensor(stream.positions),
        prefix=prefix,
        segments_N=torch.tensor([0] * prefix + [s for row in stream.segments for s in row]),
        slots=torch.tensor(slots),
        mask_B1TS=visibility(torch.tensor(segments), prefix),
        sources_U=torch.tensor(stream.sources, dtype=torch.long),
        targets_U=torch.tensor(stream.targets, dtype=torch.long),
        places_M=torch.tensor(stream.places, dtype=torch.long),
        response_M=torch.tensor(stream.owners, dtype=torch.long),
        ends_R=torch.tensor(stream.ends, dtype=torch.long),
        responses=len(stream.ends),
    )


def few_sizes(dtype: torch.dtype) -> int:
    """What N and U are best a multiple of in training, where each batch would have sizes of its own."""
    return 1 if dtype == torch.float32 else MULTIPLE


class _Stream:
    """The stream while it is being laid out, as plain lists."""

    def __init__(self, prefix: tuple[int, ...], cut: int | None) -> None:
        self.prefix, self.cut = len(prefix), cut
        self.tokens = list(prefix)
        self.positions = list(range(len(prefix)))
        self.segments: list[list[int]] = []  # by row: 0 in the trunk, then the response's number
        self.sources: list[int] = []
        self.targets: list[int] = []
        self.places: list[int] = []
        self.owners: list[int] = []
        self.ends: list[int] = []

    def add(self, row: Row) -> None:
        shared = row.responses[0][: row.shared_tokens] if row.responses else ()
        trunk = row.prompt + shared
        own = trunk[self.prefix :]
        assert len(own) > len(shared), "a prompt has at least one token of its own"
        self.tokens += own
        self.positions += range(self.prefix, len(trunk))
        self.segments.append([0] * len(own))
        last = len(self.tokens) - 1
        shared_places = self._predict(shared, range(last - len(shared), last))
        for number, response in enumerate(row.responses, 1):
            self.owners += [len(self.ends)] * len(response)
            self.places += shared_places
            self._respond(response[len(shared) :], number, last, len(trunk))

    def fill(self, multiple: int) -> None:
        """Tokens that nobody sees, as one more response to the last row, and predictions that nobody asks for."""
        more, others = -len(self.tokens) % multiple, -len(self.targets) % multiple
        self.tokens += [0] * more
        self.positions += [0] * more
        self.segments[-1] += [max(self.segments[-1]) + 1] * more
        self.targets += [0] * others
        self.sources += [0] * others

    def _respond(self, own: tuple[int, ...], number: int, before: int, start: int) -> None:
        """Lay out what a response has of its own, behind the trunk's last token."""
        read, first = own[: self.cut], len(self.tokens)
        self.places += self._predict(own, (before, *range(first, first + len(own) - 1)))
        self.tokens += read
        self.positions += range(start, start + len(read))
        self.segments[-1] += [number] * len(read)
        self.ends.append(len(self.tokens) - 1 if read else before)

    def _predict(self, targets: Sequence[int], sources: Sequence[int]) -> range:
        """Where the predictions of these tokens lie, from the hidden states at these places."""
        start = len(self.targets)
        self.targets += targets
        self.sources += sources
        return range(start, len(self.targets))


def visibility(segments_BT: Tensor, prefix: int) -> Tensor:
    """(B, 1, T, P + T): a token sees the prefix, earlier tokens of its trunk and of its own segment, and itself."""
    B, T = segments_BT.shape
    reader, read = segments_BT[:, :, None], segments_BT[:, None, :]
    causal = torch.ones(T, T, dtype=torch.bool).tril()
    rows_BTT = causal & ((read == 0) | (read == reader))
    return torch.cat((torch.ones(B, T, prefix, dtype=torch.bool), rows_BTT), dim=2)[:, None]


class Spread(torch.autograd.Function):
    """Stream → grid of `size` slots, zeros elsewhere. Slots are distinct, so its gradient is a plain gather."""

    @staticmethod
    def forward(ctx, x_N, slots, size):  # type: ignore[no-untyped-def]  # torch's own signature is untyped
        ctx.save_for_backward(slots)
        return x_N.new_zeros(size, *x_N.shape[1:]).index_copy_(0, slots, x_N)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        (slots,) = ctx.saved_tensors
        return grad.index_select(0, slots), None, None


class Gather(torch.autograd.Function):
    """Grid → stream: the inverse of `Spread`, and its gradient is `Spread`."""

    @staticmethod
    def forward(ctx, grid, slots):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(slots)
        ctx.size = grid.shape[0]
        return grid.index_select(0, slots)

    @staticmethod
    def backward(ctx, grad_N):  # type: ignore[no-untyped-def]
        (slots,) = ctx.saved_tensors
        return grad_N.new_zeros(ctx.size, *grad_N.shape[1:]).index_copy_(0, slots, grad_N), None
