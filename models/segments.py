"""Attention on a processor that multiplies bfloat16 itself, segment by segment (models/attention.c).

A row and a key head at a time, all of it in a core's own cache and straight from the stream: no mask, no gathers, and
no scores in memory. What that is not for goes tile by tile (models/tiles.py).
Shapes: N tokens · H heads · K key/value heads · E head width · R rows, the common prefix one of them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from models import kernels


class Segments(NamedTuple):
    """Neighbours in a stream: each row's trunk, then its responses."""

    firsts: Tensor  # each row's first segment, and how many there are, (R + 1,) int64
    starts: Tensor  # each segment's first token, and N, int64
    prefix: int  # tokens of the first row, where all others see them
    longest: int  # tokens that are seen in a row at most, the prefix included

    def shared_by(self, threads: int, kv_heads: int) -> bool:
        """Whether each thread has a row and a key head to itself."""
        return (len(self.firsts) - 1) * kv_heads >= threads


def cut(segments_N: Tensor, slots: Tensor, longest: int, prefix: int) -> Segments:
    """Those of a packed batch (models/packing.py) whose grid has rows of `longest` tokens."""
    rows_N, numbers_N = slots // longest, segments_N[prefix:]
    new_row_N = torch.ones(len(slots), dtype=torch.bool)
    new_row_N[1:] = rows_N[1:] != rows_N[:-1]
    new_N = new_row_N.clone()
    new_N[1:] |= numbers_N[1:] != numbers_N[:-1]
    starts, firsts = new_N.nonzero()[:, 0] + prefix, (new_N.cumsum(0) - 1)[new_row_N]
    if prefix:
        starts, firsts = torch.cat((starts.new_zeros(1), starts)), torch.cat((firsts.new_zeros(1), firsts + 1))
    starts = torch.cat((starts, starts.new_tensor([len(segments_N)])))
    firsts = torch.cat((firsts, firsts.new_tensor([len(starts) - 1])))
    lengths = starts[firsts].diff()
    return Segments(firsts, starts, prefix, prefix + int(lengths[bool(prefix) :].max()))


def take(query_NHE: Tensor, key_NKE: Tensor, value_NKE: Tensor) -> bool:
    """Whether attention over these can go by segments."""
    return (
        all(
            x.is_cpu and x.dtype == torch.bfloat16 and x.stride()[1:] == (x.shape[2], 1)
            for x in (query_NHE, key_NKE, value_NKE)
        )
        and kernels.built().attends
    )


def attend(query_NHE: Tensor, key_NKE: Tensor, value_NKE: Tensor, segments: Segments) -> Tensor:
    """softmax(q · kᵀ / √E) · v over what each query sees, (N, H, E); of what `take` says.

    Kept for the gradient: the three, the answer and two numbers a head. Second derivatives are not defined.
    """
    if not torch.is_grad_enabled():
        return _look(query_NHE, key_NKE, value_NKE, segments)[0]
    # What is kept of a view keeps all that it is a view of: queries, keys and values of one matrix.
    if value_NKE.untyped_storage().data_ptr() != query_NHE.untyped_storage().data_ptr():
        value_NKE = value_NKE.contiguous()
    out: Tensor = _Attend.apply(query_NHE, key_NKE, value_NKE, segments)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return out


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, segments):  # type: ignore[no-untyped-def]  # torch's own signature is untyped
        out, softmax = _look(query, key, value, segments)
        ctx.segments = segments
        ctx.save_for_backward(query, key, value, out, softmax)
        return out

    @staticmethod
    def backward(ctx, grad_NHE):  # type: ignore[no-untyped-def]
        query, key, value, out, softmax = ctx.saved_tensors
        return *_look_back(grad_NHE.contiguous(), query, key, value, out, softmax, ctx.segments), None


def _look(query: Tensor, key: Tensor, value: Tensor, segments: Segments) -> tuple[Tensor, Tensor]:
    """The answer, and of each of its softmaxes what its scores lie below and one by its sum, (N, H, 2) float32."""
    out, softmax = query.new_empty(query.shape), query.new_empty(*query.shape[:2], 2, dtype=torch.float32)
    plan, room = _plan(query, key, value, segments)
    read = (query, key, value)
    pointers, apart = [x.data_ptr() for x in read], [x.stride(0) for x in read]
    kernels.built().library.attend(*pointers, *apart, out.data_ptr(), softmax.data_ptr(), *plan, room.data_ptr())
    return out, softmax


def _look_back(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, softmax: Tensor, segments: Segments
) -> tuple[Tensor, Tensor, Tensor]:
    """What goes back to the three."""
    slopes = query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)
    rows, (_, K, E) = len(segments.firsts) - 1, key.shape
    shared = query.new_empty(rows, K, 2, segments.prefix, E, dtype=torch.float32)
    assert grad.shape == out.shape == query.shape
    assert grad.dtype == out.dtype == torch.bfloat16
    plan, room = _plan(query, key, value, segments)
    read, written = (query, key, value), (out, softmax, grad, *slopes, shared)
    pointers, apart = [x.data_ptr() for x in read], [x.stride(0) for x in read]
    more = [x.data_ptr() for x in written]
    kernels.built().library.attend_back(*pointers, *apart, *more, *plan, room.data_ptr())
    return slopes


def _plan(query: Tensor, key: Tensor, value: Tensor, segments: Segments) -> tuple[tuple[int | float, ...], Tensor]:
    """What C reads of it, and memory for all threads."""
    (N, H, E), K, threads = query.shape, key.shape[1], torch.get_num_threads()
    assert take(query, key, value)
    assert key.shape == value.shape == (N, K, E)
    assert H % K == 0
    assert int(segments.starts[-1]) == N
    assert segments.starts.dtype == segments.firsts.dtype == torch.int64
    assert segments.starts.is_contiguous()
    assert segments.firsts.is_contiguous()
    room = kernels.built().library.attend_room(segments.longest, E, threads)
    tables = segments.firsts.data_ptr(), segments.starts.data_ptr()
    sizes = len(segments.firsts) - 1, segments.prefix, segments.longest, K, H // K, E, threads
    return (*tables, *sizes, E**-0.5), query.new_empty(room, dtype=torch.uint8)
