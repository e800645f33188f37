"""The families that our decoder computes, by the `model_type` of their config.json; other models are foreign."""

from __future__ import annotations

from models.architecture import Architecture
from models.failure import ForeignModelError, ModelError
from models.families import gemma, gpt2, llama, mistral, qwen2, qwen3
from models.families.family import Config, Family

KNOWN: dict[str, Family] = {module.FAMILY.name: module.FAMILY for module in (gemma, gpt2, llama, mistral, qwen2, qwen3)}
# Mistral is a llama there.
BY_GGUF_NAME: dict[str, Family] = {
    family.gguf_name: family for family in KNOWN.values() if family is not mistral.FAMILY
}


def describe(config: Config) -> Architecture:
    """What a config.json describes; ForeignModelError, with the reason, where our decoder does not compute that."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in KNOWN:
        raise ForeignModelError(f"{kind!r} models are not among {', '.join(KNOWN)}")
    if config.get("quantization_config"):
        raise ModelError("its weights are quantised, which cannot be trained: bring the model in 16 or 32 bits")
    try:
        return KNOWN[kind].architecture(config)
    except KeyError as error:
        raise ModelError(f"its config.json has no {error}: copy the model's folder again") from error
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ModelError(f"its config.json makes no sense ({error}): copy the model's folder again") from error


def is_native(config: Config) -> bool:
    """Whether our decoder computes this model; a damaged configuration counts as ours, to be refused on reading."""
    try:
        describe(config)
    except ForeignModelError:
        return False
    except ModelError:
        return True
    return True


def family_of(architecture: Architecture) -> Family:
    """The family that a decoder is written as; ModelError for one that came through transformers."""
    if architecture.family not in KNOWN:
        raise ModelError(f"a {architecture.family!r} model is none of {', '.join(KNOWN)}: export it with --to hf")
    return KNOWN[architecture.family]
