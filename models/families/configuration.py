"""What the config.json of Llama and its relatives have in common. Both directions."""

from __future__ import annotations

from typing import Any

from models.architecture import Architecture, RopeScaling
from models.failure import ForeignModelError, ModelError
from models.families.family import Config

DEFAULT_BASE = 10_000.0  # of rotary angles, where a configuration says none


def read_sizes(config: Config) -> dict[str, Any]:
    """The sizes, and the rotary angles."""
    heads, width = config["num_attention_heads"], config["hidden_size"]
    return {
        "vocabulary": config["vocab_size"],
        "context": config["max_position_embeddings"],
        "width": width,
        "depth": config["num_hidden_layers"],
        "heads": heads,
        "kv_heads": config.get("num_key_value_heads") or heads,
        "head_width": config.get("head_dim") or width // heads,
        "hidden": config["intermediate_size"],
        "norm_eps": config["rms_norm_eps"],
        "tied": bool(config.get("tie_word_embeddings", False)),
        **_read_rope(config),
    }


def write_sizes(a: Architecture) -> dict[str, Any]:
    """The same back, in the way that transformers 4 and 5 both read."""
    return {
        "vocab_size": a.vocabulary,
        "max_position_embeddings": a.context,
        "hidden_size": a.width,
        "num_hidden_layers": a.depth,
        "num_attention_heads": a.heads,
        "num_key_value_heads": a.kv_heads,
        "head_dim": a.head_width,
        "intermediate_size": a.hidden,
        "rms_norm_eps": a.norm_eps,
        "tie_word_embeddings": a.tied,
        "rope_theta": a.rope_base,
        "rope_scaling": _written_scaling(a.rope_scaling),
        "attention_dropout": 0.0,
    }


def refuse_unless(config: Config, **known: Any) -> None:
    """ForeignModelError where the configuration says otherwise than all models that we compute."""
    for name, value in known.items():
        if config.get(name, value) != value:
            kind = config.get("model_type")
            raise ForeignModelError(f"this {kind} has {name} = {config[name]!r}, and only {value!r} is known here")


def read_window(config: Config, window: int | None) -> dict[str, Any]:
    """The context that attention over so many tokens never cuts."""
    full = config["max_position_embeddings"]
    return {} if window is None or window >= full else {"context": window, "full_context": full}


def layers_window(config: Config) -> int | None:
    """How far attention reaches in the layers where it is limited, as Qwen has it; mostly it is not."""
    if not config.get("use_sliding_window"):
        return None
    limited = config.get("max_window_layers", 28) < config["num_hidden_layers"]
    if layers := config.get("layer_types"):
        limited = any(kind != "full_attention" for kind in layers)
    return config.get("sliding_window", 4096) if limited else None


def _said_of_rope(config: Config) -> Config:
    """`rope_parameters`, or `rope_scaling` as it was once; ModelError where both are there and differ.

    transformers takes the old one then, which whoever wrote the new one beside it may not have known.
    """
    new, old = config.get("rope_parameters"), config.get("rope_scaling")
    if new and old and _plainly(new, config) != _plainly(old, config):
        raise ModelError(
            f"its config.json has rope_parameters = {new!r} and rope_scaling = {old!r}, which differ: take out the one "
            "that is wrong"
        )
    return new or old or {}


def _plainly(said: Config, config: Config) -> dict[str, Any]:
    """In one spelling, with what it leaves to the rest of the configuration."""
    kind = said.get("rope_type", said.get("type", "default"))
    outside = {"rope_theta": config.get("rope_theta") or DEFAULT_BASE}
    own = {name: value for name, value in said.items() if name != "type" and value is not None}
    return outside | own | {"rope_type": kind}


def _read_rope(config: Config) -> dict[str, Any]:
    said = _said_of_rope(config)
    if any(isinstance(value, dict) for value in said.values()):
        raise ForeignModelError(f"this {config.get('model_type')} turns positions otherwise in each kind of layer")
    if said.get("partial_rotary_factor", config.get("partial_rotary_factor")) not in (None, 1):
        raise ForeignModelError(f"this {config.get('model_type')} turns only a part of each head")
    base = said.get("rope_theta") or config.get("rope_theta") or DEFAULT_BASE
    return {"rope_base": base, "rope_scaling": _read_scaling(said, config)}


def _read_scaling(said: Config, config: Config) -> RopeScaling | None:
    kind = said.get("rope_type", said.get("type", "default"))
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling(kind="linear", factor=said["factor"])
    if kind != "llama3":
        raise ForeignModelError(f"rope type {kind!r} is not known: default, linear and llama3 are")
    trained = said.get("original_max_position_embeddings") or config["max_position_embeddings"]
    return RopeScaling(
        kind="llama3",
        factor=said["factor"],
        low=said["low_freq_factor"],
        high=said["high_freq_factor"],
        original=trained,
    )


def _written_scaling(scaling: RopeScaling | None) -> dict[str, Any] | None:
    if scaling is None:
        return None
    said = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "linear":
        return said
    return said | {
        "low_freq_factor": scaling.low,
        "high_freq_factor": scaling.high,
        "original_max_position_embeddings": scaling.original,
    }
