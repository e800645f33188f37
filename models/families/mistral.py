"""Mistral: Llama whose attention may reach back only so far. We read no more than that at once, which is then exact."""

from __future__ import annotations

from typing import Any

from models.architecture import Architecture
from models.families.configuration import read_sizes, read_window, refuse_unless, write_sizes
from models.families.family import Config, Family
from models.families.llama import GGUF_LAYOUT, LAYOUT


def read(config: Config) -> dict[str, Any]:
    refuse_unless(config, hidden_act="silu")
    return read_sizes(config) | read_window(config, config.get("sliding_window", 4096))


def write(a: Architecture) -> dict[str, Any]:
    window = None if a.full_context is None else a.context
    said = {"max_position_embeddings": a.full_context or a.context, "sliding_window": window, "hidden_act": "silu"}
    return write_sizes(a) | said


FAMILY = Family(
    name="mistral",
    class_name="MistralForCausalLM",
    features={},
    read=read,
    write=write,
    layout=LAYOUT,
    gguf_name="llama",
    gguf_layout=GGUF_LAYOUT,
)
