"""What we write, other tools read: transformers the folders, the gguf package and transformers the GGUF files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, PreTrainedModel

from models import writing
from models.decoder import Decoder
from models.failure import ModelError
from models.families import KNOWN
from models.tokens import GPT2_PATTERN, Tokens, byte_level, printable_bytes
from models.weights import load_folder_weights, load_gguf
from models.writing import write_folder, write_gguf
from tests.models.published import CONFIGS, VOCABULARY, random_model, saved, some_tokens, their_logits
from tests.tiny import LLAMA, decoder_of, logits_of

WIDER = replace(LLAMA, vocabulary=260)
TOKENS = some_tokens()


def loaded(name: str, folder: Path) -> Decoder:
    saved(name, folder / "theirs")
    return load_folder_weights(folder / "theirs")


def in_transformers(folder: Path, **asked: Any) -> PreTrainedModel:
    """Loaded with nothing missing and nothing left over."""
    model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **asked)
    assert not any(report[f"{kind}_keys"] for kind in ("missing", "unexpected", "mismatched")), report
    return model.eval()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_folder_gives_transformers_the_same_logits(name: str, tmp_path: Path) -> None:
    """Saved by transformers, loaded and written by us, loaded by transformers: not one bit is lost."""
    write_folder(loaded(name, tmp_path), tmp_path / "ours", dtype=torch.float32)
    again = in_transformers(tmp_path / "ours", dtype="auto")
    assert again.dtype == torch.float32
    assert torch.equal(their_logits(again, TOKENS), their_logits(random_model(name), TOKENS))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_folder_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    """Architecture and weights, in our own reader."""
    decoder = loaded(name, tmp_path)
    write_folder(decoder, tmp_path / "ours", dtype=torch.float32)
    again = load_folder_weights(tmp_path / "ours")
    assert again.architecture == decoder.architecture
    assert all(torch.equal(again.state_dict()[n], weight) for n, weight in decoder.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_written_and_said(dtype: torch.dtype, tmp_path: Path) -> None:
    """The weights are in it, and config.json says so."""
    write_folder(loaded("llama", tmp_path), tmp_path / "ours", dtype=dtype)
    with safe_open(tmp_path / "ours" / "model.safetensors", framework="pt") as tensors:
        assert {tensors.get_tensor(n).dtype for n in tensors.keys()} == {dtype}  # noqa: SIM118  # no mapping
        assert tensors.metadata() == {"format": "pt"}
    assert in_transformers(tmp_path / "ours", dtype="auto").dtype == dtype


def test_a_frozen_copy_in_half_precision_is_written_as_the_model_that_it_is(tmp_path: Path) -> None:
    """Its tied head, which it has as a matrix of its own, is not written twice."""
    write_folder(decoder_of().in_dtype(torch.bfloat16), tmp_path, dtype=torch.bfloat16)
    assert load_folder_weights(tmp_path).architecture == decoder_of().architecture


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_large_model_is_written_in_parts(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit (5 GB) there are several files and an index, which transformers and we read."""
    monkeypatch.setattr(writing, "SHARD", 20_000)
    write_folder(loaded(name, tmp_path), tmp_path / "ours", dtype=torch.float32)
    assert len(list((tmp_path / "ours").glob("model-*-of-*.safetensors"))) > 2
    wanted = their_logits(random_model(name), TOKENS)
    assert torch.equal(their_logits(in_transformers(tmp_path / "ours"), TOKENS), wanted)
    torch.testing.assert_close(logits_of(load_folder_weights(tmp_path / "ours"), TOKENS), wanted, atol=1e-4, rtol=0)


def test_the_end_of_a_response_is_said(tmp_path: Path) -> None:
    """So that other people's generation stops there."""
    write_folder(loaded("llama", tmp_path), tmp_path / "ours", dtype=torch.float32, end=7)
    model = in_transformers(tmp_path / "ours")
    assert (model.config.eos_token_id, model.generation_config.eos_token_id) == (7, 7)  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["hf", "gguf"])
def test_a_weight_beyond_the_precision_is_refused(kind: str, tmp_path: Path) -> None:
    """An infinite weight would ruin the model without a word; and nothing half-written is left."""
    decoder = decoder_of(WIDER)
    decoder.embedding.weight[1, 1] = 1e6
    with pytest.raises(ModelError, match="has 1e\\+06 in it, which float16 cannot hold"):
        _write(kind, decoder, tmp_path / "out")
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


@pytest.mark.parametrize("kind", ["hf", "gguf"])
def test_a_place_that_cannot_be_written_is_one_line(kind: str, tmp_path: Path) -> None:
    """A file where a folder should be."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelError, match="cannot be written"):
        _write(kind, decoder_of(WIDER), tmp_path / "file" / "out")


@pytest.mark.parametrize("kind", ["hf", "gguf"])
def test_a_model_with_an_adapter_beside_it_is_refused(kind: str, tmp_path: Path) -> None:
    """Written without it, it would be another model."""
    decoder = decoder_of(WIDER)
    decoder.blocks[0].register_parameter("lora_a", torch.nn.Parameter(torch.zeros(2)))
    with pytest.raises(ModelError, match=r"in parts \(blocks\.0\.lora_a\): merge its adapter"):
        _write(kind, decoder, tmp_path / "out")


def _write(kind: str, decoder: Decoder, target: Path) -> None:
    if kind == "gguf":
        write_gguf(decoder, target / "m.gguf", few_tokens(), name="tiny")
    else:
        write_folder(decoder, target, dtype=torch.float16)


def few_tokens() -> Tokens:
    """The single bytes, one merge and an end, fewer than the models have embeddings."""
    vocabulary = {char: byte for byte, char in printable_bytes().items()} | {"th": 256, "<|end|>": 257}
    return byte_level(vocabulary, pattern=GPT2_PATTERN, end=257, special={"<|end|>": 257})


def written(name: str, folder: Path) -> Path:
    path = folder / "m.gguf"
    write_gguf(loaded(name, folder), path, few_tokens(), name="tiny")
    return path


def rounded(name: str) -> PreTrainedModel:
    """transformers' own model with its matrices rounded to 16 bits, learned positions not: what the file holds."""
    model = random_model(name)
    for title, parameter in model.named_parameters():
        if parameter.ndim > 1 and "wpe" not in title:
            parameter.data = parameter.data.half().float()
    return model


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "llama 3, short"])
def test_a_gguf_file_gives_the_same_logits(name: str, tmp_path: Path) -> None:
    """Written and read by us: the logits of the weights rounded to 16 bits, within 1e-4."""
    decoder, tokens = load_gguf(written(name, tmp_path))
    wanted = their_logits(rounded(name), TOKENS)
    torch.testing.assert_close(logits_of(decoder, TOKENS), wanted, atol=1e-4, rtol=0)
    assert tokens.end == 257


@pytest.mark.parametrize("name", ["llama", "llama, tied", "gpt2", "qwen2", "qwen3"])
def test_transformers_reads_the_gguf_file(name: str, tmp_path: Path) -> None:
    """An implementation that is not ours undoes the order of rotary features and the names: the same logits."""
    path = written(name, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        dtype=torch.float32,
        config=CONFIGS[name],  # it does not read the context of gpt2 or the head width of qwen3 from the file
    ).eval()
    torch.testing.assert_close(their_logits(model, TOKENS), logits_of(load_gguf(path)[0], TOKENS), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_gguf_file_has_what_the_format_has(name: str, tmp_path: Path) -> None:
    """By the gguf package: tensors of its architecture, matrices in F16, norms and biases in F32, each token once."""
    reader = gguf.GGUFReader(written(name, tmp_path))
    fields = {key: field.contents() for key, field in reader.fields.items()}
    kind = next(arch for arch, title in gguf.MODEL_ARCH_NAMES.items() if title == fields["general.architecture"])
    depth = range(3)
    shapes = [gguf.TENSOR_NAMES[tensor] for tensor in gguf.MODEL_TENSORS[kind]]
    allowed = {shape.format(bid=n) for shape in shapes for n in depth}
    assert {t.name.rpartition(".")[0] for t in reader.tensors} <= allowed
    for tensor in reader.tensors:
        single = len(tensor.shape) == 1 or tensor.name == "position_embd.weight"
        assert tensor.tensor_type == (gguf.GGMLQuantizationType.F32 if single else gguf.GGMLQuantizationType.F16)
    names = fields["tokenizer.ggml.tokens"]
    assert len(names) == len(set(names)) == len(fields["tokenizer.ggml.token_type"]) == VOCABULARY
    assert fields["general.name"] == "tiny"
    assert fields["general.file_type"] == 1


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "llama 3, short"])
def test_a_gguf_file_says_the_architecture(name: str, tmp_path: Path) -> None:
    """All of it, but for what lies beyond a window, and Mistral is a llama there."""
    wanted = loaded(name, tmp_path).architecture
    family = "llama" if wanted.family == "mistral" else wanted.family
    single = pytest.approx(wanted.norm_eps)  # kept in single precision
    found = load_gguf(written(name, tmp_path))[0].architecture
    assert vars(found) == vars(wanted) | {"full_context": None, "norm_eps": single, "family": family}


def test_a_rope_scaling_that_nobody_published_is_not_guessed_from_gguf(tmp_path: Path) -> None:
    """The file holds what it does to each turn, from which its bounds do not follow."""
    with pytest.raises(ModelError, match="its rotary scaling is not Llama 3's"):
        load_gguf(written("llama 3, short", tmp_path))


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    """There would be tokens without embeddings."""

    with pytest.raises(ModelError, match="the tokenizer has 258 tokens, and the model 41: bring its own"):
        write_gguf(decoder_of(LLAMA), tmp_path / "m.gguf", few_tokens(), name="tiny")


def test_config_says_what_transformers_writes(tmp_path: Path) -> None:
    """`model_type` and class name of each family are those of transformers' own file."""
    for name in CONFIGS:
        decoder = loaded(name, tmp_path / name)
        theirs = json.loads((tmp_path / name / "theirs" / "config.json").read_text())
        ours = writing.config_of(decoder.architecture, torch.float32)
        assert {key: theirs[key] for key in ("model_type", "architectures")} == {
            key: ours[key] for key in ("model_type", "architectures")
        }
        assert ours["model_type"] in KNOWN
