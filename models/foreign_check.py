"""What a foreign model is checked on: texts apart, as its own code computes them, against the same texts packed.

Shapes: N tokens · M response tokens · V vocabulary · H heads · K key/value heads · E head width.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.adapted import ATTENTION, Adapted, blocks_of, body_of, run_body
from models.failure import ModelError
from models.packing import Packed, Row


class Heads(NamedTuple):
    """What attention is given in every layer."""

    queries: int
    keys: int
    width: int


def sample(vocabulary: int) -> list[Row]:
    """Two prompts with a common beginning, each with two responses that begin alike too, of any tokens."""
    draw = random.Random(0)

    def some(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(vocabulary) for _ in range(count))

    start = some(5)

    def responses(shared: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        return shared + some(7), shared + some(4)

    return [Row(prompt=start + some(own), responses=responses(some(2))) for own in (4, 7)]


@torch.no_grad()
def logits_apart(model: Any, rows: list[Row]) -> Tensor:
    """Of each response token, (M, V), as transformers computes them on each text alone."""
    parts = []
    model.set_attn_implementation("eager")
    for row in rows:
        for response in row.responses:
            logits = model(torch.tensor([row.prompt + response]), use_cache=False).logits[0].float()
            parts.append(logits[len(row.prompt) - 1 : -1])
    model.set_attn_implementation(ATTENTION)
    return torch.cat(parts)


@torch.no_grad()
def logits_packed(adapted: Adapted, batch: Packed) -> Tensor:
    """The same, (M, V), as they come out behind our interface."""
    hidden_ND, _ = adapted(batch.tokens_N, batch.positions_N, batch.attend, dtype=torch.float32)
    logits_MV: Tensor = hidden_ND[batch.sources_U[batch.places_M]] @ adapted.head.T
    return logits_MV


def ratio(ours_MV: Tensor, own_MV: Tensor) -> float:
    """What the model multiplies its logits by (Cohere, Granite), from the logits themselves; one in most."""
    ours, own = ours_MV.double(), own_MV.double()
    scale = float((ours * own).sum() / (ours * ours).sum())
    return 1.0 if abs(scale - 1) < 1e-3 else scale


def observe(model: Any, batch: Packed) -> Heads:
    """Query heads, key heads and their width, which have to be the same in all layers, and each has to attend."""
    seen: dict[int, Heads] = {}

    def attend(layer: int, query_NHE: Tensor, key_NKE: Tensor, value_NKE: Tensor) -> Tensor:
        if layer in seen or key_NKE.shape[1:] != value_NKE.shape[1:]:
            raise ModelError(f"{kind} attends otherwise than once a layer: use another model")
        seen[layer] = Heads(query_NHE.shape[1], key_NKE.shape[1], query_NHE.shape[2])
        return batch.attend(layer, query_NHE, key_NKE, value_NKE)

    kind, body = type(model).__name__, body_of(model)
    depth = len(blocks_of(body))
    run_body(body, batch.tokens_N, batch.positions_N, attend, torch.float32)
    if sorted(seen) != list(range(depth)):
        raise ModelError(
            f"{kind} attends in {len(seen)} of its {depth} layers in the way that transformers lets others compute, "
            "and all have to: use another model"
        )
    if len(set(seen.values())) > 1:
        raise ModelError(f"{kind} has other heads in other layers, which no cache here can hold: use another model")
    return seen[0]
