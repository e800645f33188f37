"""Qwen 3 (dense): Llama with normed queries and keys, and heads of a width of their own."""

from __future__ import annotations

from typing import Any

from models.architecture import Architecture
from models.families.configuration import layers_window, read_sizes, read_window, refuse_unless, write_sizes
from models.families.family import Config, Family
from models.families.llama import GGUF_RELATIVES, LAYOUT


def read(config: Config) -> dict[str, Any]:
    refuse_unless(config, hidden_act="silu", attention_bias=False)
    return read_sizes({"head_dim": 128, **config}) | read_window(config, layers_window(config))


def write(a: Architecture) -> dict[str, Any]:
    """A context that a window had cut is written cut, without a window: the same model as far as it goes."""
    return write_sizes(a) | {"hidden_act": "silu", "attention_bias": False, "use_sliding_window": False}


FAMILY = Family(
    name="qwen3",
    class_name="Qwen3ForCausalLM",
    features={"qk_norm": True},
    read=read,
    write=write,
    layout=LAYOUT,
    gguf_name="qwen3",
    gguf_layout=GGUF_RELATIVES,
)
