"""Models out, for other people's tools: a folder in Hugging Face layout, or one GGUF file in 16 bits."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import torch
from safetensors import SafetensorError
from torch import Tensor

from models.adapted import Adapted, write_adapted
from models.architecture import Architecture
from models.decoder import Decoder
from models.failure import ModelError
from models.families import family_of
from models.families.gguf_keys import write_architecture, written_slowing
from models.families.layout import State, disperse
from models.tokens import Tokens

SHARD = 5_000_000_000  # bytes of weights in one file, at most
PADDING, UNUSED = "[PAD{}]", 5  # a token that fills the vocabulary up, and its type in GGUF
# What llama.cpp computes in single precision, whatever the rest is in.
SINGLE = ("position_embd.weight",)


def write_folder(decoder: Decoder, folder: Path, *, dtype: torch.dtype, end: int | None = None) -> None:
    """Write config.json and safetensors, in several files with an index beyond 5 GB; no tokenizer.

    `end`: id of the token that ends a response, so that others' generation stops there.
    """
    from huggingface_hub import save_torch_state_dict

    with _making(folder, folder) as making:
        if isinstance(decoder, Adapted):
            write_adapted(decoder, making, dtype)
        else:
            save_torch_state_dict(_their_state(decoder, dtype), making, max_shard_size=SHARD)
            _write_json(making / "config.json", config_of(decoder.architecture, dtype, end))
            _write_json(making / "generation_config.json", {"eos_token_id": end})
        for file in sorted(making.iterdir(), key=lambda file: file.name == "config.json"):
            file.replace(folder / file.name)  # config.json last: it being there means done


def config_of(a: Architecture, dtype: torch.dtype, end: int | None = None) -> dict[str, Any]:
    """The config.json of a decoder in the names of its family."""
    family = family_of(a)
    return {
        "architectures": [family.class_name],
        "model_type": family.name,
        **family.write(a),
        "bos_token_id": None,
        "eos_token_id": end,
        "pad_token_id": None,
        "torch_dtype": str(dtype).removeprefix("torch."),
    }


def write_gguf(decoder: Decoder, path: Path, tokens: Tokens, *, name: str) -> None:
    """Write one F16 GGUF file, norms and biases in F32, as llama.cpp and Ollama take it."""
    a = decoder.architecture
    family = family_of(a)
    with _making(path, path.parent) as making:
        writer = gguf.GGUFWriter(making / path.name, family.gguf_name)
        said = {"general.name": name, "general.file_type": int(gguf.LlamaFileType.MOSTLY_F16)}
        for key, value in (said | write_architecture(family, a) | _padded(tokens.gguf_fields(), a.vocabulary)).items():
            _add_field(writer, key, value)
        for their_name, tensor in disperse(family.gguf_layout, a, _plain(decoder)):
            matrix = tensor.ndim > 1 and their_name not in SINGLE
            kept = _in_dtype(their_name, tensor, torch.float16 if matrix else torch.float32)
            writer.add_tensor(their_name, kept.numpy())
        for their_name, tensor in written_slowing(a).items():
            writer.add_tensor(their_name, tensor.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        (making / path.name).replace(path)


def _their_state(decoder: Decoder, dtype: torch.dtype) -> State:
    """All tensors in the family's names."""
    layout = family_of(decoder.architecture).layout
    theirs = disperse(layout, decoder.architecture, _plain(decoder))
    return {layout.written(name): _in_dtype(name, tensor, dtype) for name, tensor in theirs}


def _plain(decoder: Decoder) -> State:
    """The weights that the architecture has; ModelError where there are others beside them, such as an adapter's."""
    with torch.device("meta"):
        wanted = Decoder(decoder.architecture).state_dict().keys()
    state = decoder.state_dict()
    # A copy in 16 bits has its tied head as a matrix of its own.
    if odd := (wanted - state.keys()) | (state.keys() - wanted - {"untied_head.weight"}):
        raise ModelError(f"the model has its weights in parts ({min(odd)}): merge its adapter into it before writing")
    return {name: state[name].detach().cpu() for name in wanted}


def _in_dtype(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy; ModelError for a number that the dtype cannot hold."""
    cast = tensor.to(dtype, copy=True)
    if not cast.isfinite().all():
        largest, kind = float(tensor.abs().max()), str(dtype).removeprefix("torch.")
        raise ModelError(f"{name} has {largest:g} in it, which {kind} cannot hold: write safetensors in float32")
    return cast


def _padded(fields: Mapping[str, Any], vocabulary: int) -> dict[str, Any]:
    """Tokens for the embeddings that the tokenizer has none for, as every embedding has to have one in GGUF."""
    names = list(fields["tokenizer.ggml.tokens"])
    if len(names) > vocabulary:
        raise ModelError(f"the tokenizer has {len(names):,} tokens, and the model {vocabulary:,}: bring its own")
    fill = range(len(names), vocabulary)
    said = dict(fields) | {"tokenizer.ggml.tokens": names + [PADDING.format(number) for number in fill]}
    for key, value in (("tokenizer.ggml.token_type", UNUSED), ("tokenizer.ggml.scores", -10_000.0)):
        if key in fields:
            said[key] = [*fields[key], *(value for _ in fill)]
    return said


def _add_field(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    """In the type that llama.cpp reads."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif len(value):
        writer.add_array(key, value)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _making(target: Path, folder: Path) -> Iterator[Path]:
    """A place in the folder for what is not whole yet; a full disk or a place that cannot be is one line."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".making-") as name:
            yield Path(name)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{target} cannot be written ({error}): make room, then write it again") from error
