"""Gemma 1: norms' weights count from 1, the gate is a GELU, embeddings are scaled up. (2 and 3 are other models.)"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from models.architecture import Architecture
from models.families.configuration import read_sizes, refuse_unless, write_sizes
from models.families.family import Config, Family
from models.families.llama import GGUF_RELATIVES, LAYOUT

ACTIVATION = "gelu_pytorch_tanh"


def read(config: Config) -> dict[str, Any]:
    """The first releases say `gelu` and mean its approximation by tanh, as transformers knows."""
    said = {name: config.get(name) or ACTIVATION for name in ("hidden_act", "hidden_activation")}
    meant = {name: ACTIVATION if kind == "gelu" else kind for name, kind in said.items()}
    known = {"hidden_act": ACTIVATION, "hidden_activation": ACTIVATION, "attention_bias": False}
    refuse_unless({**config, **meant}, **known, use_bidirectional_attention=None)
    return read_sizes({"head_dim": 256, "tie_word_embeddings": True, **config})


def write(a: Architecture) -> dict[str, Any]:
    return write_sizes(a) | {"hidden_act": ACTIVATION, "hidden_activation": ACTIVATION, "attention_bias": False}


FAMILY = Family(
    name="gemma",
    class_name="GemmaForCausalLM",
    features={"norm_offset": 1.0, "activation": "gelu_tanh", "scaled_embedding": True},
    read=read,
    write=write,
    layout=LAYOUT,
    gguf_name="gemma",
    gguf_layout=replace(GGUF_RELATIVES, offset_added=True),
)
