"""The tensors of a model's files, by name, read one at a time, and which of them were taken."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from models.failure import ModelError
from models.tokens import read_json

INDEX = "model.safetensors.index.json"
SHARD = re.compile(r"(.*)-(\d+)-of-(\d+)\.safetensors")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
# What exports carry along although it follows from the rest.
LEFT_OVER = re.compile(r"(.*\.attn\.(masked_)?bias|.*rotary_emb\.inv_freq|lm_head\.weight)")


class Tensors(Mapping[str, Tensor]):
    """Each tensor in float32, read when it is asked for."""

    def __init__(self, readers: Mapping[str, Callable[[], Tensor]]) -> None:
        self.readers = readers
        self.taken: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self.taken.add(name)
        tensor = self.readers[name]()
        if tensor.dtype not in FLOATS:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ModelError(f"{name} is kept as {kind}, which cannot be trained: bring the model in 16 or 32 bits")
        return tensor.float()

    def __iter__(self) -> Iterator[str]:
        return iter(self.readers)

    def __len__(self) -> int:
        return len(self.readers)

    def __contains__(self, name: object) -> bool:
        return name in self.readers

    def refuse_left_over(self, source: Path) -> None:
        """ModelError where weights were left out: the model would not be the one that was saved."""
        left = [name for name in self if name not in self.taken and not LEFT_OVER.fullmatch(name)]
        if left:
            raise ModelError(
                f"{source} has weights that its configuration does not know ({left[0]} and {len(left) - 1} more): "
                "copy the model again"
            )


def refuse_not_finite(tensor: Tensor, name: str, file: Path) -> None:
    """ModelError where a weight is NaN or infinite: all that is computed from it would be."""
    if tensor.dtype in FLOATS and tensor.numel():
        low, high = tensor.aminmax()  # no second copy of it, and NaN comes through
        if not (low.isfinite() and high.isfinite()):
            raise ModelError(f"{file}: {name} has numbers in it that are NaN or infinite: get or save the model again")


def file_of(folder: Path, name: str) -> Path:
    """The file that holds a tensor; the folder where no file has it under this name."""
    return _places(folder).get(name, folder)


def open_folder(folder: Path) -> Tensors:
    """The tensors of a folder's safetensors, `model.` or `transformer.` taken off their names."""
    readers: dict[str, Callable[[], Tensor]] = {}
    for name, file in _places(folder).items():
        readers[name.removeprefix("model.").removeprefix("transformer.")] = partial(_tensor, file, name)
    return Tensors(readers)


def _places(folder: Path) -> dict[str, Path]:
    """In which file each tensor is."""
    if not (folder / "model.safetensors").exists() and (folder / INDEX).exists():
        return _indexed(folder)
    files = [folder / "model.safetensors"]
    if not files[0].exists():
        files = _complete(folder, sorted(folder.glob("*.safetensors")))
    return {name: file for file in files for name in _names(file)}


def _indexed(folder: Path) -> dict[str, Path]:
    """By the index; ModelError where a shard is not there, or lacks what it should hold."""
    index = read_json(folder / INDEX)
    listed: Any = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(listed, dict) or not listed:
        raise ModelError(f"{folder / INDEX} lists no weights: copy the model's folder again")
    shards = sorted({str(shard) for shard in listed.values()})
    for shard in shards:
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise ModelError(f"{folder / INDEX} names {shard!r}, which is no safetensors file beside it: copy it again")
    missing = [shard for shard in shards if not (folder / shard).exists()]
    if missing:
        raise ModelError(f"{folder} lacks {missing[0]}, one of {len(shards)} files of weights: fetch it again")
    held = {shard: set(_names(folder / shard)) for shard in shards}
    for name, shard in listed.items():
        if name not in held[shard]:
            raise ModelError(f"{folder / INDEX} names {name}, which is not in {shard}: copy the model's folder again")
    return {name: folder / shard for shard in shards for name in held[shard]}


def _complete(folder: Path, files: list[Path]) -> list[Path]:
    """All files of weights, as there is no index; ModelError where there are none or one's name tells of a lost one."""
    if not files:
        pickled = any(True for pattern in PICKLES for _ in folder.glob(pattern))
        reason = "only pickled weights, which can run code" if pickled else "no weights"
        raise ModelError(f"{folder} holds {reason}: save it with save_pretrained(safe_serialization=True)")
    for found in filter(None, (SHARD.fullmatch(file.name) for file in files)):
        start, width, count = found[1], len(found[2]), int(found[3])
        for number in range(1, min(count, 10_000) + 1):
            shard = f"{start}-{number:0{width}}-of-{found[3]}.safetensors"
            if not (folder / shard).exists():
                raise ModelError(f"{folder} lacks {shard}, one of {count} files of weights: fetch it again")
    return files


def _names(file: Path) -> list[str]:
    with _opened(file) as tensors:
        return list(tensors.keys())


def _tensor(file: Path, name: str) -> Tensor:
    with _opened(file) as tensors:
        tensor: Tensor = tensors.get_tensor(name)
    refuse_not_finite(tensor, name, file)
    return tensor


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="pt") as tensors:
            yield tensors
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} is damaged ({error}): delete it and fetch it again") from error
