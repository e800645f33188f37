"""Weights in and out: GGUF and Hugging Face safetensors to our decoder, and our own checkpoints. Pickle is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.architecture import Architecture
from models.decoder import Decoder
from models.failure import ModelError
from models.tokens import DIGITS_PATTERN, GPT2_PATTERN, Tokens, byte_level, read_json, tokens_from_folder

State = dict[str, Tensor]
# What exports carry along although it follows from the rest.
LEFT_OVER = re.compile(r"(.*\.attn\.(masked_)?bias|.*rotary_emb\.inv_freq|lm_head\.weight)")
# What a damaged or odd file makes the code that reads it raise.
DAMAGE = (
    *(KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RuntimeError, NotImplementedError),
    AssertionError,
)
# What GPT-2's configuration could say otherwise, and never does in its published sizes.
GPT2_ALWAYS = {
    "activation_function": "gelu_new",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True,
}


def load_gguf(path: Path) -> tuple[Decoder, Tokens]:
    """A Llama-family model and its tokens from one GGUF file, dequantised to float32."""
    try:
        reader = gguf.GGUFReader(path)
        # The merges follow from the ids, and reading 50,000 of them takes a second.
        fields = {name: f.contents() for name, f in reader.fields.items() if name != "tokenizer.ggml.merges"}
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise ModelError(f"{path} is no readable GGUF file ({error}): fetch it again") from error
    if fields.get("general.architecture") != "llama":
        raise ModelError(f"{path} holds a {fields.get('general.architecture')!r} model: only llama is read from GGUF")
    try:
        tensors = _Taken({t.name: _dequantised(t) for t in reader.tensors})
        architecture = _gguf_architecture(fields, tied="output.weight" not in tensors)
        decoder = build(architecture, _from_gguf(tensors, architecture), path)
        tensors.refuse_left_over(path)
        return decoder, _fitting(decoder, _gguf_tokens(fields, path), path)
    except DAMAGE as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ModelError(f"{path} is no Llama model that can be read ({reason}): try another export") from error


def load_folder(folder: Path) -> tuple[Decoder, Tokens]:
    """A Llama-family or GPT-2 model and its tokens from a folder in Hugging Face layout."""
    decoder = load_folder_weights(folder)
    return decoder, _fitting(decoder, tokens_from_folder(folder), folder)


def load_folder_weights(folder: Path) -> Decoder:
    """The weights alone."""
    if not (folder / "config.json").exists():
        raise ModelError(f"{folder} has no config.json: --model takes a folder in Hugging Face layout")
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        reason = "only pickled weights, which can run code" if pickled else "no weights"
        raise ModelError(f"{folder} holds {reason}: save it with save_pretrained(safe_serialization=True)")
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise ModelError(f"{folder}/config.json holds no object: copy the model's folder again")
    families = {"llama": (_llama_architecture, _from_llama), "gpt2": (_gpt2_architecture, _from_gpt2)}
    kind = config.get("model_type")
    if kind not in families:
        raise ModelError(f"{folder} is a {kind!r} model: llama and gpt2 are known")
    read: State = {}
    for file in files:
        read |= read_safetensors(file)
    state = _Taken({name.removeprefix("model.").removeprefix("transformer."): t.float() for name, t in read.items()})
    describe, arrange = families[kind]
    try:
        architecture = describe(config)
        decoder = build(architecture, arrange(state, architecture), folder)
    except DAMAGE as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ModelError(f"{folder}: the weights do not fit config.json ({reason}): copy the folder again") from error
    state.refuse_left_over(folder)
    return decoder


class _Taken(dict[str, Tensor]):
    """Tensors by name, and which of them were taken."""

    def __init__(self, tensors: State) -> None:
        super().__init__(tensors)
        self.taken: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self.taken.add(name)
        return super().__getitem__(name)

    def refuse_left_over(self, source: Path) -> None:
        """ModelError where weights were left out: the model would not be the one that was saved."""
        left = [name for name in self if name not in self.taken and not LEFT_OVER.fullmatch(name)]
        if left:
            raise ModelError(
                f"{source} has weights that its configuration does not know ({left[0]} and {len(left) - 1} more): "
                "copy the model again"
            )


def _fitting(decoder: Decoder, tokens: Tokens, source: Path) -> Tokens:
    """The tokens, if every one of them has an embedding."""
    highest = max(tokens.encoding.max_token_value, *tokens.special.values(), tokens.end)
    if highest >= decoder.architecture.vocabulary:
        raise ModelError(
            f"{source}: the tokenizer has a token {highest:,}, and the model just {decoder.architecture.vocabulary:,}: "
            "bring the tokenizer that belongs to it"
        )
    return tokens


def build(architecture: Architecture, state: State, source: Path) -> Decoder:
    """A decoder with these weights; ModelError where a name or shape does not fit."""
    with torch.device("meta"):
        decoder = Decoder(architecture)
    try:
        decoder.load_state_dict(state, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{source}: the weights do not fit the configuration ({reason})") from error
    return decoder.requires_grad_(False)


def save_checkpoint(decoder: Decoder, path: Path) -> None:
    """Write the decoder's own weights as safetensors."""
    try:
        save_file({name: tensor.contiguous() for name, tensor in decoder.state_dict().items()}, path)
    except SafetensorError as error:
        raise ModelError(f"{path.name} cannot be written ({error}): make room, then run again") from error


def load_checkpoint(architecture: Architecture, path: Path) -> Decoder:
    """Read what `save_checkpoint` wrote."""
    return build(architecture, read_safetensors(path), path)


def read_safetensors(path: Path) -> State:
    """A safetensors file's tensors; ModelError when it is damaged."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged ({error}): delete it and run again") from error


def _dequantised(tensor: gguf.ReaderTensor) -> Tensor:
    """A float32 copy: what the reader gives may still be the file's own memory, which nothing can write to."""
    return torch.from_numpy(np.array(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))


def _gguf_architecture(fields: dict[str, Any], *, tied: bool) -> Architecture:
    heads, width = fields["llama.attention.head_count"], fields["llama.embedding_length"]
    return Architecture(
        family="llama",
        vocabulary=len(fields["tokenizer.ggml.tokens"]),
        context=fields["llama.context_length"],
        width=width,
        depth=fields["llama.block_count"],
        heads=heads,
        kv_heads=fields.get("llama.attention.head_count_kv", heads),
        head_width=fields.get("llama.rope.dimension_count", width // heads),
        hidden=fields["llama.feed_forward_length"],
        norm_eps=fields["llama.attention.layer_norm_rms_epsilon"],
        rope_base=fields.get("llama.rope.freq_base", 10_000.0),
        tied=tied,
    )


def _from_gguf(tensors: State, a: Architecture) -> State:
    state = {"embedding.weight": tensors["token_embd.weight"], "norm.weight": tensors["output_norm.weight"]}
    if not a.tied:
        state["untied_head.weight"] = tensors["output.weight"]
    for n in range(a.depth):
        theirs, ours = f"blk.{n}.", f"blocks.{n}."
        query = _halves(tensors[f"{theirs}attn_q.weight"], a.heads)
        key = _halves(tensors[f"{theirs}attn_k.weight"], a.kv_heads)
        state |= {
            f"{ours}attention_norm.weight": tensors[f"{theirs}attn_norm.weight"],
            f"{ours}qkv.weight": torch.cat((query, key, tensors[f"{theirs}attn_v.weight"])),
            f"{ours}out.weight": tensors[f"{theirs}attn_output.weight"],
            f"{ours}feed_norm.weight": tensors[f"{theirs}ffn_norm.weight"],
            f"{ours}up.weight": torch.cat((tensors[f"{theirs}ffn_gate.weight"], tensors[f"{theirs}ffn_up.weight"])),
            f"{ours}down.weight": tensors[f"{theirs}ffn_down.weight"],
        }
    return state


def _halves(weight: Tensor, heads: int) -> Tensor:
    """GGUF keeps rotary features interleaved; ours turn in two halves."""
    rows, columns = weight.shape
    return weight.view(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def _gguf_tokens(fields: dict[str, Any], path: Path) -> Tokens:
    patterns = {"smollm": DIGITS_PATTERN, "gpt-2": GPT2_PATTERN}
    kind = fields.get("tokenizer.ggml.pre", "gpt-2")
    if fields.get("tokenizer.ggml.model") != "gpt2" or kind not in patterns:
        raise ModelError(f"{path} has a {kind!r} tokenizer: only byte-level BPE in GPT-2's or SmolLM's way is known")
    names = fields["tokenizer.ggml.tokens"]
    control = {name: i for i, name in enumerate(names) if fields["tokenizer.ggml.token_type"][i] == 3}
    return byte_level(
        {name: i for i, name in enumerate(names)},
        pattern=patterns[kind],
        end=fields["tokenizer.ggml.eos_token_id"],
        special=control,
        chat_template=fields.get("tokenizer.chat_template"),
    )


def _llama_architecture(config: dict[str, Any]) -> Architecture:
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise ModelError(f"rope type {rope.get('rope_type', rope.get('type'))!r} is not known: only the default one is")
    if config.get("attention_bias") or config.get("mlp_bias"):
        raise ModelError("this llama has biases, which is not known")
    if config.get("hidden_act", "silu") != "silu":
        raise ModelError(f"this llama computes with {config['hidden_act']!r}: only 'silu' is known")
    heads, width = config["num_attention_heads"], config["hidden_size"]
    return Architecture(
        family="llama",
        vocabulary=config["vocab_size"],
        context=config["max_position_embeddings"],
        width=width,
        depth=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_width=config.get("head_dim") or width // heads,
        hidden=config["intermediate_size"],
        norm_eps=config["rms_norm_eps"],
        rope_base=rope.get("rope_theta") or config.get("rope_theta") or 10_000.0,
        tied=config.get("tie_word_embeddings", False),
    )


_LLAMA_LAYER = (
    *("input_layernorm.weight", "post_attention_layernorm.weight"),
    *(f"self_attn.{p}_proj.weight" for p in "qkvo"),
    *(f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")),
)


def _from_llama(state: State, a: Architecture) -> State:
    ours = {"embedding.weight": state["embed_tokens.weight"], "norm.weight": state["norm.weight"]}
    if not a.tied:
        ours["untied_head.weight"] = state["lm_head.weight"]
    for n in range(a.depth):
        layer = {name: state[f"layers.{n}.{name}"] for name in _LLAMA_LAYER}
        ours |= {
            f"blocks.{n}.attention_norm.weight": layer["input_layernorm.weight"],
            f"blocks.{n}.qkv.weight": torch.cat([layer[f"self_attn.{p}_proj.weight"] for p in "qkv"]),
            f"blocks.{n}.out.weight": layer["self_attn.o_proj.weight"],
            f"blocks.{n}.feed_norm.weight": layer["post_attention_layernorm.weight"],
            f"blocks.{n}.up.weight": torch.cat((layer["mlp.gate_proj.weight"], layer["mlp.up_proj.weight"])),
            f"blocks.{n}.down.weight": layer["mlp.down_proj.weight"],
        }
    return ours


def _gpt2_architecture(config: dict[str, Any]) -> Architecture:
    for name, known in GPT2_ALWAYS.items():
        if config.get(name, known) != known:
            raise ModelError(f"this gpt2 has {name} = {config[name]!r}: only {known!r} is known")
    width, heads = config["n_embd"], config["n_head"]
    return Architecture(
        family="gpt2",
        vocabulary=config["vocab_size"],
        context=config["n_positions"],
        width=width,
        depth=config["n_layer"],
        heads=heads,
        kv_heads=heads,
        head_width=width // heads,
        hidden=config.get("n_inner") or 4 * width,
        norm_eps=config["layer_norm_epsilon"],
    )


def _from_gpt2(state: State, a: Architecture) -> State:
    ours = {
        "embedding.weight": state["wte.weight"],
        "positions.weight": state["wpe.weight"],
        "norm.weight": state["ln_f.weight"],
        "norm.bias": state["ln_f.bias"],
    }
    names = {
        "attention_norm": "ln_1",
        "qkv": "attn.c_attn",
        "out": "attn.c_proj",
        "feed_norm": "ln_2",
        "up": "mlp.c_fc",
        "down": "mlp.c_proj",
    }
    for n in range(a.depth):
        for mine, theirs in names.items():
            weight = state[f"h.{n}.{theirs}.weight"]
            # GPT-2's matrices are stored input first.
            ours[f"blocks.{n}.{mine}.weight"] = weight.T.contiguous() if weight.ndim == 2 else weight
            ours[f"blocks.{n}.{mine}.bias"] = state[f"h.{n}.{theirs}.bias"]
    return ours
