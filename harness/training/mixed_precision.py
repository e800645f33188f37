"""Float32 masters beside the matrices that are multiplied (mixed precision, arXiv:1710.03740).

AdamW steps on the masters; passes read a copy of each matrix in a narrower dtype, cast once a step and not once a
micro-batch. A copy's gradient is added to its master's in float32 as soon as it is there, in memory that is taken once:
what each step takes anew and frees costs first touches and, where memory is kept (memory.py), leaves holes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.adapted import Adapted
from models.decoder import Decoder
from models.low_rank import own_weights

PIECE = 2**18  # numbers


class MixedPrecision:
    """A policy to train or a reference that moves: `masters`, and `computing`, what passes go through.

    In float32 they are one and the same. A graph may use the LM head once: all backward passes write its gradient to
    one place.
    """

    def __init__(self, masters: Decoder, dtype: torch.dtype) -> None:
        """Made when it is known which of the masters need gradients. What is no matrix is shared, in float32."""
        self.masters = self.computing = masters
        self._copies: list[tuple[Tensor, Tensor]] = []  # master and copy, of what may change
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
                    layer.weight.requires_grad_(True).register_post_accumulate_grad_hook(_adding_to(master))
                if id(master) in own:
                    self._copies.append((master, layer.weight))
        if self.computing.head.requires_grad:
            self.computing.head_gradient = torch.empty_like(self.computing.head)

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


def _adding_to(master: Tensor) -> Callable[[Tensor], None]:
    """Moves a copy's gradient to its master; the first of a step takes the place of the last step's."""
    total = torch.empty_like(master)

    def move(copy: Tensor) -> None:
        assert copy.grad is not None
        if master.grad is None:
            master.grad = total.copy_(copy.grad)
        else:
            # A processor casts what it adds into memory first, and a piece of it stays in cache.
            most = PIECE if copy.device.type == "cpu" else max(1, copy.numel())
            pieces = (gradient.view(-1).split(most) for gradient in (master.grad, copy.grad))
            for mine, theirs in zip(*pieces, strict=True):
                mine.add_(theirs)
        copy.grad = None

    return move
