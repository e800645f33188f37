"""What a bench computes at once, so that it fits into the memory that it may take."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from harness.errors import HarnessError
from harness.ground import Ground, Say
from harness.recipes.registry import Choice
from harness.settings import Asked
from harness.tokenised import FEW, TokenRows, longest_row
from harness.training.footprint import Footprint, most_that_fits
from harness.training.memory import AUTO, held_bytes, memory_limit
from models.room import Rooms


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """Sizes for one bench on one machine: never above the usual ones, and halved until they fit."""

    asked: str  # --memory
    limit: int  # bytes that the process may hold on its device
    footprint: Footprint
    longest: int  # tokens of the longest row
    batch_pairs: int  # rows of a step
    answer: int  # tokens of the longest answer, its prompt included

    def choose(self, usual: int, say: Say) -> int:
        """Tokens of a micro-batch, `usual` at most; HarnessError where, by the estimate, not even one row fits."""
        found = self._tokens(usual)
        if found is None:
            needed = self.footprint.training(self.longest, self.longest)
            has = f"--memory {self.asked}" if self.asked != AUTO else f"the {_size(self.limit)} of memory left here"
            smaller = "" if self.footprint.adapter else "train an adapter (--adapter lora:r=16), "
            raise HarnessError(
                f"{has} is too little: training takes about {_size(needed)}, with one row of {self.longest:,} tokens "
                f"at a time: choose a smaller model, {smaller}shorten the longest rows, or give more memory (--memory)"
            )
        if found < usual:
            say(
                f"to fit into {_size(self.limit)} of memory, a micro-batch holds {found:,} tokens instead of "
                f"{usual:,}: the same gradients but for rounding, some more time"
            )
        return found

    def within(self, begun: int, say: Say) -> int:
        """Tokens of a micro-batch for a bench that was begun with so many: no more, and less where they do not fit.

        Nothing is refused, since what is still to be trained may be nothing.
        """
        found = min(begun, self._tokens(begun) or self.longest)
        if found < begun:
            say(
                f"this run was begun with micro-batches of {begun:,} tokens, and here {found:,} fit: the same "
                "gradients but for rounding"
            )
        return found

    def narrow(self, rooms: Rooms) -> None:
        """Let measuring, too, compute no more at once than fits."""
        footprint, row, answer = self.footprint, self.longest, self.answer
        reading, writing = rooms.reading, rooms.writing
        reading.most = most_that_fits(reading.most, lambda n: footprint.reading(n, row), self.limit) or 1
        writing.most = most_that_fits(writing.most, lambda n: footprint.writing(n, answer), self.limit) or 1

    def _tokens(self, most: int) -> int | None:
        longest, step = self.longest, self.longest * self.batch_pairs

        def needs(tokens: int) -> int:
            return self.footprint.training(min(max(tokens, longest), step), longest)

        return most_that_fits(most, needs, self.limit)


def fit(asked: Asked, ground: Ground, choices: Sequence[Choice], dtype: torch.dtype) -> Fitting:
    """For a bench whose model, data and judges are in memory by now."""
    terms = ground.terms
    assert isinstance(terms.pair_rows, TokenRows)
    return Fitting(
        asked=asked.memory,
        limit=memory_limit(asked.memory, ground.device),
        footprint=Footprint(
            architecture=terms.architecture,
            trained=terms.weights,
            adapter=terms.adapter is not None,
            moving=any(stage.reference.moves for choice in choices for stage in choice.stages),
            dtype=dtype,
            held=held_bytes(ground.device),
        ),
        longest=longest_row(terms.pair_rows),
        batch_pairs=terms.batch_pairs,
        answer=_longest_prompt(ground) + asked.max_new_tokens,
    )


def _longest_prompt(ground: Ground) -> int:
    """Tokens of the longest held-out prompt, by the few whose texts are longest."""
    longest = heapq.nlargest(FEW, (pair.prompt for pair in ground.askable), key=len)
    return max(len(ground.tokens.encode_prompt(prompt)) for prompt in longest)


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"
