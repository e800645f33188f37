"""Batched generation with a key/value cache: greedy, or seeded sampling at temperature 1.

Shapes: B rows · T cache length · L layers · K key/value heads · G query heads of one of them · E head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models import captured
from models.adapted import Adapted
from models.captured import Captured
from models.decoder import Decoder
from models.decoding import Cache, Decoding, write
from models.packing import Row, pack

ROWS = 8  # what is left once rows are dropped is a multiple of it: few sizes, see packing.MULTIPLE


@dataclass(frozen=True, kw_only=True)
class Generated:
    """One response; `tokens` ends with the end token unless it was cut at the limit."""

    tokens: tuple[int, ...]
    truncated: bool


@torch.no_grad()
def generate(
    decoder: Decoder,
    prompts: Sequence[tuple[int, ...]],
    *,
    end: int,
    limit: int,
    dtype: torch.dtype,
    seed: int | None = None,
    batch: int = 128,
) -> list[Generated]:
    """Answer every prompt with at most `limit` tokens: greedily, or, given a seed, sampled at temperature 1.

    A prompt's sample depends on the seed, its place in `prompts` and the decoder alone: each has its own row of
    uniform draws, so two decoders sample with common random numbers.
    """
    draws_NT = _uniform_draws(seed, len(prompts), limit)
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers: dict[int, Generated] = {}
    for start in range(0, len(by_length), batch):
        part = by_length[start : start + batch]
        rows = _Rows(decoder, [prompts[i] for i in part], limit, dtype)
        chosen = None if draws_NT is None else draws_NT[part].to(decoder.device)
        answers |= zip(part, rows.run(end, chosen), strict=True)
    return [answers[i] for i in range(len(prompts))]


def _uniform_draws(seed: int | None, rows: int, columns: int) -> Tensor | None:
    if seed is None:
        return None
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed))


def _until(end: int, tokens: list[int]) -> Generated:
    whole = end in tokens
    return Generated(tokens=tuple(tokens[: tokens.index(end) + 1] if whole else tokens), truncated=not whole)


class _Rows:
    """The rows of one batch still being written, with their cache. Finished ones are dropped as they pile up."""

    def __init__(self, decoder: Decoder, prompts: list[tuple[int, ...]], limit: int, dtype: torch.dtype) -> None:
        a, device = decoder.architecture, decoder.device
        self.decoder, self.prompts, self.limit, self.dtype = decoder, prompts, limit, dtype
        self.capacity = max(len(p) for p in prompts) + limit
        shape = a.depth, len(prompts), a.kv_heads, self.capacity, a.head_width
        self.keys, self.values = torch.zeros(2, *shape, dtype=dtype, device=device)
        self.alive = torch.arange(len(prompts), device=device)  # which prompts the rows of the cache belong to
        self.lengths_B = torch.tensor([len(p) for p in prompts], device=device)  # tokens in each row's cache

    def run(self, end: int, draws_BT: Tensor | None) -> list[Generated]:
        """Write all rows to their ends."""
        # A step of transformers' own code may wait for the GPU, and a recording that meets that leaves torch unwell.
        if self.decoder.device.type == "cuda" and not isinstance(self.decoder, Adapted):
            return self.run_captured(end, draws_BT, captured.of_this_process())
        written: list[list[int]] = [[] for _ in self.prompts]
        hidden_BD = self._prefill()
        for step in range(self.limit):
            draws = None if draws_BT is None else draws_BT[self.alive, step]
            next_B = self._choose(hidden_BD, draws)
            for row, token in zip(self.alive.tolist(), next_B.tolist(), strict=True):
                if not written[row] or written[row][-1] != end:
                    written[row].append(token)
            open_B = torch.tensor([written[r][-1] != end for r in self.alive.tolist()], device=next_B.device)
            if not open_B.any() or step + 1 == self.limit:
                break
            next_B = self._drop(open_B, next_B)
            hidden_BD = self._step(next_B)
        return [Generated(tokens=tuple(w), truncated=w[-1] != end) for w in written]

    def run_captured(self, end: int, draws_BT: Tensor | None, steps: Captured) -> list[Generated]:
        """The same in steps that a GPU can play back (models/decoding.py)."""
        first_B = self._choose(self._prefill(), None if draws_BT is None else draws_BT[:, 0])
        decoding = Decoding(
            self.decoder,
            Cache(self.keys, self.values, self.lengths_B),
            self._choose,
            steps,
            dtype=self.dtype,
            longest=self.capacity - self.limit,
        )
        del self.keys, self.values  # the cache lets go of them once rows are dropped
        written = write(decoding, first_B, draws_BT, end=end, limit=self.limit).tolist()
        return [_until(end, tokens) for tokens in written]

    def _prefill(self) -> Tensor:
        """Read the prompts into the cache; each one's last hidden state, (B, D)."""
        batch = pack([Row(prompt=p) for p in self.prompts]).to(self.decoder.device)
        own_B = self.lengths_B - batch.prefix
        rows = torch.repeat_interleave(self.alive, own_B)
        positions = batch.positions_N[batch.prefix :]

        def attend(layer: int, query: Tensor, key_NKE: Tensor, value_NKE: Tensor) -> Tensor:
            keys, values, prefix = self.keys[layer], self.values[layer], batch.prefix
            keys[:, :, :prefix] = key_NKE[:prefix].transpose(0, 1)
            values[:, :, :prefix] = value_NKE[:prefix].transpose(0, 1)
            keys[rows, :, positions] = key_NKE[prefix:]
            values[rows, :, positions] = value_NKE[prefix:]
            return batch.attend(layer, query, key_NKE, value_NKE)

        hidden_ND: Tensor = self.decoder(batch.tokens_N, batch.positions_N, attend, dtype=self.dtype)[0]
        return hidden_ND[batch.prefix + own_B.cumsum(0) - 1]

    def _step(self, tokens_B: Tensor) -> Tensor:
        """Read one more token of each row; its hidden state, (B, D)."""
        cache = Cache(self.keys, self.values, self.lengths_B)
        attend = cache.attend(int(self.lengths_B.max()) + 1)
        hidden_BD: Tensor = self.decoder(tokens_B, self.lengths_B, attend, dtype=self.dtype)[0]
        self.lengths_B = self.lengths_B + 1
        return hidden_BD

    def _choose(self, hidden_BD: Tensor, draws_B: Tensor | None) -> Tensor:
        """The likeliest next token, or the one at each row's uniform draw of the cumulated distribution."""
        logits_BV = self.decoder.logits(hidden_BD.to(self.dtype))
        if draws_B is None:
            return logits_BV.max(-1).indices  # a fifth of what argmax takes on a processor
        cumulated_BV = logits_BV.float().softmax(-1).cumsum(-1)
        targets_B1 = (draws_B * cumulated_BV[:, -1])[:, None]
        return torch.searchsorted(cumulated_BV, targets_B1, right=True)[:, 0].clamp(max=logits_BV.shape[1] - 1)

    def _drop(self, open_B: Tensor, tokens_B: Tensor) -> Tensor:
        """Let open rows of the cache's end take the places of finished ones; the tokens of those that stay."""
        count = -(-int(open_B.sum()) // ROWS) * ROWS
        if count >= len(open_B):
            return tokens_B
        moved = count + open_B[count:].nonzero()[:, 0]
        free = (~open_B[:count]).nonzero()[: len(moved), 0]
        order = torch.arange(count, device=free.device)
        order[free] = moved
        self.keys[:, free], self.values[:, free] = self.keys[:, moved], self.values[:, moved]
        self.keys, self.values = self.keys[:, :count], self.values[:, :count]
        self.alive, self.lengths_B = self.alive[order], self.lengths_B[order]
        return tokens_B[order]
