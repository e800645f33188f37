"""Adapters as the `peft` library keeps them: adapter_config.json beside adapter_model.safetensors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from models.architecture import Architecture
from models.checkpoint import save_state
from models.decoder import Decoder
from models.failure import ModelError
from models.families import family_of
from models.lora import Lora, projections
from models.low_rank import adapters, lora_of

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# What PEFT can do otherwise, and what our adapters are.
ALWAYS: Mapping[str, Any] = {
    "peft_type": "LORA",
    "bias": "none",
    "use_rslora": False,
    "use_dora": False,
    "rank_pattern": {},
    "alpha_pattern": {},
    "modules_to_save": None,
    "layers_to_transform": None,
}


def write_peft(decoder: Decoder, folder: Path, base_name: str) -> None:
    """Write the decoder's adapter so that `PeftModel.from_pretrained(base, folder)` computes what the decoder does.

    `base_name` is what PEFT is to find the base by, a name on the Hub or a path.
    """
    lora = lora_of(decoder)
    if lora is None:
        raise ModelError("this checkpoint has no adapter, so there is none to write: write the whole model")
    folder.mkdir(parents=True, exist_ok=True)
    a = decoder.architecture
    said = {
        **ALWAYS,
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": lora.r,
        "lora_alpha": int(lora.alpha) if lora.alpha.is_integer() else lora.alpha,
        "lora_dropout": 0.0,
        "target_modules": _targets(lora, a),
        "fan_in_fan_out": family_of(a).layout.input_first,
        "init_lora_weights": True,
        "inference_mode": True,
    }
    save_state(dict(_named(decoder)), folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def _targets(lora: Lora, a: Architecture) -> list[str]:
    """The last part of each module's name, as most tools read them, unless that would take in more than is meant."""
    chosen, names = lora.projections(a), list[str]()
    for projection in chosen:
        last = projection.theirs.rpartition(".")[2]
        called = [p for p in projections(a) if p.is_called(last)]
        names.append(last if set(called) <= set(chosen) else projection.theirs)
    return list(dict.fromkeys(names))


def _named(decoder: Decoder) -> Iterator[tuple[str, nn.Parameter]]:
    """The adapter's weights by PEFT's names."""
    layout = family_of(decoder.architecture).layout
    for name, adapter in adapters(decoder).items():
        _, number, _ = name.split(".")
        for pair in adapter.pairs:
            start = f"base_model.model.{layout.prefix}{layout.block.format(number)}{pair.projection.theirs}"
            yield f"{start}.lora_A.weight", pair.a
            yield f"{start}.lora_B.weight", pair.b
