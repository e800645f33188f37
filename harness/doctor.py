"""What this machine has, a line each."""

from __future__ import annotations

import platform
from collections.abc import Iterator

import torch

from harness import __version__, cache
from harness.training.machine import choose_device, choose_dtype
from models import kernels
from models.hub_faults import cache_folder
from models.hub_fetch import is_offline


def examine(*, prune: bool) -> Iterator[str]:
    """Versions, device, dtype, cache and Ollama; with `prune`, the cache is brought within its limit first."""
    yield f"prefbench {__version__} · Python {platform.python_version()} · torch {torch.__version__}"
    device = choose_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    yield f"device   {device.type}, {name}, fastest in {str(choose_dtype(device)).removeprefix('torch.')}"
    yield f"kernels  {kernels.built().said}"
    root = cache.cache_root()
    if prune:
        yield f"pruned   {cache.prune(root) / 2**30:.1f} GiB"
    yield f"cache    {root}: {cache.size_bytes(root) / 2**30:.1f} of {cache.LIMIT_BYTES / 2**30:.0f} GiB"
    yield f"hub      {cache_folder()}{' (not asked: HF_HUB_OFFLINE is set)' if is_offline() else ''}"
    yield f"ollama   {_ollama()}"


def ollama_models() -> list[str] | None:
    """The models that an Ollama server offers as judges; None where no server answers."""
    import httpx
    import ollama

    try:
        return [str(m.model) for m in ollama.Client(timeout=1.0).list().models]
    except (
        *(ConnectionError, TypeError, ValueError, RecursionError),
        *(httpx.HTTPError, httpx.InvalidURL, ollama.ResponseError),
    ):
        return None  # nobody there, or somebody else


def _ollama() -> str:
    names = ollama_models()
    if names is None:
        return "no server answers (set OLLAMA_HOST if it is elsewhere)"
    if not names:
        return "a server answers but has no model: ollama pull llama3.2"
    return f"a server answers; use it with --judge ollama:MODEL, MODEL one of {', '.join(names)}"
