"""The decoder computes what transformers computes, for both families and for the embedded model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from models.architecture import Architecture
from models.decoder import Decoder
from models.logprobs import sum_logps
from models.packing import Row, pack
from models.tokens import Tokens
from models.weights import load_folder_weights
from tests.tiny import GPT2, LLAMA, decoder_of, logits_of, pair_rows

LLAMA_SIZES: dict[str, Any] = {
    "vocab_size": 67,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
GPT2_SIZES: dict[str, Any] = {
    "vocab_size": 67,
    "n_positions": 64,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "initializer_range": 0.2,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
}
MODELS: dict[str, tuple[type[PreTrainedModel], Any]] = {
    "llama, untied head": (LlamaForCausalLM, LlamaConfig(**LLAMA_SIZES, tie_word_embeddings=False)),
    "llama, tied head": (LlamaForCausalLM, LlamaConfig(**LLAMA_SIZES, tie_word_embeddings=True)),
    "llama, grouped queries": (LlamaForCausalLM, LlamaConfig(**LLAMA_SIZES | {"num_key_value_heads": 2})),
    "llama, one key head": (LlamaForCausalLM, LlamaConfig(**LLAMA_SIZES | {"num_key_value_heads": 1})),
    "llama, wide heads": (LlamaForCausalLM, LlamaConfig(**LLAMA_SIZES, head_dim=16)),
    "llama, other rope base": (
        LlamaForCausalLM,
        LlamaConfig(**LLAMA_SIZES, rope_parameters={"rope_type": "default", "rope_theta": 500.0}),
    ),
    "llama, other epsilon": (LlamaForCausalLM, LlamaConfig(**LLAMA_SIZES, rms_norm_eps=1e-2)),
    "gpt2": (GPT2LMHeadModel, GPT2Config(**GPT2_SIZES)),
    "gpt2, narrow feed-forward": (GPT2LMHeadModel, GPT2Config(**GPT2_SIZES, n_inner=48)),
}
TEXTS = ("The capital of France is", "Dear Sir,\n\nthank you for 12 eggs.", "def f(x):\n    return x + 1  # ok", "1")


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    """A random model saved by transformers gives the same logits when we load it."""
    kind, config = MODELS[name]
    torch.manual_seed(1)
    theirs = kind(config).eval()
    for parameter in theirs.parameters():  # biases and norms start at 0 and 1, which would hide a mix-up
        parameter.data += 0.1 * torch.randn_like(parameter)
    theirs.save_pretrained(tmp_path)
    tokens = torch.randint(config.vocab_size, (40,))
    ours = load_folder_weights(tmp_path)
    with torch.no_grad():
        wanted = theirs(tokens[None]).logits[0]
    torch.testing.assert_close(logits_of(ours, tuple(tokens.tolist())), wanted, atol=1e-4, rtol=0)


def test_a_model_in_several_files_is_one_model(tmp_path: Path) -> None:
    """Sharded safetensors load as the whole."""
    torch.manual_seed(2)
    theirs = LlamaForCausalLM(LlamaConfig(**LLAMA_SIZES)).eval()
    theirs.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    tokens = tuple(range(20))
    with torch.no_grad():
        wanted = theirs(torch.tensor([tokens])).logits[0]
    torch.testing.assert_close(logits_of(load_folder_weights(tmp_path), tokens), wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("text", TEXTS)
def test_smollm2_logits_are_those_of_transformers(
    text: str, smollm2: tuple[Decoder, Tokens], smollm2_in_transformers: LlamaForCausalLM
) -> None:
    """The embedded model read from its GGUF file gives transformers' logits."""
    decoder, tokens = smollm2
    ids = tokens.encode(text)
    with torch.no_grad():
        wanted = smollm2_in_transformers(torch.tensor([ids])).logits[0]
    torch.testing.assert_close(logits_of(decoder, ids), wanted, atol=1e-4, rtol=0)


def test_smollm2_knows_the_capital_of_france(smollm2: tuple[Decoder, Tokens]) -> None:
    """The weights mean something: a mistake that both libraries shared would not say Paris."""
    decoder, tokens = smollm2
    likeliest = logits_of(decoder, tokens.encode("The capital of France is"))[-1].argmax()
    assert tokens.decode([int(likeliest)]) == " Paris"


@pytest.fixture(scope="module")
def smollm2_in_transformers(smollm2_path: Path) -> LlamaForCausalLM:
    """transformers' Llama with the GGUF's tensors, mapped here on their own."""
    reader = gguf.GGUFReader(smollm2_path)
    theirs = {t.name: np.array(gguf.dequantize(t.data, t.tensor_type)) for t in reader.tensors}
    number = {name: reader.fields[f"llama.{name}"].contents() for name in GGUF_NUMBERS}
    config = LlamaConfig(
        vocab_size=len(theirs["token_embd.weight"]),
        hidden_size=number["embedding_length"],
        intermediate_size=number["feed_forward_length"],
        num_hidden_layers=number["block_count"],
        num_attention_heads=number["attention.head_count"],
        num_key_value_heads=number["attention.head_count_kv"],
        max_position_embeddings=number["context_length"],
        rms_norm_eps=number["attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": number["rope.freq_base"]},
        tie_word_embeddings=True,
    )
    state = {_in_transformers(name): _rows_back(name, array, config) for name, array in theirs.items()}
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model = model.to_empty(device="cpu")
    model.model.rotary_emb = type(model.model.rotary_emb)(config)  # its frequencies are no weights
    missing, unexpected = model.load_state_dict(
        {name: torch.from_numpy(array) for name, array in state.items()}, strict=False
    )
    assert (missing, unexpected) == (["lm_head.weight"], [])
    model.tie_weights()
    return model.eval()


GGUF_NUMBERS = (
    *("embedding_length", "feed_forward_length", "block_count", "context_length", "rope.freq_base"),
    *("attention.head_count", "attention.head_count_kv", "attention.layer_norm_rms_epsilon"),
)
GGUF_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "blk": "model.layers",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def _in_transformers(name: str) -> str:
    return ".".join(GGUF_NAMES.get(part, part) for part in name.split("."))


def _rows_back(name: str, array: np.ndarray[Any, Any], config: LlamaConfig) -> np.ndarray[Any, Any]:
    """Undo the reordering of llama.cpp's converter, found by letting it reorder the row numbers."""
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(name.split(".")[-2])
    if heads is None:
        return array
    rows = np.arange(len(array))
    reordered = rows.reshape(heads, 2, len(rows) // heads // 2).swapaxes(1, 2).reshape(-1)
    return array[np.argsort(reordered)]


@pytest.mark.parametrize("architecture", [LLAMA, GPT2], ids=lambda a: a.family)
def test_a_token_never_sees_what_follows(architecture: Any) -> None:
    """The logits of a text's beginning are the same whatever comes after."""
    decoder = decoder_of(architecture)
    torch.testing.assert_close(logits_of(decoder, (1, 2, 3, 4))[:2], logits_of(decoder, (1, 2, 30, 9))[:2])


def test_kept_layers_are_the_residual_stream_after_their_blocks() -> None:
    """The last block's kept stream, normed, is the final hidden state."""
    decoder, batch = decoder_of(), pack([Row(prompt=(1, 2, 3))])
    with torch.no_grad():
        final, kept = decoder(batch.tokens_N, batch.positions_N, batch.attend, dtype=torch.float32, keep=(0, 1))
        assert len(kept) == 2
        torch.testing.assert_close(decoder.norm(kept[1]), final)


@pytest.mark.parametrize("architecture", [LLAMA, GPT2, replace(LLAMA, tied=False)], ids=["llama", "gpt2", "untied"])
def test_a_copy_in_bfloat16_computes_what_casting_at_each_use_does(architecture: Architecture) -> None:
    """`in_dtype` changes the memory that is read, not one bit of the numbers."""
    decoder, rows = decoder_of(architecture), pair_rows(4)
    cast, copied = (sum_logps(d, pack(rows), dtype=torch.bfloat16) for d in (decoder, decoder.in_dtype(torch.bfloat16)))
    assert torch.equal(cast, copied)
    assert decoder.in_dtype(torch.bfloat16).embedding.weight is decoder.embedding.weight
