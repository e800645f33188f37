"""How much memory training and measuring take, by estimate: what a bench's micro-batches are chosen by.

Held in float32, 4 bytes a trained weight each: the policy, its gradient, AdamW's two moments, a reference that moves,
and the anchor, which stays for measuring. In bfloat16 each matrix of the policy and of such a reference has a copy
besides, 2 bytes an entry, also those that an adapter leaves frozen (a reference that only jumps takes less, and so does
the gradient of a step that is one micro-batch). Besides: what each token leaves in each block for the backward pass,
the mask of attention as numbers, and of the LM head a chunk of logits and its gradient twice (its own and the
embedding's).

All of it is taken to be there at once, and a tenth is added. Against what was measured before matrices had copies of
their own (docs/log.md, 2026-11-26) it was a quarter high where a step is one or two micro-batches, elsewhere between
15% below (an adapter on long rows) and 16% above. Where it is too low, a micro-batch that does not fit is halved
(models/room.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from models.adapted import AdaptedArchitecture
from models.architecture import Architecture
from models.logprobs import CHUNK

FLOAT = 4  # bytes of a float32
# What autograd keeps of a block that transformers computes, against ours with gradients written by hand (fused.py).
UNFUSED = 2.0
SCATTERED = 0.1  # of what is counted: what an allocator cannot give out again, and what is too small to be counted


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What a bench takes on its device besides what it holds when it begins; all in bytes."""

    architecture: Architecture
    trained: int  # weights that have gradients
    adapter: bool  # beside frozen weights, which no checkpoint holds again
    moving: bool  # a recipe has a reference that moves
    dtype: torch.dtype
    held: int  # when it begins: the process with its model, data and judges

    def training(self, tokens: int, longest: int) -> int:
        """Of steps in micro-batches of so many tokens, of which rows hold at most `longest`."""
        a = self.architecture
        copies = FLOAT * self.trained * (6 if self.moving else 5)
        casts = 0 if self._adapted else self._size(a.body_weights + a.head_weights) * (2 if self.moving else 1)
        head = 0 if self.adapter else 2 * FLOAT * a.head_weights
        logits = 3 * FLOAT * a.vocabulary * min(CHUNK, tokens)
        passing = tokens * a.depth * (self._kept + longest * self._bytes)
        return self._total(copies + self.measuring_copy + (casts if self._narrow else 0) + head + logits + passing)

    def reading(self, tokens: int, longest: int) -> int:
        """Of the exact KL between a policy and the anchor, the pass without gradients that takes most."""
        a = self.architecture
        block = 4 * a.width * FLOAT + self._bytes * (4 * a.gates * a.hidden + 4 * self._qkv)
        logits = 6 * FLOAT * a.vocabulary * min(CHUNK, tokens)
        return self._total(self._measured + logits + tokens * (block + longest * (1 + self._bytes)))

    def writing(self, answers: int, longest: int) -> int:
        """Of so many answers, `longest` tokens with their prompts: cache, rows moved as others end, logits."""
        a = self.architecture
        cache = round(1.5 * self._bytes * answers * longest * a.depth * 2 * a.kv_width)
        return self._total(self._measured + cache + 4 * FLOAT * a.vocabulary * answers)

    def _total(self, added: int) -> int:
        return self.held + round(added * (1 + SCATTERED))

    @property
    def _narrow(self) -> bool:
        return self.dtype != torch.float32

    @property
    def _bytes(self) -> int:
        return self.dtype.itemsize

    def _size(self, entries: int) -> int:
        return self._bytes * entries

    @property
    def _qkv(self) -> int:
        return self.architecture.attention_width + 2 * self.architecture.kv_width

    @property
    def _kept(self) -> int:
        """Bytes that a token leaves in a block: the stream twice, both norms, queries, keys, values and what attention
        gives on the stream and in the grid, and the feed-forward layer before and after its gate."""
        a = self.architecture
        inner = 2 * a.width + self._qkv + 2 * a.attention_width + (a.gates + 1) * a.hidden
        known = 2 * a.width * FLOAT + inner * self._bytes
        return round(known * (UNFUSED if isinstance(a, AdaptedArchitecture) else 1.0))

    @property
    def measuring_copy(self) -> int:
        """What a model takes to measure, besides its weights in float32: its matrices once more in a narrow dtype.

        A tied head becomes a matrix of its own, and the head is there twice (models/prepacked.py); of what transformers
        computes the embedding is copied instead.
        """
        a = self.architecture
        head = FLOAT * a.head_weights if self._adapted else self._size(a.head_weights)
        return self._size(a.body_weights + a.head_weights) + head if self._narrow else 0

    @property
    def _adapted(self) -> bool:
        return isinstance(self.architecture, AdaptedArchitecture)

    @property
    def _measured(self) -> int:
        """A policy and the anchor, as they are loaded and as they measure."""
        return 2 * (FLOAT * self.trained + self.measuring_copy)


def most_that_fits(most: int, needs: Callable[[int], int], limit: int) -> int | None:
    """`most`, or a half, a quarter … of it, as much as `limit` bytes hold; None where they do not hold one."""
    while most and needs(most) > limit:
        most //= 2
    return most or None
