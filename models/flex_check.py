"""Whether this machine's FlexAttention is right: tried before it is believed, or left alone.

A kernel is compiled where it runs, so nobody has tried it before. It is believed once its answer on a small batch, and
its gradient, are those of the formula, for each kind of heads and dtype. Else rows are padded (`Packed.attend_in_grid`)
for the rest of the process, and one line says why.
Shapes: N tokens · H heads · K key/value heads · E head width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from models.failure import one_line
from models.flex import EVERYBODY, Kernel, attend, compiled, mask_of, visible
from models.room import is_out_of_memory, warn

ROUNDING = {torch.bfloat16: 2e-2, torch.float16: 3e-3}  # relative error of the formula's answer that a kernel may have
ROUNDING_FLOAT32 = 5e-5  # TF32 would have 10 times as much


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
            if kind in self._trusted and is_out_of_memory(error):  # the caller comes again with less
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
        self.tell(
            f"FlexAttention is not used in this process ({one_line(error)}): rows are padded instead, "
            "which is slower and gives the same but for rounding"
        )


class WrongAnswerError(Exception):
    """A kernel computes something else."""


def trial(query_NHE: Tensor, key_NKE: Tensor, kernel: Kernel) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """What a kernel makes of a small batch with such heads, and what it should: answers and gradients, by name."""
    rows_N, segments_N = example(query_NHE.device)
    draw = torch.Generator().manual_seed(0)
    (H, E), K, N = query_NHE.shape[1:], key_NKE.shape[1], len(rows_N)
    q, k, v, slope_NHE = (torch.randn(N, heads, E, generator=draw).to(query_NHE) for heads in (H, K, K, H))
    mask = mask_of(rows_N, segments_N)
    with torch.no_grad():
        unkept = attend(q, k, v, mask, kernel)
    with torch.enable_grad():
        wide_q, wide_k, wide_v = (x.double().requires_grad_() for x in (q, k, v))
        wanted = by_definition(wide_q, wide_k, wide_v, rows_N, segments_N)
        found = attend(q.requires_grad_(), k.requires_grad_(), v.requires_grad_(), mask, kernel)
        slopes = (
            torch.autograd.grad(found, (q, k, v), slope_NHE),
            torch.autograd.grad(wanted, (wide_q, wide_k, wide_v), slope_NHE.double()),
        )
    yield "answer", (found.detach(), wanted.detach())
    yield "answer without gradients", (unkept, wanted.detach())
    for name, pair in zip(("queries", "keys", "values"), zip(*slopes, strict=True), strict=True):
        yield f"gradient of {name}", pair


def example(device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows and segments of a prefix and three pairs, uneven and over seven blocks.

    What is compiled first is compiled for any number of blocks, unless that is the number of heads too: torch then
    takes the two for one, and compiles again. No model that we know has seven.
    """
    rows, segments = [EVERYBODY] * 37, [0] * 37
    for row, parts in enumerate([(31, 90, 164), (170, 3, 140), (1, 190, 21)]):
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
