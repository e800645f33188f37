"""What shape a decoder has, and which of the families' ways it computes in: all that tells one model from another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from models.failure import ModelError


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """Slower rotary turns, for contexts longer than the first training had.

    `linear`: every angle divided by `factor` (arXiv:2306.15595). `llama3`: only the slow ones, those that turn less
    than `low` times in `original` tokens; those that turn more than `high` times stay, and between them it is mixed.
    """

    kind: Literal["linear", "llama3"]
    factor: float
    low: float = 1.0  # turns in `original` tokens
    high: float = 4.0  # turns in `original` tokens
    original: int = 8192  # tokens

    def __post_init__(self) -> None:
        for name in ("factor", "low", "high", "original"):
            _refuse_unless_positive(f"rope scaling's {name}", getattr(self, name))
        if self.low >= self.high:
            raise ModelError(f"rope scaling mixes from {self.low} to {self.high} turns: copy config.json again")


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The sizes of one decoder, and its features; a feature's default is Llama's way.

    Llama: RMSNorm, rotary positions, grouped-query attention, SwiGLU, no biases.
    """

    family: str  # whose names and configuration it is written with; the decoder never looks at it
    vocabulary: int  # tokens
    context: int  # tokens that can be read at once
    width: int  # of the residual stream
    depth: int  # blocks
    heads: int  # query heads
    kv_heads: int  # key and value heads
    head_width: int
    hidden: int  # width of the feed-forward layer
    norm_eps: float
    tied: bool = True  # the head is the embedding
    norm: Literal["rms", "layer"] = "rms"
    norm_offset: float = 0.0  # added to each norm's weights
    scaled_embedding: bool = False  # embeddings are multiplied by the square root of the width
    rotary: bool = True  # else positions are learned
    rope_base: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: bool = False  # queries and keys are normed, head by head
    feed_bias: bool = False
    gated: bool = True  # the feed-forward layer multiplies a gate and a value
    activation: Literal["silu", "gelu_tanh"] = "silu"
    # Where attention reaches back only so far, no more is read at once, so that it never cuts: `context` is that
    # window, and this what the model is said to take.
    full_context: int | None = None

    def __post_init__(self) -> None:
        sizes = ["vocabulary", "context", "width", "depth", "heads", "kv_heads", "head_width", "hidden"]
        for name in sizes:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ModelError(f"the model's {name} is {value!r}, which no model has: copy its configuration again")
        for name in ("norm_eps", "rope_base"):
            _refuse_unless_positive(f"model's {name}", getattr(self, name))
        if self.depth > 10_000:
            raise ModelError(f"the model's depth is {self.depth:,}, which no model has: copy its configuration again")
        if self.heads % self.kv_heads:
            raise ModelError(f"{self.heads} query heads cannot share {self.kv_heads} key heads: copy config.json again")
        if self.rotary and self.head_width % 2:
            raise ModelError(f"rotary heads of width {self.head_width} have no two halves: copy config.json again")

    @property
    def attention_width(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_width

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_width

    @property
    def gates(self) -> int:
        """Matrices into the feed-forward layer, one above the other."""
        return 2 if self.gated else 1

    @property
    def body_weights(self) -> int:
        """Matrix entries that every token passes through: the blocks, without embeddings, norms and head."""
        attention = self.width * (self.attention_width + 2 * self.kv_width) + self.attention_width * self.width
        return self.depth * (attention + (self.gates + 1) * self.width * self.hidden)

    @property
    def head_weights(self) -> int:
        """Matrix entries of the LM head."""
        return self.vocabulary * self.width


def _refuse_unless_positive(name: str, value: object) -> None:
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ModelError(f"the {name} is {value!r}, which no model has: copy its configuration again")
