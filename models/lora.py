"""LoRA (arXiv:2106.09685) in words: what is asked for, and which matrices of a model it lies beside.

W x becomes W x + (alpha / r) · B A x, with A (r × inputs) and B (rows × r) trained and W frozen.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import NamedTuple

from models.architecture import Architecture
from models.failure import ModelError
from models.families import KNOWN, family_of

ALL = "all-linear"  # every matrix in the blocks, as PEFT says it; never embeddings and head
_SHORT = {  # our names of a matrix's parts, by how many parts it has
    ("qkv", 3): ("q", "k", "v"),
    ("qkv", 1): ("qkv",),
    ("out", 1): ("o",),
    ("up", 2): ("gate", "up"),
    ("up", 1): ("up",),
    ("down", 1): ("down",),
}
_GROUPS = {"qkv": ("q", "k", "v")}
_EXAMPLE = "write it as lora:r=16:alpha=32:target=all-linear"
_OTHER_WORDS = {"rank": "r", "lora_r": "r", "lora_alpha": "alpha", "target_modules": "target", "learning_rate": "lr"}
_HIGHEST = {"r": 4096, "alpha": 1e6, "lr": 1e4}


class Projection(NamedTuple):
    """A part of one of a block's matrices that has a pair of its own: the query rows of `qkv`, for one."""

    matrix: str  # of our `Block`
    name: str  # ours: q, k, v, qkv, o, gate, up, down
    theirs: str  # in transformers: "self_attn.q_proj"
    start: int  # its first row in the matrix
    rows: int
    inputs: int

    def is_called(self, target: str) -> bool:
        """By our name, by transformers' or the end of it, or by a group that it is in."""
        groups = [group for group, names in _GROUPS.items() if self.name in names]
        return target in (self.name, self.theirs, self.theirs.rpartition(".")[2], *groups)


class Idle(NamedTuple):
    """What the backward pass leaves out in the first block: nothing before its first adapter is trained."""

    weights: int  # of frozen matrices whose inputs need no gradient
    adapter_weights: int  # of A's, likewise
    attention: bool


@dataclass(frozen=True, kw_only=True)
class Lora:
    """An adapter as asked for.

    Rates 10 times those of full training are a starting point (Schulman et al., "LoRA Without Regret", Thinking
    Machines, 2025, where that held over models and tasks, at alpha 32 whatever the rank).
    """

    r: int = 16
    alpha: float = 32.0
    target: tuple[str, ...] = (ALL,)
    lr: float = 10.0  # times the recipes' learning rates

    def __post_init__(self) -> None:
        for name in ("alpha", "lr"):
            object.__setattr__(self, name, float(getattr(self, name)))  # 32 and 32.0 are one adapter
        for name, highest in _HIGHEST.items():
            value = getattr(self, name)
            if not 0 < value <= highest:
                raise ModelError(f"adapter's {name}={value:g} is not above 0 and at most {highest:g}: {_EXAMPLE}")
        if not self.target:
            raise ModelError(f"an adapter without a target trains nothing: {_EXAMPLE}")
        for name in self.target:
            if name not in _TARGETS:
                raise ModelError(f"adapter's target {name!r} is not known{_hint(name, _TARGETS)}")

    @property
    def scale(self) -> float:
        """What B A x is multiplied by."""
        return self.alpha / self.r

    @property
    def spec(self) -> str:
        """What asks for it, every setting said."""
        alpha, lr = (str(float(number)).removesuffix(".0") for number in (self.alpha, self.lr))
        return f"lora:r={self.r}:alpha={alpha}:target={'+'.join(self.target)}:lr={lr}"

    def projections(self, a: Architecture) -> tuple[Projection, ...]:
        """What of each block it lies beside, in the order of use; ModelError where the model has no such part."""
        there = projections(a)
        if self.r > a.width:
            raise ModelError(f"adapter's r={self.r} is no low rank in a model of width {a.width}: choose a smaller one")
        for name in self.target:
            if name != ALL and not any(p.is_called(name) for p in there):
                names = ", ".join(p.name for p in there)
                raise ModelError(f"adapter's target {name!r} is not in a {a.family} model: it has {names}")
        return tuple(p for p in there if ALL in self.target or any(map(p.is_called, self.target)))

    def weights(self, a: Architecture) -> int:
        """Entries of all its matrices."""
        return a.depth * sum(self.r * (p.rows + p.inputs) for p in self.projections(a))

    def idle(self, a: Architecture) -> Idle:
        """What the backward pass leaves out."""
        mine, before = self.projections(a), 0
        for name, (rows, inputs) in matrices(a).items():
            before += rows * inputs
            if name == mine[0].matrix:
                break
        first = [p for p in mine if p.matrix == mine[0].matrix]
        return Idle(before, sum(self.r * p.inputs for p in first), attention=mine[0].matrix != "qkv")


def parse_lora(text: str) -> Lora:
    """`lora:r=16:alpha=32:target=q+v:lr=10`, any setting left out at its default; ModelError for anything else."""
    kind, *settings = (part.strip() for part in text.split(":"))
    if kind != "lora":
        raise ModelError(f"no adapter named {kind!r}, only lora: {_EXAMPLE}")
    given: dict[str, str] = {}
    for setting in settings:
        name, _, value = (part.strip() for part in setting.partition("="))
        if name not in _HIGHEST and name != "target":
            raise ModelError(f"adapter has no setting {name!r}{_hint(name, ['r', 'alpha', 'target', 'lr'])}")
        if not value:
            raise ModelError(f"adapter's {name} has no value: {_EXAMPLE}")
        if name in given:
            raise ModelError(f"adapter's {name} is given twice: give it once")
        given[name] = value
    return Lora(**{name: _read(name, value) for name, value in given.items()})  # type: ignore[arg-type]  # each its own


def _read(name: str, text: str) -> int | float | tuple[str, ...]:
    """A setting in its type; targets each once."""
    if name == "target":
        names = (part.strip() for part in text.replace(",", "+").split("+"))
        return tuple(dict.fromkeys(part for part in names if part))
    try:
        if not text.isascii() or "_" in text:
            raise ValueError(text)
        value = int(text) if name == "r" else float(text)
    except ValueError as error:
        kind = "whole number" if name == "r" else "number"
        raise ModelError(f"adapter's {name}={text} is no {kind}: {_EXAMPLE}") from error
    if not math.isfinite(value):
        raise ModelError(f"adapter's {name}={text} is no finite number: {_EXAMPLE}")
    return value


def matrices(a: Architecture) -> dict[str, tuple[int, int]]:
    """Rows and inputs of a block's matrices, by name, in the order of use."""
    return {
        "qkv": (a.attention_width + 2 * a.kv_width, a.width),
        "out": (a.width, a.attention_width),
        "up": (a.gates * a.hidden, a.width),
        "down": (a.width, a.hidden),
    }


def projections(a: Architecture) -> tuple[Projection, ...]:
    """A block's matrices in the parts that transformers has, in the order of use; ModelError for a foreign model."""
    if a.family not in KNOWN:
        raise ModelError(
            f"an adapter needs a model of {', '.join(KNOWN)}, and transformers computes this one: leave --adapter out"
        )
    found = []
    for matrix, (rows, inputs) in matrices(a).items():
        theirs, start = family_of(a).layout.parts[matrix], 0
        heights = [rows] if len(theirs) == 1 else _heights(a, matrix)
        for name, their, height in zip(_SHORT[matrix, len(theirs)], theirs, heights, strict=True):
            found.append(Projection(matrix, name, their, start, height, inputs))
            start += height
    return tuple(found)


def _heights(a: Architecture, matrix: str) -> list[int]:
    return [a.attention_width, a.kv_width, a.kv_width] if matrix == "qkv" else [a.hidden] * a.gates


def _hint(name: str, known: list[str]) -> str:
    close = [_OTHER_WORDS[name]] if name in _OTHER_WORDS else difflib.get_close_matches(name, known, 1, 0.5)
    return f": did you mean {close[0]!r}?" if close else f": {_EXAMPLE}"


def _known_targets() -> list[str]:
    names = [name for parts in _SHORT.values() for name in parts]
    theirs = [t for f in KNOWN.values() for m in ("qkv", "out", "up", "down") for t in f.layout.parts[m]]
    return list(dict.fromkeys([ALL, *names, *(t.rpartition(".")[2] for t in theirs), *theirs]))


_TARGETS = _known_targets()
