"""A model's files out of the Hugging Face Hub, fetched once into the Hub's own cache.

The library honours HF_HOME, HF_TOKEN, HF_HUB_OFFLINE and HF_ENDPOINT by itself; it is imported when first needed.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.failure import ModelError
from models.hub import HubModel
from models.hub_faults import cache_folder, explain, reason_of

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
# All that decides what a model is. Other weights in a repository (pickled, ONNX, consolidated) are left there.
WANTED = (
    *("config.json", "generation_config.json", "chat_template.jinja", "chat_template.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "tokenizer.model"),
    *WEIGHTS,
)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A model's files on this machine, and the commit that they are from."""

    folder: Path
    commit: str


def fetch_model(model: HubModel, say: Callable[[str], None] = lambda line: None) -> Snapshot:
    """The model's files, downloaded where the Hub's cache has them not; ModelError says in one line what is amiss."""
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    try:
        with _quiet_unless_watched():
            here = try_to_load_from_cache(model.repo, "config.json", revision=model.revision)
            if not isinstance(here, str) and not is_offline():
                say(f"fetching {model.spec} from the Hugging Face Hub into {cache_folder()}")
            folder = Path(snapshot_download(model.repo, revision=model.revision, allow_patterns=list(WANTED)))
    except _failures() as error:
        raise ModelError(explain(model, error)) from error
    _refuse_without_weights(model, folder)
    return Snapshot(folder=folder, commit=folder.name)


def fetch_config(model: HubModel) -> dict[str, Any] | None:
    """The model's config.json alone; None where it cannot be had or read: `fetch_model` says why."""
    from huggingface_hub import hf_hub_download

    try:
        with _quiet_unless_watched():
            path = Path(hf_hub_download(model.repo, "config.json", revision=model.revision))
        config = json.loads(path.read_text(encoding="utf-8"))
    except _failures():
        return None
    return config if isinstance(config, dict) else None


def _failures() -> tuple[type[Exception], ...]:
    """What the library raises, and what a failed connection does in whichever HTTP library it stands on."""
    from huggingface_hub.errors import HfHubHTTPError

    https: tuple[Any, ...] = HfHubHTTPError.__bases__
    return (*https, OSError, RuntimeError, ValueError)


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids to ask the Hub."""
    from huggingface_hub.constants import HF_HUB_OFFLINE

    return bool(HF_HUB_OFFLINE)


@contextlib.contextmanager
def _quiet_unless_watched() -> Iterator[None]:
    """The library's bars on a terminal; no bars and no advice elsewhere."""
    from huggingface_hub import utils

    library: Any = utils  # it leaves these untyped
    before = library.logging.get_verbosity()
    silenced = not sys.stderr.isatty() and not library.are_progress_bars_disabled()
    library.logging.set_verbosity_error()
    if silenced:
        library.disable_progress_bars()
    try:
        yield
    finally:
        library.logging.set_verbosity(before)
        if silenced:
            library.enable_progress_bars()


def _refuse_without_weights(model: HubModel, folder: Path) -> None:
    """ModelError where the repository has no weights that we read, or an index names a file that is not there."""
    if not (folder / "config.json").is_file():
        raise ModelError(_without(model, folder, "config.json"))
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        return
    if not index.is_file():
        raise ModelError(_without(model, folder, "safetensors"))
    try:
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        missing = [name for name in shards if not (folder / name).is_file()]
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ModelError(f"model {model.spec!r}: {index.name} cannot be read ({reason_of(error)})") from error
    if missing:
        raise ModelError(
            f"model {model.spec!r} lacks the shard {missing[0]} ({len(missing)} of {len(shards)} are missing): if "
            f"{model.page} has it, run again online, else choose another revision"
        )


def _without(model: HubModel, folder: Path, lacking: str) -> str:
    names = _names(model, folder)
    start = f"model {model.spec!r}"
    if any(name.endswith(".gguf") for name in names) and not any(name.endswith(".safetensors") for name in names):
        return f"{start} has only GGUF files: download one of them and give its path as --model"
    if lacking == "safetensors" and any(re.search(r"\.(bin|pt|pth|ckpt|h5|msgpack)$", name) for name in names):
        return (
            f"{start} has only pickled weights, which can run code: choose a revision with model.safetensors, or load "
            "it where you trust it, save_pretrained(folder, safe_serialization=True), and give that folder"
        )
    if any(name == "adapter_config.json" for name in names):
        return f"{start} is an adapter, not a model: merge it into its base model, save that, and give the folder"
    return f"{start} has no {lacking} at its top: choose a repository of a model in Hugging Face layout"


def _names(model: HubModel, folder: Path) -> list[str]:
    """All files of the repository where the Hub answers; else those that are here."""
    from huggingface_hub import HfApi

    try:
        with _quiet_unless_watched():
            return list(HfApi().list_repo_files(model.repo, revision=folder.name))
    except _failures():
        return [file.name for file in folder.iterdir()]
