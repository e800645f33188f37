"""One decoder for the Llama and GPT-2 families, over a flat stream of tokens.

Rows are not padded: N tokens of any number of rows lie one after another, and only attention, which is handed in
(`Attend`), knows which of them see each other. Shapes: N tokens · D width · H heads · K key/value heads · E head width.

The residual stream and the norms stay in float32; matrices are multiplied in the dtype asked for.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.architecture import Architecture

# (layer, query_NHE, key_NKE, value_NKE) → out_NHE
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


class Decoder(nn.Module):
    """Token ids in, final hidden states out; `head` holds the matrix that turns those into logits."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = a = architecture
        self.embedding = nn.Embedding(a.vocabulary, a.width)
        self.positions = nn.Embedding(a.context, a.width) if a.family == "gpt2" else None
        self.blocks = nn.ModuleList(Block(a) for _ in range(a.depth))
        self.norm = Norm(a)
        self.untied_head = None if a.tied else nn.Linear(a.width, a.vocabulary, bias=False)

    @property
    def head(self) -> Tensor:
        """The LM head, (vocabulary, D)."""
        return self.embedding.weight if self.untied_head is None else self.untied_head.weight

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    def forward(
        self, tokens_N: Tensor, positions_N: Tensor, attend: Attend, *, dtype: torch.dtype, keep: Sequence[int] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """Final normed hidden states (N, D), and the residual stream after each block in `keep`; both float32."""
        assert tokens_N.shape == positions_N.shape
        x_ND = self.embedding(tokens_N).float()
        rotation = None
        if self.positions is not None:
            x_ND = x_ND + self.positions(positions_N).float()
        else:
            rotation = rotary(positions_N, self.architecture)
        kept: list[Tensor] = []
        for layer, block in enumerate(self.blocks):
            x_ND = block(x_ND, layer, attend, rotation, dtype)
            if layer in keep:
                kept.append(x_ND)
        return self.norm(x_ND), kept

    def in_dtype(self, dtype: torch.dtype) -> Decoder:
        """A frozen copy with its matrices already in `dtype`: same numbers as casting at each use, half the reading.

        Embeddings are looked up, not multiplied, so they stay as they are; a tied head becomes a matrix of its own.
        """
        twin = copy.deepcopy(self).requires_grad_(False)
        if twin.untied_head is None:
            a = self.architecture
            twin.untied_head = nn.Linear(a.width, a.vocabulary, bias=False, device="meta")
            twin.untied_head.weight = nn.Parameter(self.head.detach(), requires_grad=False)
        for layer in twin.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.data = layer.weight.data.to(dtype)
        return twin


class Block(nn.Module):
    """Attention and feed-forward, each on a normed copy of the residual stream."""

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.a = a
        self.attention_norm = Norm(a)
        self.qkv = nn.Linear(a.width, a.attention_width + 2 * a.kv_width, bias=a.biased)
        self.out = nn.Linear(a.attention_width, a.width, bias=a.biased)
        self.feed_norm = Norm(a)
        gates = 2 if a.family == "llama" else 1
        self.up = nn.Linear(a.width, gates * a.hidden, bias=a.biased)  # llama: gate and up, one above the other
        self.down = nn.Linear(a.hidden, a.width, bias=a.biased)

    def forward(
        self, x_ND: Tensor, layer: int, attend: Attend, rotation: tuple[Tensor, Tensor] | None, dtype: torch.dtype
    ) -> Tensor:
        x_ND = x_ND + self.attention(self.attention_norm(x_ND).to(dtype), layer, attend, rotation)
        return x_ND + self.feed(self.feed_norm(x_ND).to(dtype))

    def attention(self, x_ND: Tensor, layer: int, attend: Attend, rotation: tuple[Tensor, Tensor] | None) -> Tensor:
        a = self.a
        query, key, value = multiply(x_ND, self.qkv).split((a.attention_width, a.kv_width, a.kv_width), dim=-1)
        query_NHE = query.unflatten(-1, (a.heads, a.head_width))
        key_NKE = key.unflatten(-1, (a.kv_heads, a.head_width))
        value_NKE = value.unflatten(-1, (a.kv_heads, a.head_width))
        if rotation is not None:
            query_NHE, key_NKE = rotate(query_NHE, rotation), rotate(key_NKE, rotation)
        return multiply(attend(layer, query_NHE, key_NKE, value_NKE).flatten(-2), self.out)

    def feed(self, x_ND: Tensor) -> Tensor:
        if self.a.family == "gpt2":
            return multiply(F.gelu(multiply(x_ND, self.up), approximate="tanh"), self.down)
        gate, up = multiply(x_ND, self.up).chunk(2, dim=-1)
        return multiply(F.silu(gate) * up, self.down)


class Norm(nn.Module):
    """RMSNorm (arXiv:1910.07467) for llama, LayerNorm for gpt2; float32 throughout."""

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.eps = a.norm_eps
        self.weight = nn.Parameter(torch.ones(a.width))
        self.bias = nn.Parameter(torch.zeros(a.width)) if a.biased else None

    def forward(self, x_ND: Tensor) -> Tensor:
        if self.bias is None:
            return F.rms_norm(x_ND, self.weight.shape, self.weight, self.eps)
        return F.layer_norm(x_ND, self.weight.shape, self.weight, self.bias, self.eps)


def multiply(x_ND: Tensor, linear: nn.Linear) -> Tensor:
    """The linear layer in the input's dtype, whatever dtype its weights are kept in."""
    bias = None if linear.bias is None else linear.bias.to(x_ND.dtype)
    return F.linear(x_ND, linear.weight.to(x_ND.dtype), bias)


def rotary(positions_N: Tensor, a: Architecture) -> tuple[Tensor, Tensor]:
    """Cosine and sine of each position's angles, each (N, 1, E) (RoFormer, arXiv:2104.09864, in two halves)."""
    steps = torch.arange(0, a.head_width, 2, device=positions_N.device, dtype=torch.float32) / a.head_width
    angles_NE = positions_N[:, None].float() * a.rope_base**-steps
    angles_NE = torch.cat((angles_NE, angles_NE), dim=-1)[:, None, :]
    return angles_NE.cos(), angles_NE.sin()


def rotate(x_NHE: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair of features (e, e + E/2) by its position's angle, in the input's dtype."""
    cosine, sine = rotation[0].to(x_NHE.dtype), rotation[1].to(x_NHE.dtype)
    first, second = x_NHE.chunk(2, dim=-1)
    return x_NHE * cosine + torch.cat((-second, first), dim=-1) * sine
