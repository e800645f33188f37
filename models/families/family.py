"""One family: which features its decoders have, and how its files say so. Both directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from models.architecture import Architecture
from models.families.layout import Layout

Config = Mapping[str, Any]  # a config.json


@dataclass(frozen=True, kw_only=True)
class Family:
    """A configuration of the decoder that many published models share."""

    name: str  # `model_type` in config.json
    class_name: str  # in transformers, with the LM head
    features: Mapping[str, Any]  # fields of `Architecture` that all its models have
    read: Callable[[Config], Mapping[str, Any]]  # config.json → the other fields of `Architecture`
    write: Callable[[Architecture], dict[str, Any]]  # → config.json, without what all families have
    layout: Layout
    gguf_name: str  # `general.architecture`; Llama's tensors have its name whatever the family
    gguf_layout: Layout

    def architecture(self, config: Config) -> Architecture:
        """What config.json describes."""
        return Architecture(family=self.name, **{**self.features, **self.read(config)})
