"""What a stage of training leaves of a policy, as safetensors: all its weights, or, with an adapter, that alone."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.decoder import Decoder
from models.failure import ModelError
from models.low_rank import adapters, own_weights


def save_checkpoint(policy: Decoder, path: Path) -> None:
    """Write what training changed."""
    state: dict[str, Tensor] = {**own_weights(policy)} if adapters(policy) else policy.state_dict()
    save_state(state, path)


def load_checkpoint(hollow: Decoder, path: Path) -> Decoder:
    """Fill a decoder whose weights, or adapter's weights, are to be those of the file; it comes back frozen.

    `hollow` is `Decoder.hollow()`, or a base with any adapter of the same shape.
    """
    state = load_state(path)
    wanted = own_weights(hollow) if adapters(hollow) else hollow.state_dict()
    fits = state.keys() == wanted.keys() and all(state[name].shape == like.shape for name, like in wanted.items())
    if not fits:
        raise ModelError(f"{path}: the weights do not fit the configuration: delete it and run again")
    hollow.load_state_dict(state, strict=not adapters(hollow), assign=True)
    return hollow.requires_grad_(False)


def save_state(state: dict[str, Tensor], path: Path) -> None:
    """Write tensors; ModelError where there is no room."""
    try:
        save_file({name: tensor.detach().contiguous() for name, tensor in state.items()}, path)
    except SafetensorError as error:
        raise ModelError(f"{path.name} cannot be written ({error}): make room, then run again") from error


def load_state(path: Path) -> dict[str, Tensor]:
    """A safetensors file's tensors; ModelError when it is damaged."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged ({error}): delete it and run again") from error
