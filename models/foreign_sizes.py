"""The sizes of a model that only transformers computes, out of its configuration and of what was seen at work."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from models.adapted import AdaptedArchitecture, body_of
from models.failure import ModelError
from models.foreign_check import Heads

FAMILY = "transformers"
CONTEXTS = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length", "n_ctx")
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
STRETCHED = ("longrope", "dynamic")  # rotary angles that hang on the longest text of a batch


def refuse_softcap(config: Any) -> None:
    """Capped logits look like others while they are small, so a check on a short text would not see them."""
    for name, value in config.to_dict().items():
        if re.search(r"soft_?cap", name) and value:
            raise ModelError(f"{config.model_type!r} models with {name} cannot be computed here: use another model")


def read_sizes(model: Any, config: Any, seen: Heads, vocabulary: int) -> AdaptedArchitecture:
    """What budgets, caches and refusals of long texts need to know; how it computes is the model's own business."""
    embedding = model.get_input_embeddings().weight
    full = next((n for name in CONTEXTS if isinstance(n := getattr(config, name, None), int) and n > 0), None)
    if full is None:
        raise ModelError(f"{type(model).__name__} does not say how many tokens it reads at once: use another model")
    context = min((full, *_limits(config)))
    return AdaptedArchitecture(
        family=FAMILY,
        vocabulary=vocabulary,
        context=context,
        full_context=full if context < full else None,
        width=model.get_output_embeddings().weight.shape[1],
        depth=config.num_hidden_layers,
        heads=seen.queries,
        kv_heads=seen.keys,
        head_width=seen.width,
        hidden=_hidden(config),
        norm_eps=1e-5,  # never looked at, like the other features
        rotary=False,
        tied=model.get_output_embeddings().weight is embedding,
        matrices=_matrices(body_of(model), config),
    )


def _hidden(config: Any) -> int:
    sizes = (getattr(config, name, None) for name in ("intermediate_size", "ffn_dim", "n_inner"))
    return next((size for size in sizes if isinstance(size, int) and size > 0), 4 * config.hidden_size)


def _limits(config: Any) -> Iterator[int]:
    """Tokens up to which a window, a chunk or a stretched rotary angle leaves everything as it is."""
    said = config.to_dict()
    kinds = said.get("layer_types") or ["unknown"]
    if said.get("use_sliding_window", True) and any(kind != "full_attention" for kind in kinds):
        for name, value in said.items():
            if re.search(r"(window|window_size|chunk_size)$", name) and _is_count(value):
                yield value
    for scaling in _dicts(said.get("rope_parameters"), said.get("rope_scaling")):
        if scaling.get("rope_type", scaling.get("type")) in STRETCHED:
            value = scaling.get("original_max_position_embeddings") or said.get("original_max_position_embeddings")
            yield value or said["max_position_embeddings"]


def _dicts(*found: Any) -> Iterator[Mapping[str, Any]]:
    for value in found:
        if isinstance(value, Mapping):
            yield value
            yield from _dicts(*value.values())


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _matrices(body: Any, config: Any) -> int:
    """Entries of matrices that a token passes through: of routed experts the share that works on one token.

    Where a configuration does not say how many that are, all are counted.
    """
    looked_up = {id(m.weight) for m in body.modules() if isinstance(m, nn.Embedding)}
    chosen = getattr(config, "num_experts_per_tok", None)
    experts = next((n for name in EXPERTS if (n := getattr(config, name, None))), None)
    share = chosen / experts if chosen and experts else 1.0
    total = 0.0
    for name, parameter in body.named_parameters():
        if parameter.ndim > 1 and id(parameter) not in looked_up:
            total += parameter.numel() * (share if re.search(r"(^|\.)experts\.", name) else 1.0)
    return max(1, round(total))
