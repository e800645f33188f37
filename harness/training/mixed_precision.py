"""Float32 masters beside the matrices that are multiplied (mixed precision, arXiv:1710.03740).

AdamW steps on the masters; passes read a copy of each matrix in a narrower dtype, cast once a step and not once a
micro-batch. A copy's gradient comes in its own dtype: where a step is one pass, a processor leaves it there until the
update; those of several passes are added up in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models import kernels
from models.adapted import Adapted
from models.decoder import Decoder
from models.kernels import Added
from models.low_rank import own_weights


class Learnt(NamedTuple):
    """A weight's gradient after the backward passes of a step: in float32, or as a lone pass left it."""

    master: Tensor
    gradient: Tensor
    copy: Tensor | None
    added: Added | None  # to the gradient: a tied embedding's rows, beside its head's

    def in_float(self) -> Tensor:
        """The gradient with what is added to it, in float32."""
        if self.added is None:
            return self.gradient.float()
        rows = (self.added.of_row >= 0).nonzero()[:, 0]
        more = self.added.rows.index_select(0, self.added.of_row.index_select(0, rows))
        return self.gradient.float().index_add(0, rows, more)


class MixedPrecision:
    """A policy to train or a reference that moves: `masters`, and `computing`, what passes go through.

    In float32 they are one and the same. A graph may use the LM head once: all backward passes write its gradient to
    one place.
    """

    def __init__(self, masters: Decoder, dtype: torch.dtype) -> None:
        """Made when it is known which of the masters need gradients. What is no matrix is shared, in float32."""
        self.masters = self.computing = masters
        self._copies: list[tuple[Tensor, Tensor]] = []  # master and copy, of what may change
        self._passes = _Passes()
        # transformers' own code casts by itself.
        if dtype == torch.float32 or isinstance(masters, Adapted):
            return
        self.computing = masters.in_dtype(dtype)
        own = {id(weight) for weight in own_weights(masters).values()}
        for name, layer in self.computing.named_modules():
            if isinstance(layer, nn.Linear):
                # A tied head has a matrix of its own here, whose master is the embedding.
                head = layer is self.computing.untied_head
                master = masters.head if head else masters.get_parameter(f"{name}.weight")
                if master.requires_grad:
                    layer.weight.requires_grad_(True).register_post_accumulate_grad_hook(_into(master, self._passes))
                if id(master) in own:
                    self._copies.append((master, layer.weight))
        if self.computing.head.requires_grad:
            self.computing.head_gradient = torch.empty_like(self.computing.head)

    def expect(self, passes: int) -> None:
        """So many backward passes until the update. Of a lone one a processor leaves gradients where they are."""
        self._passes.lone = passes == 1 and self.masters.device.type == "cpu"

    def learnt(self) -> list[Learnt]:
        """Of all that is trained, what has a gradient."""
        copies = {id(master): copy for master, copy in self._copies}
        found = []
        for master in own_weights(self.masters).values():
            copy = copies.get(id(master))
            if copy is not None and copy.grad is not None:
                added = None if master.grad is None else _rows_of(master.grad)
                found.append(Learnt(master, copy.grad.contiguous(), copy, added))
            elif master.grad is not None:
                found.append(Learnt(master, master.grad.contiguous(), copy, added=None))
        return found

    def zero_grad(self) -> None:
        """Forget the gradients, also those that a backward pass left when it failed."""
        self.masters.zero_grad(set_to_none=True)
        for _, copy in self._copies:
            copy.grad = None

    @torch.no_grad()
    def refresh(self) -> None:
        """Cast those masters again that may have changed."""
        for master, copy in self._copies:
            copy.copy_(master)


class _Passes:
    """What is known of a step's backward passes, apart from the policy: a hook that held that would be a circle."""

    lone = False


def _into(master: Tensor, passes: _Passes) -> Callable[[Tensor], None]:
    """Moves a copy's gradient to its master as soon as it is there, unless the pass is a lone one.

    Sums lie in memory that is taken once: what each step takes anew and frees costs first touches and leaves holes.
    """
    total: Tensor | None = None

    def move(copy: Tensor) -> None:
        nonlocal total
        if passes.lone:
            return
        assert copy.grad is not None
        if first := master.grad is None:
            master.grad = total = torch.empty_like(master) if total is None else total
        assert master.grad is not None
        if kernels.take(master.grad) and kernels.take(copy.grad):
            kernels.add(master.grad, copy.grad, first=first)
        elif first:
            master.grad.copy_(copy.grad)
        else:
            master.grad.add_(copy.grad)
        copy.grad = None

    return move


def _rows_of(gradient: Tensor) -> Added:
    """A sparse gradient's."""
    gradient = gradient.coalesce()
    places = gradient.indices()[0]
    of_row = torch.full(gradient.shape[:1], -1, dtype=torch.int32)
    of_row[places] = torch.arange(len(places), dtype=torch.int32)
    return Added(of_row, gradient.values().float().contiguous())
