"""Models come in as they were saved; what is damaged, pickled or of another shape is refused in one line."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.architecture import Architecture
from models.decoder import Decoder
from models.failure import ModelError
from models.sources import find_model
from models.tokens import Tokens, printable_bytes
from models.weights import load_folder, load_folder_weights, load_gguf
from tests.tiny import LLAMA, decoder_of


@pytest.fixture
def folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model's folder to be spoilt."""
    for file in tiny_model_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def reconfigure(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_folder_gives_decoder_and_tokens(folder: Path) -> None:
    """Frozen, in float32, with a token for each row of the embedding."""
    decoder, tokens = load_folder(folder)
    assert {p.dtype for p in decoder.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in decoder.parameters())
    assert tokens.highest + 1 == decoder.architecture.vocabulary


def test_half_precision_weights_are_widened(folder: Path) -> None:
    """Weights kept in bfloat16 are trained in float32."""
    path = folder / "model.safetensors"
    save_file({name: t.bfloat16() for name, t in load_file(path).items()}, path)
    assert {p.dtype for p in load_folder_weights(folder).parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickled_weights_alone_are_refused(name: str, folder: Path) -> None:
    """They are never opened, and the line says why and what to do."""
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    with pytest.raises(ModelError, match="only pickled weights, which can run code: save it with"):
        load_folder(folder)


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    """No weights is not the same as pickled weights."""
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        load_folder(folder)


def test_a_folder_without_configuration_is_refused(folder: Path) -> None:
    """The line says what a model folder is."""
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"has no config\.json"):
        load_folder(folder)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"model_type": "llama"}', "\udc80".encode("utf-8", "surrogatepass")]
)
def test_a_broken_configuration_is_one_line(text: str | bytes, folder: Path) -> None:
    """Not JSON, no object, or without the sizes: a ModelError that names the file or folder."""
    (folder / "config.json").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ModelError, match=str(folder)):
        load_folder(folder)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "mamba"}, r"'mamba' models are not among .*: pip install 'prefbench\[hf\]'"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, r"rope type 'yarn'.*'prefbench\[hf\]'"),
        ({"attention_bias": True}, r"do not fit config.json \(layers.0.self_attn.q_proj.bias is missing\)"),
        ({"mlp_bias": True}, r"\(layers.0.mlp.gate_proj.bias is missing\)"),
        ({"hidden_act": "gelu"}, "'gelu'"),
        ({"intermediate_size": 80}, r"do not fit .*\(layers.0.mlp.gate_proj.weight is 64 × 32, not 80 × 32\)"),
        ({"vocab_size": 300}, r"do not fit .*\(embed_tokens.weight is 259 × 32, not 300 × 32\)"),
        ({"num_hidden_layers": 3}, r"do not fit .*\(layers.2.input_layernorm.weight is missing\)"),
        ({"num_hidden_layers": 1}, r"weights that its configuration does not know \(layers.1"),
    ],
)
def test_a_configuration_that_we_would_compute_wrongly_is_refused(
    changes: dict[str, Any], reason: str, folder: Path
) -> None:
    """Better no answer than another model's."""
    reconfigure(folder, **changes)
    with pytest.raises(ModelError, match=reason):
        load_folder(folder)


@pytest.mark.parametrize(
    ("kind", "said"), [(None, "has no model_type"), ("", "has no"), (["llama"], r"has \['llama'\]"), (3, "has 3 as")]
)
@pytest.mark.parametrize("way", ["", "transformers:"])
def test_a_configuration_that_does_not_say_the_models_kind_is_one_line(
    kind: Any, said: str, way: str, folder: Path
) -> None:
    """Whichever way the model is asked for."""
    reconfigure(folder, model_type=kind)
    with pytest.raises(ModelError, match=rf'config\.json {said}.*: name the model\'s kind there, as "model_type": "ll'):
        find_model(f"{way}{folder}", folder)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_that_are_no_numbers_are_refused(number: float, dtype: torch.dtype, folder: Path) -> None:
    """The tensor and its file are named; a run would end as diverged."""
    path = folder / "model.safetensors"
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(path).items()}
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = number
    save_file(tensors, path)
    with pytest.raises(
        ModelError, match=r"model\.safetensors: model\.layers\.1\.mlp\.up_proj\.weight has numbers in it"
    ):
        load_folder_weights(folder)


def test_weights_that_are_no_numbers_are_refused_from_gguf(tmp_path: Path) -> None:
    """Likewise."""
    decoder = decoder_of(BYTES)
    decoder.blocks[1].down.weight[2, 2] = float("nan")
    path = write_gguf(tmp_path / "m.gguf", decoder)
    with pytest.raises(
        ModelError, match=r"m\.gguf: blk\.1\.ffn_down\.weight has numbers in it that are NaN or infinite"
    ):
        load_gguf(path)


def test_a_tied_folder_that_says_untied_is_refused(folder: Path) -> None:
    """There is no head to be found."""
    reconfigure(folder, tie_word_embeddings=False)
    with pytest.raises(ModelError, match="do not fit"):
        load_folder(folder)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"hello, I am no model" * 50, b"GGUF" + b"\xff" * 200])
def test_a_file_that_is_no_gguf_is_refused(content: bytes, tmp_path: Path) -> None:
    """Whatever it is, one line."""
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(ModelError, match="is no readable GGUF file"):
        load_gguf(tmp_path / "m.gguf")


def write_gguf(path: Path, decoder: Decoder, **changes: Any) -> Path:
    """A Llama as llama.cpp's converter writes it, its tokens single bytes and one end token."""
    a, said = decoder.architecture, {"architecture": "llama", "model": "gpt2", "pre": "smollm"} | changes
    writer = gguf.GGUFWriter(path, said["architecture"])
    writer.add_context_length(a.context)
    writer.add_embedding_length(a.width)
    writer.add_block_count(a.depth)
    writer.add_feed_forward_length(a.hidden)
    writer.add_head_count(a.heads)
    writer.add_head_count_kv(a.kv_heads)
    writer.add_rope_dimension_count(a.head_width)
    writer.add_rope_freq_base(a.rope_base)
    writer.add_layer_norm_rms_eps(a.norm_eps)
    writer.add_tokenizer_model(said["model"])
    writer.add_tokenizer_pre(said["pre"])
    writer.add_token_list([*(char for _, char in sorted(printable_bytes().items())), "<|end|>"])
    writer.add_token_types([1] * 256 + [3])
    writer.add_eos_token_id(256)
    for name, tensor in gguf_tensors(decoder):
        writer.add_tensor(name, tensor.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def gguf_tensors(decoder: Decoder) -> Iterator[tuple[str, Tensor]]:
    a, state = decoder.architecture, decoder.state_dict()
    yield "token_embd.weight", state["embedding.weight"]
    yield "output_norm.weight", state["norm.weight"]
    if not a.tied:
        yield "output.weight", state["untied_head.weight"]
    for n in range(a.depth):
        layer = {k.removeprefix(f"blocks.{n}."): t for k, t in state.items() if k.startswith(f"blocks.{n}.")}
        query, key, value = layer["qkv.weight"].split((a.attention_width, a.kv_width, a.kv_width))
        gate, up = layer["up.weight"].chunk(2)
        yield f"blk.{n}.attn_norm.weight", layer["attention_norm.weight"]
        yield f"blk.{n}.attn_q.weight", interleaved(query, a.heads)
        yield f"blk.{n}.attn_k.weight", interleaved(key, a.kv_heads)
        yield f"blk.{n}.attn_v.weight", value
        yield f"blk.{n}.attn_output.weight", layer["out.weight"]
        yield f"blk.{n}.ffn_norm.weight", layer["feed_norm.weight"]
        yield f"blk.{n}.ffn_gate.weight", gate
        yield f"blk.{n}.ffn_up.weight", up
        yield f"blk.{n}.ffn_down.weight", layer["down.weight"]


def interleaved(weight: Tensor, heads: int) -> Tensor:
    """llama.cpp's order of a head's rows: first and second halves alternate."""
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


BYTES = replace(LLAMA, vocabulary=257)


@pytest.mark.parametrize(
    "architecture",
    [BYTES, replace(BYTES, tied=False, rope_base=500.0, head_width=8)],
    ids=["tied", "untied, wide heads"],
)
def test_a_gguf_file_gives_the_model_that_was_written(architecture: Architecture, tmp_path: Path) -> None:
    """Weights, shape and tokens."""
    decoder = decoder_of(architecture)
    again, tokens = load_gguf(write_gguf(tmp_path / "m.gguf", decoder))
    sizes = {"norm_eps": pytest.approx(architecture.norm_eps)}  # kept in single precision
    assert vars(again.architecture) == vars(architecture) | sizes
    assert all(torch.equal(again.state_dict()[name], weight) for name, weight in decoder.state_dict().items())
    assert (tokens.encode("a 1"), tokens.end) == (tuple(b"a 1"), 256)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.99])
def test_a_cut_gguf_is_refused(share: float, tmp_path: Path) -> None:
    """Cut in its header, its vocabulary or its tensors."""
    path = write_gguf(tmp_path / "m.gguf", decoder_of(BYTES))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ModelError, match="is no readable GGUF file"):
        load_gguf(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architecture": "mamba"}, "'mamba' model, and gemma, gpt2, llama, qwen2, qwen3 are read from GGUF"),
        ({"architecture": "gpt2"}, r"is no gpt2 model that can be read"),
        ({"model": "bert"}, "'bert' tokenizer"),
        ({"pre": "tekken"}, "'tekken' tokenizer"),
    ],
)
def test_a_gguf_of_another_kind_is_refused(changes: dict[str, str], reason: str, tmp_path: Path) -> None:
    """Other architectures and other tokenizers, by name."""
    with pytest.raises(ModelError, match=reason):
        load_gguf(write_gguf(tmp_path / "m.gguf", decoder_of(BYTES), **changes))


def test_weights_from_gguf_can_be_trained_in_place(smollm2: tuple[Decoder, Tokens]) -> None:
    """They are memory of their own, not the file's: writing to the latter killed the process."""
    decoder, _ = smollm2
    for name, weight in decoder.named_parameters():
        before = weight[..., :1].clone()
        weight[..., :1].add_(1.0)  # the real tensor, in place
        weight[..., :1].copy_(before)
        assert torch.equal(weight[..., :1], before), name


def test_loaded_weights_share_no_memory(tiny_model: tuple[Decoder, Tokens]) -> None:
    """Training a copy leaves the original alone."""
    decoder, _ = tiny_model
    trained = copy.deepcopy(decoder)
    with torch.no_grad():
        for weight in trained.parameters():
            weight += 1
    assert not any(torch.equal(a, b) for a, b in zip(decoder.parameters(), trained.parameters(), strict=True))
