"""Attention on a GPU straight over a packed stream: FlexAttention (arXiv:2412.05496), a block mask made once a batch.

Nothing is spread into padded rows, and blocks of tokens that do not see each other are not computed. The kernel is
compiled on the machine that runs it, so nobody has tried it before: it is believed once its first answer there, and
its gradient, are those of the formula. Else the caller's padded grid is used from then on, and one line says why.
Shapes: N tokens · L tokens and padding · H heads · K key/value heads · E head width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.room import is_out_of_memory, warn

BLOCK = 128  # tokens of a block of the mask; lengths are multiples, so that a kernel fits many batches
LEAST = 2 * BLOCK  # torch compiles anew for what there is only one of
EVERYBODY, NOBODY = -1, -2  # instead of a row: of the common prefix, which all rows see; of padding
ROUNDING = {torch.bfloat16: 2e-2, torch.float16: 3e-3}  # relative error of the formula's answer that a kernel may have
ROUNDING_FLOAT32 = 5e-5  # TF32 would have 10 times as much
# (query_1HLE, key_1KLE, value_1KLE, block mask) → out_1HLE
Kernel = Callable[[Tensor, Tensor, Tensor, Any], Tensor]
Sees = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def visible(rows_L: Tensor, segments_L: Tensor) -> Sees:
    """FlexAttention's mask: a token sees the prefix, its row's prompt and its own segment, up to itself."""

    def sees(batch: Tensor, head: Tensor, reader: Tensor, read: Tensor) -> Tensor:
        prompt = segments_L[read] == 0
        own = (rows_L[read] == rows_L[reader]) & (prompt | (segments_L[read] == segments_L[reader]))
        return (read <= reader) & (own | (rows_L[read] == EVERYBODY))

    return sees


def mask_of(rows_N: Tensor, segments_N: Tensor) -> Any:
    """The block mask of a stream. Segments: 0 in a prompt, then the response's number; padding is a row of its own."""
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


def plain(query: Tensor, key: Tensor, value: Tensor, mask: Any) -> Tensor:
    """FlexAttention as it is called, uncompiled."""
    from torch.nn.attention.flex_attention import flex_attention

    out = flex_attention(query, key, value, block_mask=mask, enable_gqa=query.shape[1] != key.shape[1])
    assert isinstance(out, Tensor)
    return out


@functools.cache
def compiled() -> Kernel:
    """One kernel for all lengths; what cannot be compiled whole is an error, not a slow way round."""
    return torch.compile(plain, dynamic=True, fullgraph=True)


class Flex:
    """A kernel that has to show that it is right, once for each kind of heads and dtype."""

    def __init__(self, kernel: Callable[[], Kernel] = compiled, tell: Callable[[str], None] = warn) -> None:
        self.make, self.tell = kernel, tell
        self.failed = False
        self._trusted: set[tuple[object, ...]] = set()

    def attend(self, query_NHE: Tensor, key_NKE: Tensor, value_NKE: Tensor, mask: Callable[[], Any]) -> Tensor | None:
        """Attention as the mask allows; None where the kernel does not work here, which is told the first time."""
        if self.failed:
            return None
        kind = (query_NHE.shape[1:], key_NKE.shape[1], query_NHE.dtype, query_NHE.device)
        try:
            if kind not in self._trusted:
                self._try(query_NHE, key_NKE)
                self._trusted.add(kind)
            return attend(query_NHE, key_NKE, value_NKE, mask(), self.make())
        except Exception as error:  # whatever compilers and drivers raise
            if is_out_of_memory(error):
                raise
            self._give_up(error)
        return None

    def _try(self, query_NHE: Tensor, key_NKE: Tensor) -> None:
        """WrongAnswerError where answer or gradient on a small batch are not the formula's."""
        for name, (found, wanted) in trial(query_NHE, key_NKE, self.make()):
            error = float((found.double() - wanted).norm() / wanted.norm())
            if not error <= ROUNDING.get(found.dtype, ROUNDING_FLOAT32):
                raise WrongAnswerError(f"its {name} is {error:.1e} off the formula's")

    def _give_up(self, error: Exception) -> None:
        self.failed = True
        first = (str(error).strip().splitlines() or [""])[0][:200]
        self.tell(
            f"FlexAttention is not used in this process ({type(error).__name__}: {first}): rows are padded instead, "
            "which is slower and gives the same but for rounding"
        )


class WrongAnswerError(Exception):
    """A kernel computes something else."""


def trial(query_NHE: Tensor, key_NKE: Tensor, kernel: Kernel) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """What a kernel makes of a small batch with such heads, and what it should: answers and gradients, by name."""
    rows_N, segments_N = example(query_NHE.device)
    draw = torch.Generator().manual_seed(0)
    (H, E), K, N = query_NHE.shape[1:], key_NKE.shape[1], len(rows_N)
    drawn = [torch.randn(N, heads, E, generator=draw).to(query_NHE) for heads in (H, K, K, H)]
    mask, slope_NHE = mask_of(rows_N, segments_N), drawn.pop()
    with torch.no_grad():
        unkept = attend(*drawn, mask, kernel)
    with torch.enable_grad():
        mine, theirs = [x.clone().requires_grad_() for x in drawn], [x.double().requires_grad_() for x in drawn]
        found, wanted = attend(*mine, mask, kernel), by_definition(*theirs, rows_N, segments_N)
        slopes = torch.autograd.grad(found, mine, slope_NHE), torch.autograd.grad(wanted, theirs, slope_NHE.double())
    yield "answer", (found.detach(), wanted.detach())
    yield "answer without gradients", (unkept, wanted.detach())
    yield from zip(("gradient of queries", "gradient of keys", "gradient of values"), zip(*slopes, strict=True))


def example(device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows and segments of a prefix and three pairs, uneven and over several blocks."""
    rows, segments = [EVERYBODY] * 37, [0] * 37
    for row, parts in enumerate([(31, 50, 64), (70, 3, 40), (1, 90, 21)]):
        rows += [row] * sum(parts)
        segments += [number for number, length in enumerate(parts) for _ in range(length)]
    return torch.tensor(rows, device=device), torch.tensor(segments, device=device)


def by_definition(query_NHE: Tensor, key_NKE: Tensor, value_NKE: Tensor, rows_N: Tensor, segments_N: Tensor) -> Tensor:
    """The formula, every token with every other: for few of them."""
    groups, places = query_NHE.shape[1] // key_NKE.shape[1], torch.arange(len(rows_N), device=rows_N.device)
    seen_NN = visible(rows_N, segments_N)(places, places, places[:, None], places[None])
    k, v = (x.repeat_interleave(groups, dim=1) for x in (key_NKE, value_NKE))
    scores_HNN = torch.einsum("nhe,mhe->hnm", query_NHE, k) / query_NHE.shape[2] ** 0.5
    return torch.einsum("hnm,mhe->nhe", scores_HNN.masked_fill(~seen_NN, -torch.inf).softmax(-1), v)


@functools.cache
def of_this_process() -> Flex:
    """The one that all batches share."""
    return Flex()
