"""What a GGUF file's fields say about the architecture, for every family. Both directions.

Key names are those of the ggml project's GGUF specification; `llama3` scaling is a tensor there, not a field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from models.architecture import Architecture, RopeScaling
from models.decoder import slowing, turns
from models.failure import ModelError
from models.families.family import Family

SLOWING = "rope_freqs.weight"  # what each turn is divided by
_EPSILON = {"rms": "attention.layer_norm_rms_epsilon", "layer": "attention.layer_norm_epsilon"}


def read_architecture(family: Family, fields: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Architecture:
    """From the fields, and from which tensors there are."""
    start = f"{family.gguf_name}."
    said = {name.removeprefix(start): fields[name] for name in fields if name.startswith(start)}
    features: dict[str, Any] = {
        "qkv_bias": "blk.0.attn_q.bias" in tensors,
        "out_bias": "blk.0.attn_output.bias" in tensors,
        "feed_bias": "blk.0.ffn_up.bias" in tensors,
        **family.features,
    }
    unscaled = Architecture(
        family=family.name,
        vocabulary=len(tensors["token_embd.weight"]),
        norm_eps=said[_EPSILON[features.get("norm", "rms")]],
        rope_base=said.get("rope.freq_base", 10_000.0),
        tied="output.weight" not in tensors,
        **_read_sizes(said),
        **features,
    )
    return replace(unscaled, rope_scaling=_read_scaling(unscaled, said, tensors))


def _read_sizes(said: Mapping[str, Any]) -> dict[str, Any]:
    heads, width, context = said["attention.head_count"], said["embedding_length"], said["context_length"]
    turned = said.get("rope.dimension_count", width // heads)
    head_width = said.get("attention.key_length", turned)
    if {head_width, said.get("attention.value_length", head_width), turned} != {head_width}:
        raise ModelError("its heads turn only in part, or keys and values differ in width, which is not known")
    window = said.get("attention.sliding_window") or context
    return {
        "context": min(window, context),
        "full_context": context if window < context else None,
        "width": width,
        "depth": said["block_count"],
        "heads": heads,
        "kv_heads": said.get("attention.head_count_kv", heads),
        "head_width": head_width,
        "hidden": said["feed_forward_length"],
    }


def _read_scaling(a: Architecture, said: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> RopeScaling | None:
    if SLOWING in tensors:
        return _recognised(a, tensors[SLOWING])
    factor = said.get("rope.scaling.factor") or said.get("rope.scale_linear") or 1.0
    kind = said.get("rope.scaling.type", "none" if factor == 1 else "linear")
    if kind == "none":
        return None
    if kind != "linear":
        raise ModelError(f"its rotary scaling is {kind!r}: only linear and Llama 3's are known")
    return RopeScaling(kind="linear", factor=factor)


def _recognised(a: Architecture, slow_E: Tensor) -> RopeScaling:
    """Llama 3's scaling by what it does to the slowest turn, all published ones having the same bounds."""
    turns_E, guess = turns(a), RopeScaling(kind="llama3", factor=1.0)
    kept = ((guess.original * turns_E[-1] / (2 * torch.pi) - guess.low) / (guess.high - guess.low)).clamp(0, 1)
    factor = round(float((1 - kept) / (1 / slow_E[-1] - kept)), 3)
    if factor > 0 and slow_E.shape == turns_E.shape:
        scaling = replace(guess, factor=factor)
        if torch.allclose(slowing(turns_E, scaling), slow_E, rtol=1e-3):
            return scaling
    raise ModelError("its rotary scaling is not Llama 3's, nor another one that is known: bring its safetensors")


def write_architecture(family: Family, a: Architecture) -> dict[str, Any]:
    """The fields. A context that a window had cut is written cut: the same model as far as it goes."""
    said: dict[str, Any] = {
        "vocab_size": a.vocabulary,
        "context_length": a.context,
        "embedding_length": a.width,
        "block_count": a.depth,
        "feed_forward_length": a.hidden,
        "attention.head_count": a.heads,
        "attention.head_count_kv": a.kv_heads,
        _EPSILON[a.norm]: a.norm_eps,
    }
    if a.rotary:
        said |= {"attention.key_length": a.head_width, "attention.value_length": a.head_width}
        said |= {"rope.dimension_count": a.head_width, "rope.freq_base": float(a.rope_base)}
    if a.rope_scaling is not None and a.rope_scaling.kind == "linear":
        said |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(a.rope_scaling.factor)}
    return {f"{family.gguf_name}.{name}": value for name, value in said.items()}


def written_slowing(a: Architecture) -> dict[str, Tensor]:
    """The tensor that says Llama 3's scaling, where there is one."""
    if a.rope_scaling is None or a.rope_scaling.kind != "llama3":
        return {}
    return {SLOWING: slowing(turns(a), a.rope_scaling)}
