"""A small random model of each family as transformers makes it, with the features that are published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

VOCABULARY = 270  # a token for each byte, and some
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "eos_token_id": 0,
    "bos_token_id": None,
    "pad_token_id": None,  # transformers gives the padding token's embedding no gradient
}
GPT2_SIZES: dict[str, Any] = {
    **{"vocab_size": VOCABULARY, "n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4},
    **{"initializer_range": 0.2, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    **{"eos_token_id": 0, "bos_token_id": None},
}
LLAMA3_ROPE = {  # fast, mixed and slow turns are all there
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
SHORT_ROPE = LLAMA3_ROPE | {"rope_theta": 10_000.0, "original_max_position_embeddings": 16}
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}
CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SIZES),
    "llama, tied": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "llama 3": LlamaConfig(**SIZES, rope_parameters=LLAMA3_ROPE),
    "llama 3, short": LlamaConfig(**SIZES, rope_parameters=SHORT_ROPE),
    "llama, linear scaling": LlamaConfig(**SIZES, rope_parameters=LINEAR_ROPE),
    "llama, biases": LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True),
    "gpt2": GPT2Config(**GPT2_SIZES),
    "gpt2, untied": GPT2Config(**GPT2_SIZES, tie_word_embeddings=False),
    "qwen2": Qwen2Config(**SIZES),
    "qwen2, tied": Qwen2Config(**SIZES, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**SIZES, head_dim=16),
    "mistral": MistralConfig(**SIZES, sliding_window=None),
    "mistral, window": MistralConfig(**SIZES, sliding_window=40),
    "gemma": GemmaConfig(**SIZES, head_dim=16),
}


def random_model(name: str) -> PreTrainedModel:
    """The same on every call, with no weight at what it starts at: biases of 0 and norms of 1 would hide a mix-up."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(CONFIGS[name]).eval()
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def saved(name: str, folder: Path, **asked: Any) -> PreTrainedModel:
    """The model, saved by transformers."""
    model = random_model(name)
    model.save_pretrained(folder, **asked)
    return model


def their_logits(model: PreTrainedModel, tokens: Sequence[int]) -> Tensor:
    """(N, V)."""
    with torch.no_grad():
        logits: Tensor = model(torch.tensor([list(tokens)])).logits[0]
    return logits


def some_tokens(count: int = 40) -> tuple[int, ...]:
    """Of the vocabulary, the end token not among them."""
    draws = torch.randint(1, VOCABULARY, (count,), generator=torch.Generator().manual_seed(2))
    return tuple(draws.tolist())
