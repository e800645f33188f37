"""Attention on a GPU straight over a packed stream: FlexAttention (arXiv:2412.05496), a block mask made once a batch.

Nothing is spread into padded rows, and blocks of tokens that do not see each other are not computed. The kernel is
compiled on the machine that runs it, where models/flex_check.py tries it before it is believed.
Shapes: N tokens · L tokens and padding · H heads · K key/value heads · E head width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 128  # tokens of a block of the mask; lengths are multiples, so that a kernel fits many batches
LEAST = 2 * BLOCK  # torch compiles anew for what there is only one of
KERNELS = 64  # that a process may compile
EVERYBODY, NOBODY = -1, -2  # instead of a row: of the common prefix, which all rows see; of padding
# (query_1HLE, key_1KLE, value_1KLE, block mask) → out_1HLE
Kernel = Callable[[Tensor, Tensor, Tensor, Any], Tensor]
Sees = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def visible(rows_L: Tensor, segments_L: Tensor) -> Sees:
    """FlexAttention's mask: a token sees the prefix, its row's trunk and its own segment, up to itself."""

    def sees(batch: Tensor, head: Tensor, reader: Tensor, read: Tensor) -> Tensor:
        trunk = segments_L[read] == 0
        own = (rows_L[read] == rows_L[reader]) & (trunk | (segments_L[read] == segments_L[reader]))
        return (read <= reader) & (own | (rows_L[read] == EVERYBODY))

    return sees


def mask_of(rows_N: Tensor, segments_N: Tensor) -> Any:
    """The block mask of a stream. Segments: 0 in a trunk, then the response's number; padding is a row of its own."""
    from torch.nn.attention.flex_attention import create_block_mask

    length = padded(len(rows_N))
    rows_L = F.pad(rows_N.int(), (0, length - len(rows_N)), value=NOBODY)
    segments_L = F.pad(segments_N.int(), (0, length - len(rows_N)))
    sees = visible(rows_L, segments_L)
    return create_block_mask(sees, None, None, length, length, device=rows_N.device, BLOCK_SIZE=BLOCK)


def padded(tokens: int) -> int:
    """How long a stream of so many tokens is made."""
    return max(LEAST, -(-tokens // BLOCK) * BLOCK)


def attend(query_NHE: Tensor, key_NKE: Tensor, value_NKE: Tensor, mask: Any, kernel: Kernel) -> Tensor:
    """softmax(q · kᵀ / √E) · v over what each token sees, (N, H, E)."""
    length = padded(len(query_NHE))
    q, k, v = (
        F.pad(x, (0, 0, 0, 0, 0, length - len(x))).transpose(0, 1)[None] for x in (query_NHE, key_NKE, value_NKE)
    )
    return kernel(q, k, v, mask)[0].transpose(0, 1)[: len(query_NHE)]


def kernel_of(flex_attention: Callable[..., Any]) -> Kernel:
    """torch's FlexAttention, compiled or not, called as we call it."""

    def kernel(query: Tensor, key: Tensor, value: Tensor, mask: Any) -> Tensor:
        out: Tensor = flex_attention(query, key, value, block_mask=mask, enable_gqa=query.shape[1] != key.shape[1])
        return out

    return kernel


@functools.cache
def compiled() -> Kernel:
    """One kernel for all lengths; what cannot be compiled whole is an error, not a slow way round."""
    from torch.nn.attention.flex_attention import flex_attention

    # One for each kind of heads, dtype and whether there are gradients: a judge beside a policy is soon more than 8.
    torch._dynamo.config.recompile_limit = max(KERNELS, torch._dynamo.config.recompile_limit)
    return kernel_of(torch.compile(flex_attention, dynamic=True, fullgraph=True))
