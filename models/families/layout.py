"""How a format names and lays out the decoder's tensors, read in both directions.

A name is a module's and `weight` or `bias`. Ours are those of `Decoder.state_dict()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from models.architecture import Architecture
from models.decoder import Decoder
from models.failure import ModelError

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Names by ours. What lies in one matrix of ours may be several of theirs, one above the other."""

    outer: Mapping[str, str]  # modules outside the blocks
    block: str  # before the names in a block, {} for its number
    parts: Mapping[str, tuple[str, ...]]  # modules in a block
    prefix: str = ""  # before every name but the head's; some files leave it out
    input_first: bool = False  # matrices in blocks are (input, output)
    interleaved: bool = False  # rotary features alternate; ours turn in two halves
    offset_added: bool = False  # norms' weights have the offset in them

    def names(self, ours: str) -> tuple[str, ...]:
        """Their names, without the prefix, of one of our tensors."""
        module, _, kind = ours.rpartition(".")
        if module in self.outer:
            return (f"{self.outer[module]}.{kind}",)
        _, number, part = module.split(".")
        return tuple(f"{self.block.format(number)}{name}.{kind}" for name in self.parts[part])

    def written(self, name: str) -> str:
        """A name as it stands in a whole model's file."""
        return name if name == f"{self.outer['untied_head']}.weight" else self.prefix + name


def arrange(layout: Layout, architecture: Architecture, theirs: Mapping[str, Tensor]) -> State:
    """Our tensors out of theirs; MisfitError for a missing one or another shape."""
    with torch.device("meta"):
        wanted = Decoder(architecture).state_dict()
    return {name: _joined(_pieces(layout, architecture, name, like), theirs) for name, like in wanted.items()}


def _joined(pieces: list[Piece], theirs: Mapping[str, Tensor]) -> Tensor:
    found = []
    for piece in pieces:
        if piece.name not in theirs:
            raise MisfitError(f"{piece.name} is missing")
        tensor = theirs[piece.name]
        if tensor.shape != piece.shape:
            raise MisfitError(f"{piece.name} is {_by(tensor.shape)}, not {_by(piece.shape)}")
        found.append(piece.turn.ours(tensor))
    return found[0].contiguous() if len(found) == 1 else torch.cat(found)


def disperse(layout: Layout, architecture: Architecture, ours: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Their tensors, without the prefix, out of ours, one at a time."""
    for name, whole in ours.items():
        pieces = _pieces(layout, architecture, name, whole)
        parts = whole.split([piece.height for piece in pieces])
        for piece, part in zip(pieces, parts, strict=True):
            yield piece.name, piece.turn.theirs(part).contiguous()


class MisfitError(ModelError):
    """Weights that are missing, or of another shape than the configuration says."""


class Turn(NamedTuple):
    """What a tensor goes through on its way to ours, and back."""

    ours: Callable[[Tensor], Tensor]
    theirs: Callable[[Tensor], Tensor]


class Piece(NamedTuple):
    """One of their tensors that lie in one of ours."""

    name: str
    shape: tuple[int, ...]  # as they have it
    height: int  # its rows in ours
    turn: Turn


def _pieces(layout: Layout, a: Architecture, ours: str, like: Tensor) -> list[Piece]:
    names = layout.names(ours)
    part = ours.split(".")[-2]
    pieces = []
    for place, (name, height) in enumerate(zip(names, _heights(a, part, len(names), len(like)), strict=True)):
        shape = (height, *like.shape[1:])
        turn = _turn(layout, a, ours, place, like.ndim)
        pieces.append(Piece(name, shape[::-1] if turn is TRANSPOSED else shape, height, turn))
    return pieces


def _heights(a: Architecture, part: str, count: int, whole: int) -> tuple[int, ...]:
    if count == 1:
        return (whole,)
    return {"qkv": (a.attention_width, a.kv_width, a.kv_width), "up": (a.hidden, a.hidden)}[part]


def _turn(layout: Layout, a: Architecture, ours: str, place: int, dimensions: int) -> Turn:
    part, kind = ours.split(".")[-2:]
    if layout.input_first and dimensions == 2 and ours.startswith("blocks."):
        return TRANSPOSED
    if layout.interleaved and part == "qkv" and place < 2:
        return _rotary((a.heads, a.kv_heads)[place])
    if layout.offset_added and part.endswith("norm") and kind == "weight":
        return _offset(a.norm_offset)
    return SAME


SAME = Turn(ours=lambda tensor: tensor, theirs=lambda tensor: tensor)
TRANSPOSED = Turn(ours=lambda matrix: matrix.T, theirs=lambda matrix: matrix.T)


def _rotary(heads: int) -> Turn:
    """A head's features alternate between its two halves."""
    return Turn(
        ours=lambda rows: rows.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2),
        theirs=lambda rows: rows.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2),
    )


def _offset(offset: float) -> Turn:
    return Turn(ours=lambda weight: weight - offset, theirs=lambda weight: weight + offset)


def _by(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "a number"
