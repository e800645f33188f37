"""What shape a decoder has, and which of the two families' conventions it follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
