"""A folder's weights are found, whole, in one file or several; what is missing or no number is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.failure import ModelError
from models.tensors import INDEX, open_folder
from models.weights import load_folder_weights
from tests.models.published import saved, some_tokens, their_logits
from tests.tiny import logits_of

NAMES = ("llama", "gpt2", "qwen3")


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder of several files and their index."""
    saved("llama", tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 3
    return tmp_path


def second(folder: Path) -> Path:
    return sorted(folder.glob("*.safetensors"))[1]


def reindex(folder: Path, change: Callable[[dict[str, str]], object]) -> None:
    index = json.loads((folder / INDEX).read_text())
    change(index["weight_map"])
    (folder / INDEX).write_text(json.dumps(index))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("indexed", [True, False])
def test_several_files_are_one_model(name: str, indexed: bool, tmp_path: Path) -> None:
    """With their index or, where that was not copied, without."""
    theirs = saved(name, tmp_path, max_shard_size="40KB")
    if not indexed:
        (tmp_path / INDEX).unlink()
    tokens = some_tokens()
    ours = logits_of(load_folder_weights(tmp_path), tokens)
    torch.testing.assert_close(ours, their_logits(theirs, tokens), atol=1e-4, rtol=0)


@pytest.mark.parametrize("indexed", [True, False])
def test_a_missing_shard_is_named(indexed: bool, shards: Path) -> None:
    """Which one, of how many: the index says it, or the names of those that are there."""
    if not indexed:
        (shards / INDEX).unlink()
    lost = second(shards)
    lost.unlink()
    with pytest.raises(ModelError, match=rf"lacks {lost.name}, one of \d+ files of weights: fetch it again"):
        load_folder_weights(shards)


def test_a_cut_shard_is_named(shards: Path) -> None:
    """The one file to be fetched again."""
    second(shards).write_bytes(second(shards).read_bytes()[:-10])
    with pytest.raises(ModelError, match=rf"{second(shards).name} is damaged .*: delete it and fetch it again"):
        load_folder_weights(shards)


def test_an_index_of_other_tensors_is_refused(shards: Path) -> None:
    """It names one that its file does not have."""
    reindex(shards, lambda listed: listed.update({"model.layers.9.x.weight": second(shards).name}))
    with pytest.raises(ModelError, match=rf"names model.layers.9.x.weight, which is not in {second(shards).name}"):
        load_folder_weights(shards)


@pytest.mark.parametrize("file", ["../model-00001.safetensors", "/etc/passwd", "weights.bin", "a/b.safetensors"])
def test_an_index_leads_nowhere_else(file: str, shards: Path) -> None:
    """Only to safetensors beside it."""
    reindex(shards, lambda listed: listed.update({"model.norm.weight": file}))
    with pytest.raises(ModelError, match="which is no safetensors file beside it"):
        load_folder_weights(shards)


@pytest.mark.parametrize("text", ["[]", "{}", '{"weight_map": {}}', '{"weight_map": []}', "{"])
def test_a_broken_index_is_one_line(text: str, shards: Path) -> None:
    """With the file's name in it."""
    (shards / INDEX).write_text(text)
    with pytest.raises(ModelError, match=INDEX):
        load_folder_weights(shards)


def test_other_weights_beside_the_models_own_are_left_alone(tmp_path: Path) -> None:
    """Mistral's folders hold the same weights once more under other names, in `consolidated.safetensors`."""
    saved("mistral", tmp_path)
    save_file({"tok_embeddings.weight": torch.zeros(2, 2)}, tmp_path / "consolidated.safetensors")
    assert load_folder_weights(tmp_path).architecture.family == "mistral"


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_quantised_weights_are_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    """As numbers they would be another model."""
    saved("llama", tmp_path)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    save_file(state | {"model.norm.weight": state["model.norm.weight"].to(dtype)}, path)
    with pytest.raises(ModelError, match=r"norm.weight is kept as \w+, which cannot be trained: bring the model in 16"):
        load_folder_weights(tmp_path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_floats_of_every_width_become_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    """Exactly, where they are narrower."""
    saved("llama", tmp_path)
    path = tmp_path / "model.safetensors"
    state = {name: tensor.to(dtype) for name, tensor in load_file(path).items()}
    save_file(state, path)
    norm = load_folder_weights(tmp_path).state_dict()["norm.weight"]
    assert norm.dtype == torch.float32
    assert torch.equal(norm, state["model.norm.weight"].float())


def test_a_prefix_may_be_missing(tmp_path: Path) -> None:
    """GPT-2's own files have none."""
    theirs = saved("gpt2", tmp_path)
    path = tmp_path / "model.safetensors"
    save_file({name.removeprefix("transformer."): t for name, t in load_file(path).items()}, path)
    tokens = some_tokens()
    ours = logits_of(load_folder_weights(tmp_path), tokens)
    torch.testing.assert_close(ours, their_logits(theirs, tokens), atol=1e-4, rtol=0)


def test_a_tensor_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    """Until then just its name is known: a model is not held twice."""
    saved("llama", tmp_path)
    tensors = open_folder(tmp_path)
    assert "norm.weight" in tensors
    assert not tensors.taken
    assert tensors["norm.weight"].shape == (32,)
    assert tensors.taken == {"norm.weight"}


def test_an_adapter_alone_is_told_from_a_model(tmp_path: Path) -> None:
    """PEFT's folders have no model in them."""
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="is an adapter without its model: merge it first"):
        load_folder_weights(tmp_path)
