"""A policy's weights go out and come in unchanged; what is damaged or of another shape is refused in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.architecture import Architecture
from models.checkpoint import load_checkpoint, save_checkpoint
from models.decoder import Decoder
from models.failure import ModelError
from tests.tiny import GPT2, LLAMA, decoder_of


@pytest.mark.parametrize("architecture", [LLAMA, GPT2, replace(LLAMA, tied=False)], ids=["llama", "gpt2", "untied"])
def test_a_checkpoint_comes_back_exactly(architecture: Architecture, tmp_path: Path) -> None:
    """Every weight, bit for bit."""
    decoder = decoder_of(architecture)
    save_checkpoint(decoder, tmp_path / "c.safetensors")
    again = load_checkpoint(Decoder(architecture).hollow(), tmp_path / "c.safetensors").state_dict()
    assert again.keys() == decoder.state_dict().keys()
    assert all(torch.equal(again[name], weight) for name, weight in decoder.state_dict().items())


def test_a_checkpoint_says_the_same_on_every_writing(tmp_path: Path) -> None:
    """The same weights, the same bytes: digests of checkpoints mean something."""
    for name in ("a", "b"):
        save_checkpoint(decoder_of(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("damage", ["cut", "header", "empty", "text"])
def test_a_damaged_checkpoint_is_refused(damage: str, tmp_path: Path) -> None:
    """In one line that says what to do."""
    path = tmp_path / "c.safetensors"
    save_checkpoint(decoder_of(), path)
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:-100], "header": b"\xff" * 16 + whole[16:], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(ModelError, match=r"is damaged .*delete it and run again"):
        load_checkpoint(Decoder(LLAMA).hollow(), path)


@pytest.mark.parametrize("other", [replace(LLAMA, hidden=32), replace(LLAMA, depth=3), replace(LLAMA, depth=1), GPT2])
def test_a_checkpoint_of_another_shape_is_refused(other: Architecture, tmp_path: Path) -> None:
    """Too wide, too deep, too shallow, or of the other family."""
    save_checkpoint(decoder_of(), tmp_path / "c.safetensors")
    with pytest.raises(ModelError, match="weights do not fit the configuration"):
        load_checkpoint(Decoder(other).hollow(), tmp_path / "c.safetensors")
