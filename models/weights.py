"""Models of the known families in: GGUF and Hugging Face safetensors to our decoder. Pickle is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor

from models.architecture import Architecture
from models.decoder import Decoder
from models.failure import ForeignModelError, ModelError
from models.families import BY_GGUF_NAME, KNOWN, describe
from models.families.gguf_keys import read_architecture
from models.families.layout import MisfitError, State, arrange
from models.tensors import Tensors, open_folder, refuse_not_finite
from models.tokens import Tokens, read_json, tokens_from_folder, tokens_from_gguf

# What a damaged or odd file makes the code that reads it raise.
DAMAGE = (
    *(KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RuntimeError, NotImplementedError),
    AssertionError,
)


def load_gguf(path: Path) -> tuple[Decoder, Tokens]:
    """A model and its tokens from one GGUF file, dequantised to float32."""
    try:
        reader = gguf.GGUFReader(path)
        fields = _Fields({name: field.contents for name, field in reader.fields.items()})
        name = fields.get("general.architecture")
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise ModelError(f"{path} is no readable GGUF file ({error}): fetch it again") from error
    if name not in BY_GGUF_NAME:
        known = ", ".join(BY_GGUF_NAME)
        raise ModelError(f"{path} holds a {name!r} model, and {known} are read from GGUF: bring its safetensors")
    if fields.get("split.count", 1) > 1:
        raise ModelError(f"{path} is one of {fields['split.count']} parts: join them with llama-gguf-split --merge")
    tensors = Tensors({t.name: partial(_dequantised, t, path) for t in reader.tensors})
    family = BY_GGUF_NAME[name]
    with _reading(path, f"is no {name} model that can be read", "try another export"):
        architecture = read_architecture(family, fields, tensors)
        decoder = build(architecture, arrange(family.gguf_layout, architecture, tensors), path)
        tensors.refuse_left_over(path)
        return decoder, fitting(decoder, tokens_from_gguf(fields, path), path)


class _Fields(Mapping[str, Any]):
    """Read when first asked for: 50,000 merges take a second."""

    def __init__(self, readers: Mapping[str, Callable[[], Any]]) -> None:
        self.readers = readers
        self.values_read: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self.values_read:
            self.values_read[name] = self.readers[name]()
        return self.values_read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.readers)

    def __len__(self) -> int:
        return len(self.readers)

    def __contains__(self, name: object) -> bool:
        return name in self.readers


def load_folder(folder: Path) -> tuple[Decoder, Tokens]:
    """A model of a known family and its tokens from a folder in Hugging Face layout."""
    decoder = load_folder_weights(folder)
    return decoder, fitting(decoder, tokens_from_folder(folder), folder)


def load_folder_weights(folder: Path) -> Decoder:
    """The weights alone."""
    config = read_config(folder)
    tensors = open_folder(folder)
    with _reading(folder, "has weights that do not fit config.json", "copy the folder again"):
        architecture = describe(config)
        decoder = build(architecture, arrange(KNOWN[architecture.family].layout, architecture, tensors), folder)
        tensors.refuse_left_over(folder)
    return decoder


@contextlib.contextmanager
def _reading(source: Path, complaint: str, advice: str) -> Iterator[None]:
    """Whatever is wrong with a model is one line that names it."""
    try:
        yield
    except MisfitError as error:
        raise ModelError(f"{source} {complaint} ({error}): {advice}") from error
    except ForeignModelError as error:
        way_out = "pip install 'prefbench[hf]' to have transformers compute it"
        raise ForeignModelError(f"{source}: {error}: {way_out}") from error
    except ModelError as error:
        raise error if str(source) in str(error) else ModelError(f"{source}: {error}") from error
    except DAMAGE as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ModelError(f"{source} {complaint} ({reason}): {advice}") from error


def read_config(folder: Path) -> dict[str, Any]:
    """A folder's config.json; ModelError where there is none, or no object in it."""
    if not (folder / "config.json").exists():
        adapter = (folder / "adapter_config.json").exists()
        raise ModelError(
            f"{folder} is an adapter without its model: merge it first (merge_and_unload in peft)"
            if adapter
            else f"{folder} has no config.json: --model takes a folder in Hugging Face layout"
        )
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise ModelError(f"{folder}/config.json holds no object: copy the model's folder again")
    _refuse_no_kind(config, folder)
    return config


def _refuse_no_kind(config: Mapping[str, Any], folder: Path) -> None:
    """ModelError where a configuration does not say in one word what kind of model it is of."""
    kind = config.get("model_type")
    if not (isinstance(kind, str) and kind.strip()):
        said = f"has {kind!r} as model_type" if kind else "has no model_type"
        raise ModelError(
            f'{folder}/config.json {said}: name the model\'s kind there, as "model_type": "llama", or copy it again'
        )


def fitting(decoder: Decoder, tokens: Tokens, source: Path) -> Tokens:
    """The tokens, if every one of them has an embedding."""
    highest, vocabulary = tokens.highest, decoder.architecture.vocabulary
    if highest >= vocabulary:
        raise ModelError(
            f"{source}: the tokenizer has a token {highest:,}, and the model just {vocabulary:,}: "
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


def _dequantised(tensor: gguf.ReaderTensor, path: Path) -> Tensor:
    """A float32 copy: what the reader gives may still be the file's own memory, which nothing can write to."""
    copied = torch.from_numpy(np.array(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))
    refuse_not_finite(copied, tensor.name, path)
    return copied
