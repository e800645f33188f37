"""What shape a decoder has, and which of the two families' conventions it follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from models.failure import ModelError

Family = Literal["llama", "gpt2"]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The sizes of one decoder.

    `llama`: RMSNorm, rotary positions, grouped-query attention, SwiGLU, no biases.
    `gpt2`: LayerNorm, learned positions, GELU (tanh), biases everywhere.
    """

    family: Family
    vocabulary: int  # tokens
    context: int  # tokens
    width: int  # of the residual stream
    depth: int  # blocks
    heads: int  # query heads
    kv_heads: int  # key and value heads
    head_width: int
    hidden: int  # width of the feed-forward layer
    norm_eps: float
    rope_base: float = 10_000.0  # llama only
    tied: bool = True  # the head is the embedding

    def __post_init__(self) -> None:
        sizes = ["vocabulary", "context", "width", "depth", "heads", "kv_heads", "head_width", "hidden"]
        for name in sizes:
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ModelError(f"the model's {name} is {value!r}, which no model has: copy its configuration again")
        for name in ("norm_eps", "rope_base"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise ModelError(f"the model's {name} is {value!r}, which no model has: copy its configuration again")
        if self.heads % self.kv_heads:
            raise ModelError(f"{self.heads} query heads cannot share {self.kv_heads} key heads: copy config.json again")

    @property
    def attention_width(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_width

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_width

    @property
    def biased(self) -> bool:
        return self.family == "gpt2"

    @property
    def body_weights(self) -> int:
        """Matrix entries that every token passes through: the blocks, without embeddings, norms and head."""
        gates = 2 if self.family == "llama" else 1
        attention = self.width * (self.attention_width + 2 * self.kv_width) + self.attention_width * self.width
        return self.depth * (attention + (gates + 1) * self.width * self.hidden)

    @property
    def head_weights(self) -> int:
        """Matrix entries of the LM head."""
        return self.vocabulary * self.width
