"""GPT-2 in all its sizes: LayerNorm, learned positions, GELU (tanh), biases everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.architecture import Architecture
from models.families.configuration import refuse_unless
from models.families.family import Config, Family
from models.families.layout import Layout

# What GPT-2's configuration could say otherwise, and never does in its published sizes.
ALWAYS = {
    "activation_function": "gelu_new",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}
FEATURES: Mapping[str, Any] = {
    "norm": "layer",
    "rotary": False,
    "qkv_bias": True,
    "out_bias": True,
    "feed_bias": True,
    "gated": False,
    "activation": "gelu_tanh",
}
LAYOUT = Layout(
    prefix="transformer.",
    outer={"embedding": "wte", "positions": "wpe", "norm": "ln_f", "untied_head": "lm_head"},
    block="h.{}.",
    parts={
        "attention_norm": ("ln_1",),
        "qkv": ("attn.c_attn",),
        "out": ("attn.c_proj",),
        "feed_norm": ("ln_2",),
        "up": ("mlp.c_fc",),
        "down": ("mlp.c_proj",),
    },
    input_first=True,
)
GGUF_LAYOUT = Layout(
    outer={
        "embedding": "token_embd",
        "positions": "position_embd",
        "norm": "output_norm",
        "untied_head": "output",
    },
    block="blk.{}.",
    parts={
        "attention_norm": ("attn_norm",),
        "qkv": ("attn_qkv",),
        "out": ("attn_output",),
        "feed_norm": ("ffn_norm",),
        "up": ("ffn_up",),
        "down": ("ffn_down",),
    },
)


def read(config: Config) -> dict[str, Any]:
    refuse_unless(config, **ALWAYS)
    width, heads = config["n_embd"], config["n_head"]
    return {
        "vocabulary": config["vocab_size"],
        "context": config["n_positions"],
        "width": width,
        "depth": config["n_layer"],
        "heads": heads,
        "kv_heads": heads,
        "head_width": width // heads,
        "hidden": config.get("n_inner") or 4 * width,
        "norm_eps": config["layer_norm_epsilon"],
        "tied": bool(config.get("tie_word_embeddings", True)),
    }


def write(a: Architecture) -> dict[str, Any]:
    return ALWAYS | {
        "vocab_size": a.vocabulary,
        "n_positions": a.context,
        "n_embd": a.width,
        "n_layer": a.depth,
        "n_head": a.heads,
        "n_inner": a.hidden,
        "layer_norm_epsilon": a.norm_eps,
        "tie_word_embeddings": a.tied,
    }


FAMILY = Family(
    name="gpt2",
    class_name="GPT2LMHeadModel",
    features=FEATURES,
    read=read,
    write=write,
    layout=LAYOUT,
    gguf_name="gpt2",
    gguf_layout=GGUF_LAYOUT,
)
