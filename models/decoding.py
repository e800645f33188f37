"""Decoding on a GPU: one step over tensors that stay where they are, so that a CUDA graph can play it back.

A step reads a window of the cache, a multiple of WINDOW tokens; a new one is recorded where the window grows or rows
are dropped. The processor looks at what was written every few steps only, so it stays ahead of the GPU.
Shapes: B rows · S rows at first · C limit · T cache length · W window · L layers · K key/value heads · E head width.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models import kernels
from models.captured import Captured, Step
from models.decoder import Attend, Decoder

WINDOW = 128  # tokens
LOOK = 8  # steps between looks at which rows are finished
KEPT = 0.5  # rows are dropped where no more than this share is open: each time a graph has to be recorded again
# (hidden_BD, draws_B or None) → the next tokens, (B,)
Choose = Callable[[Tensor, Tensor | None], Tensor]


def _look_by_hand(query_BKGE: Tensor, key_BKWE: Tensor, value_BKWE: Tensor, bias_B11W: Tensor) -> Tensor:
    """For a GPU, where torch's fused kernel has not been tried."""
    scores_BKGW = (query_BKGE / math.sqrt(query_BKGE.shape[3])) @ key_BKWE.transpose(2, 3)
    return scores_BKGW.add_(bias_B11W).softmax(-1) @ value_BKWE


@dataclass
class Cache:
    """What rows have read so far."""

    keys: Tensor  # (L, B, K, T, E)
    values: Tensor  # likewise
    lengths_B: Tensor  # tokens in each row's cache

    def keep(self, rows: Tensor) -> Cache:
        """These rows alone, in memory of their own."""
        return Cache(self.keys[:, rows], self.values[:, rows], self.lengths_B[rows])

    def attend(self, window: int) -> Attend:
        """Adds a token of each row behind what it has, and attends to all of it; the lengths stay as they are."""
        assert window <= self.keys.shape[3]
        by_torch = functools.cache(functools.partial(self._attend_by_torch, window))

        def attend(layer: int, query_BHE: Tensor, key_BKE: Tensor, value_BKE: Tensor) -> Tensor:
            keys, values = self.keys[layer], self.values[layer]
            if (seen := kernels.look(query_BHE, key_BKE, value_BKE, keys, values, self.lengths_B)) is not None:
                return seen
            return by_torch()(layer, query_BHE, key_BKE, value_BKE)

        return attend

    def _attend_by_torch(self, window: int) -> Attend:
        """The same where there is no kernel for it."""
        rows_B = torch.arange(len(self.lengths_B), device=self.lengths_B.device)
        unseen_BW = torch.arange(window, device=rows_B.device) > self.lengths_B[:, None]
        bias_B11W = torch.zeros(unseen_BW.shape, dtype=self.keys.dtype, device=rows_B.device)
        bias_B11W = bias_B11W.masked_fill_(unseen_BW, -math.inf)[:, None, None]

        def attend(layer: int, query_BHE: Tensor, key_BKE: Tensor, value_BKE: Tensor) -> Tensor:
            keys, values = self.keys[layer], self.values[layer]
            keys[rows_B, :, self.lengths_B] = key_BKE
            values[rows_B, :, self.lengths_B] = value_BKE
            # The query heads that share a key head stand where a sequence would: nothing is repeated.
            query_BKGE = query_BHE.unflatten(1, (key_BKE.shape[1], -1))
            look = _look_by_hand if query_BHE.is_cuda else F.scaled_dot_product_attention
            return look(query_BKGE, keys[:, :, :window], values[:, :, :window], bias_B11W).flatten(1, 2)

        return attend


class Decoding:
    """Rows that are being written: `tokens_B` were chosen last and are read next, `next_B` is what a step leaves."""

    def __init__(
        self, decoder: Decoder, cache: Cache, choose: Choose, captured: Captured, *, dtype: torch.dtype, longest: int
    ) -> None:
        """`longest`: tokens in the cache of the row that has most."""
        self.decoder, self.cache, self.choose, self.captured, self.dtype = decoder, cache, choose, captured, dtype
        self.longest, self._window = longest, 0
        self._settle()

    def _settle(self) -> None:
        """Tensors of the rows that there are, which stay where they are from now on."""
        self.tokens_B = torch.zeros_like(self.cache.lengths_B)
        self.next_B = torch.zeros_like(self.cache.lengths_B)
        self.draws_B = torch.zeros(self.tokens_B.shape, device=self.tokens_B.device)
        self._step: Step | None = None

    def advance(self, tokens_B: Tensor, draws_B: Tensor | None) -> Tensor:
        """Read these tokens; the next ones, until the next call."""
        self.tokens_B.copy_(tokens_B)
        if draws_B is not None:
            self.draws_B.copy_(draws_B)
        window = min(-(-(self.longest + 1) // WINDOW) * WINDOW, self.cache.keys.shape[-2])
        if self._step is None or window != self._window:
            self._window, self._step = window, self.captured.of(self._over(window, draws_B is not None))
        self._step()
        self.cache.lengths_B += 1
        self.longest += 1
        return self.next_B

    def _over(self, window: int, drawn: bool) -> Step:
        """The step itself: it may be repeated, and all that changes between calls lies in tensors."""
        cache = self.cache

        def step() -> None:
            hidden_BD = self.decoder(self.tokens_B, cache.lengths_B, cache.attend(window), dtype=self.dtype)[0]
            self.next_B.copy_(self.choose(hidden_BD, self.draws_B if drawn else None))

        return step

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone."""
        self.cache = self.cache.keep(rows)
        self.longest = int(self.cache.lengths_B.max())
        self._settle()


def write(decoding: Decoding, first_S: Tensor, draws_SC: Tensor | None, *, end: int, limit: int) -> Tensor:
    """Every row's tokens, (S, C), those that follow an end token being end tokens too; `first_S` were chosen before."""
    written_SC = torch.full((len(first_S), limit), end, device=first_S.device)
    written_SC[:, 0] = tokens_B = first_S
    row_B, open_B = torch.arange(len(first_S), device=first_S.device), first_S != end
    for count in range(1, limit):
        if count % LOOK == 1:
            rows = open_B.nonzero()[:, 0]
            if not len(rows):
                break
            if len(rows) <= KEPT * len(row_B):
                decoding.keep(rows)
                row_B, open_B, tokens_B = row_B[rows], open_B[rows], tokens_B[rows]
        tokens_B = decoding.advance(tokens_B, None if draws_SC is None else draws_SC[row_B, count])
        written_SC[row_B, count] = tokens_B.where(open_B, end)
        open_B = open_B & (tokens_B != end)
    return written_SC
