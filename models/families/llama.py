"""Llama 1 to 3, SmolLM, TinyLlama and whatever else calls itself one: RMSNorm, rotary positions, SwiGLU."""

from __future__ import annotations

from typing import Any

from models.architecture import Architecture
from models.failure import ModelError
from models.families.configuration import read_sizes, refuse_unless, write_sizes
from models.families.family import Config, Family
from models.families.layout import Layout

LAYOUT = Layout(
    prefix="model.",
    outer={"embedding": "embed_tokens", "norm": "norm", "untied_head": "lm_head"},
    block="layers.{}.",
    parts={
        "attention_norm": ("input_layernorm",),
        "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "query_norm": ("self_attn.q_norm",),
        "key_norm": ("self_attn.k_norm",),
        "out": ("self_attn.o_proj",),
        "feed_norm": ("post_attention_layernorm",),
        "up": ("mlp.gate_proj", "mlp.up_proj"),
        "down": ("mlp.down_proj",),
    },
)
GGUF_PARTS = {
    "attention_norm": ("attn_norm",),
    "qkv": ("attn_q", "attn_k", "attn_v"),
    "query_norm": ("attn_q_norm",),
    "key_norm": ("attn_k_norm",),
    "out": ("attn_output",),
    "feed_norm": ("ffn_norm",),
    "up": ("ffn_gate", "ffn_up"),
    "down": ("ffn_down",),
}
GGUF_OUTER = {"embedding": "token_embd", "norm": "output_norm", "untied_head": "output"}
# Llama's rotary features alternate in GGUF; its relatives' stay in two halves.
GGUF_LAYOUT = Layout(outer=GGUF_OUTER, block="blk.{}.", parts=GGUF_PARTS, interleaved=True)
GGUF_RELATIVES = Layout(outer=GGUF_OUTER, block="blk.{}.", parts=GGUF_PARTS)


def read(config: Config) -> dict[str, Any]:
    """Biases are everywhere in attention, or in the feed-forward layer, or nowhere."""
    refuse_unless(config, hidden_act="silu")
    biased = bool(config.get("attention_bias"))
    biases = {"qkv_bias": biased, "out_bias": biased, "feed_bias": bool(config.get("mlp_bias"))}
    return read_sizes(config) | biases


def write(a: Architecture) -> dict[str, Any]:
    """ModelError for biases that no config.json of Llama can say."""
    if a.qkv_bias != a.out_bias:
        raise ModelError("a llama with biases in a part of its attention has no config.json: write it as GGUF")
    said = {"hidden_act": "silu", "attention_bias": a.qkv_bias, "mlp_bias": a.feed_bias}
    return write_sizes(a) | said


FAMILY = Family(
    name="llama",
    class_name="LlamaForCausalLM",
    features={},
    read=read,
    write=write,
    layout=LAYOUT,
    gguf_name="llama",
    gguf_layout=GGUF_LAYOUT,
)
