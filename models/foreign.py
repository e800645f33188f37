"""Loads, through transformers, a model that our decoder does not compute, and checks that it computes it here.

Nothing is believed: the model's own code first runs on texts apart, then the same texts run packed through our
attention, and the logits have to agree. Code that lies beside a model is never run.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.adapted import ATTENTION, Adapted, attention, quiet
from models.failure import ForeignModelError, ModelError, one_line
from models.families import describe
from models.foreign_check import logits_apart, logits_packed, observe, ratio, sample
from models.foreign_sizes import read_sizes, refuse_softcap
from models.packing import pack
from models.tensors import file_of, open_folder, refuse_not_finite
from models.weights import read_config

TOLERANCE = 1e-4  # of logits: absolute where they are small, else relative to the largest
# What code that was not made for packed texts may raise on them.
STRANGE = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, NotImplementedError)


def load_adapted(folder: Path) -> Adapted:
    """The model in a folder of Hugging Face layout, in float32, frozen; ModelError says why it cannot be."""
    config = read_config(folder)
    if config.get("quantization_config"):
        raise ModelError(f"{folder}: its weights are quantised, which cannot be trained: bring the model in 16 bits")
    open_folder(folder)  # says what is wrong with the files of weights
    refuse_without_transformers(folder, config)
    with quiet():
        model = _load(folder, config)
        try:
            return _adapt(model, folder)
        except ModelError as error:
            raise error if str(folder) in str(error) else ModelError(f"{folder}: {error}") from error
        except STRANGE as error:
            raise ModelError(
                f"{folder}: {type(model).__name__} does not run on packed texts ({one_line(error)}): use another model"
            ) from error


def has_transformers() -> bool:
    """Whether the library is installed; it is not imported."""
    return importlib.util.find_spec("transformers") is not None


def refuse_without_transformers(source: object, config: Mapping[str, Any]) -> None:
    """ModelError where the library is missing, with the reason why it is needed."""
    if has_transformers():
        return
    reason = f"{source} is to be computed by transformers, which is not installed"
    try:
        describe(config)
    except ForeignModelError as error:
        reason = f"{source}: {error}"
    except ModelError:
        pass  # damaged too, which is told once it can be read
    raise ModelError(f"{reason}: pip install 'prefbench[hf]' to have transformers compute it")


def _load(folder: Path, config: Mapping[str, Any]) -> Any:
    loaded: Any
    try:
        from transformers import AttentionInterface, AutoModelForCausalLM

        AttentionInterface.register(ATTENTION, attention)
        loaded = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation=ATTENTION,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # whatever a configuration makes strangers' code raise
        raise ModelError(_unloadable(folder, config, error)) from error
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise ModelError(f"{folder} lacks the weights {missing[0]} and {len(missing) - 1} more: copy the model again")
    for name, weight in model.named_parameters():
        refuse_not_finite(weight.detach(), name, file_of(folder, name))
    return model.eval().requires_grad_(False)


def _unloadable(folder: Path, config: Mapping[str, Any], error: Exception) -> str:
    kind = config.get("model_type")
    if "auto_map" in config or "trust_remote_code" in str(error):
        return (
            f"{folder} is a {kind!r} model, which needs code from its repository, and that is never run: use a model "
            "that transformers itself knows"
        )
    if isinstance(error, KeyError) and ATTENTION in str(error):
        return f"{folder}: {kind!r} models attend in a way of their own, which cannot run on packed texts: use another"
    if "Unrecognized configuration class" in str(error):
        return f"{folder} is a {kind!r} model, which does not continue text: use a causal language model"
    if "does not recognize this architecture" in str(error):
        return f"{folder} is a {kind!r} model, which this transformers does not know: pip install -U transformers"
    return f"{folder}: transformers cannot load this {kind!r} model ({one_line(error)}): use another model"


def _adapt(model: Any, folder: Path) -> Adapted:
    """The model behind our interface, once it has shown that it computes the same there."""
    config = model.config.get_text_config()
    refuse_softcap(config)
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise ModelError(f"{folder}: {type(model).__name__} has no plain LM head: use another model")
    vocabulary = head.weight.shape[0]
    rows = sample(vocabulary)
    batch = pack(rows)
    own_MV = logits_apart(model, rows)
    with torch.no_grad():
        heads = observe(model, batch)
    adapted = Adapted(model, read_sizes(model, config, heads, vocabulary))
    ours_MV = logits_packed(adapted, batch)
    adapted.scale = ratio(ours_MV, own_MV)
    difference = float((ours_MV * adapted.scale - own_MV).abs().max())
    if not difference <= TOLERANCE * max(1.0, float(own_MV.abs().max())):
        raise ModelError(
            f"{folder}: {type(model).__name__} computes packed texts otherwise than texts apart (logits differ by "
            f"{difference:.2g}), so it cannot be measured here: use another model"
        )
    return adapted
