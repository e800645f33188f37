"""Qwen 2 and 2.5: Llama with biases on queries, keys and values."""

from __future__ import annotations

from typing import Any

from models.architecture import Architecture
from models.families.configuration import layers_window, read_sizes, read_window, refuse_unless, write_sizes
from models.families.family import Config, Family
from models.families.llama import GGUF_RELATIVES, LAYOUT


def read(config: Config) -> dict[str, Any]:
    refuse_unless(config, hidden_act="silu")
    return read_sizes(config) | read_window(config, layers_window(config))


def write(a: Architecture) -> dict[str, Any]:
    """A context that a window had cut is written cut, without a window: the same model as far as it goes."""
    return write_sizes(a) | {"hidden_act": "silu", "use_sliding_window": False}


FAMILY = Family(
    name="qwen2",
    class_name="Qwen2ForCausalLM",
    features={"qkv_bias": True},
    read=read,
    write=write,
    layout=LAYOUT,
    gguf_name="qwen2",
    gguf_layout=GGUF_RELATIVES,
)
