"""One decoder for all families that we know, over a flat stream of tokens.

Rows are not padded: N tokens of any number of rows lie one after another, and only attention, which is handed in
(`Attend`), knows which of them see each other. Shapes: N tokens · D width · H heads · K key/value heads · E head width.

The residual stream and the norms stay in float32; matrices are multiplied in the dtype asked for.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import products
from models.architecture import Architecture, RopeScaling
from models.fused import add_and_norm, rms_norm, rotate, rotate_first, silu_gate
from models.precision import make_first_calls

make_first_calls()

# (layer, query_NHE, key_NKE, value_NKE) → out_NHE
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


class Decoder(nn.Module):
    """Token ids in, final hidden states out; `head` holds the matrix that turns those into logits."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = a = architecture
        self.embedding = nn.Embedding(a.vocabulary, a.width)
        self.positions = None if a.rotary else nn.Embedding(a.context, a.width)
        self.blocks = nn.ModuleList(Block(a) for _ in range(a.depth))
        self.norm = Norm(a, a.width)
        self.untied_head = None if a.tied else nn.Linear(a.width, a.vocabulary, bias=False)
        self.head_gradient: Tensor | None = None  # memory that backward passes write the head's gradient to

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
        # A tied head gives its matrix a gradient anyway, and rows add to that without a second matrix of zeros. They
        # are rounded as the head is, so that a frozen copy needs only one of the two.
        x_ND = F.embedding(tokens_N, self.embedding.weight, sparse=self.architecture.tied).to(dtype).float()
        if self.architecture.scaled_embedding:
            x_ND = x_ND * math.sqrt(self.architecture.width)
        rotation = None
        if self.positions is not None:
            x_ND = x_ND + self.positions(positions_N).float()
        else:
            cosine_N1F, sine_N1F = rotary(positions_N, self.architecture)
            rotation = cosine_N1F.to(dtype), sine_N1F.to(dtype)
        kept: list[Tensor] = []
        added_ND = None  # what a block would add last, the next one's norm adds
        for layer, block in enumerate(self.blocks):
            x_ND, added_ND = block(x_ND, added_ND, layer, attend, rotation, dtype)
            if layer in keep:
                kept.append(x_ND + added_ND)
        return self.norm.after(x_ND, added_ND)[1], kept

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """Of final hidden states, in their dtype, (N, vocabulary)."""
        if self.untied_head is not None and hasattr(self.untied_head, "prepacked"):
            return multiply_alone(hidden_ND, self.untied_head)
        return hidden_ND @ self.head.to(hidden_ND.dtype).T

    def hollow(self) -> Decoder:
        """The same module without weights (on the meta device): `load_state_dict(…, assign=True)` gives it others."""
        with torch.device("meta"):
            return Decoder(self.architecture)

    def in_dtype(self, dtype: torch.dtype) -> Decoder:
        """The same with its matrices already in `dtype`: same numbers as casting at each use, half the reading.

        What is not cast is shared (embeddings, norms, biases, an adapter's A and B): training the source changes that
        and not the matrices. A tied head becomes a matrix of its own.
        """
        twin = copy.deepcopy(self, {id(weight): weight for weight in self.parameters()})
        if twin.untied_head is None:
            a = self.architecture
            twin.untied_head = nn.Linear(a.width, a.vocabulary, bias=False, device="meta")
            twin.untied_head.weight = twin.embedding.weight
        for layer in twin.modules():
            if isinstance(layer, nn.Linear):
                layer.weight = nn.Parameter(layer.weight.detach().to(dtype), requires_grad=False)
        return twin


class Block(nn.Module):
    """Attention and feed-forward, each on a normed copy of the residual stream."""

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.a = a
        self.attention_norm = Norm(a, a.width)
        self.qkv = nn.Linear(a.width, a.attention_width + 2 * a.kv_width, bias=a.qkv_bias)
        self.query_norm = Norm(a, a.head_width) if a.qk_norm else None
        self.key_norm = Norm(a, a.head_width) if a.qk_norm else None
        self.out = nn.Linear(a.attention_width, a.width, bias=a.out_bias)
        self.feed_norm = Norm(a, a.width)
        self.up = nn.Linear(a.width, a.gates * a.hidden, bias=a.feed_bias)  # gate and up, one above the other
        self.down = nn.Linear(a.hidden, a.width, bias=a.feed_bias)

    def forward(
        self,
        x_ND: Tensor,
        added_ND: Tensor | None,
        layer: int,
        attend: Attend,
        rotation: tuple[Tensor, Tensor] | None,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        """The residual stream, and what is to be added to it; taken in the same two parts."""
        x_ND, normed_ND = self.attention_norm.after(x_ND, added_ND, dtype)
        x_ND, normed_ND = self.feed_norm.after(x_ND, self.attention(normed_ND, layer, attend, rotation), dtype)
        return x_ND, self.feed(normed_ND)

    def attention(self, x_ND: Tensor, layer: int, attend: Attend, rotation: tuple[Tensor, Tensor] | None) -> Tensor:
        a = self.a
        heads_NHE = multiply(x_ND, self.qkv).unflatten(-1, (-1, a.head_width))
        sizes = a.heads, a.kv_heads, a.kv_heads
        if rotation is not None and self.query_norm is None:
            query_NHE, key_NKE, value_NKE = rotate_first(heads_NHE, sizes, 2, *rotation)
        else:
            query_NHE, key_NKE, value_NKE = heads_NHE.split(sizes, dim=1)
        if self.query_norm is not None and self.key_norm is not None:
            query_NHE, key_NKE = self.query_norm(query_NHE, x_ND.dtype), self.key_norm(key_NKE, x_ND.dtype)
            if rotation is not None:
                query_NHE, key_NKE = rotate(query_NHE, *rotation), rotate(key_NKE, *rotation)
        return multiply(attend(layer, query_NHE, key_NKE, value_NKE).flatten(-2), self.out)

    def feed(self, x_ND: Tensor) -> Tensor:
        if not self.a.gated:
            return multiply(self.activate(multiply(x_ND, self.up)), self.down)
        both_NF = multiply(x_ND, self.up)
        if self.a.activation == "silu":
            return multiply(silu_gate(both_NF), self.down)
        gate, up = both_NF.chunk(2, dim=-1)
        return multiply(self.activate(gate) * up, self.down)

    def activate(self, x_NF: Tensor) -> Tensor:
        return F.silu(x_NF) if self.a.activation == "silu" else F.gelu(x_NF, approximate="tanh")


class Norm(nn.Module):
    """RMSNorm (arXiv:1910.07467) or LayerNorm of the last dimension, computed in float32, given in `dtype`."""

    def __init__(self, a: Architecture, width: int) -> None:
        super().__init__()
        self.eps, self.offset = a.norm_eps, a.norm_offset
        self.weight = nn.Parameter(torch.full((width,), 1 - a.norm_offset))
        self.bias = nn.Parameter(torch.zeros(width)) if a.norm == "layer" else None

    def forward(self, x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        if self.bias is None:
            return rms_norm(x, self.weighting, self.eps, dtype)
        return F.layer_norm(x.float(), self.weight.shape, self.weighting, self.bias, self.eps).to(dtype)

    @property
    def weighting(self) -> Tensor:
        """What a normed number is multiplied by."""
        return self.weight + self.offset if self.offset else self.weight

    def after(self, x_ND: Tensor, added_ND: Tensor | None, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """x + added, in float32, and its norm."""
        if added_ND is not None and self.bias is None:
            return add_and_norm(x_ND, added_ND, self.weighting, self.eps, dtype)
        x_ND = x_ND if added_ND is None else x_ND + added_ND
        return x_ND, self(x_ND, dtype)


def multiply(x_ND: Tensor, linear: nn.Linear) -> Tensor:
    """The linear layer in the input's dtype, whatever dtype its weights are kept in; with its adapter if it has one."""
    if (adapter := getattr(linear, "adapter", None)) is not None:  # models/low_rank.py
        adapted: Tensor = adapter(x_ND, linear)
        return adapted
    return multiply_alone(x_ND, linear)


def multiply_alone(x_ND: Tensor, linear: nn.Linear) -> Tensor:
    """The same without its adapter."""
    bias = None if linear.bias is None else linear.bias.to(x_ND.dtype)
    if (prepacked := getattr(linear, "prepacked", None)) is not None:  # models/prepacked.py
        multiplied: Tensor = prepacked(x_ND, bias)
        return multiplied
    weight = linear.weight.to(x_ND.dtype)
    if products.takes_linear(x_ND, weight):
        return products.linear(x_ND, weight, bias)
    return F.linear(x_ND, weight, bias)


def rotary(positions_N: Tensor, a: Architecture) -> tuple[Tensor, Tensor]:
    """Cosine and sine of each position's angles, each (N, 1, E / 2)."""
    turns_F = turns(a, positions_N.device)
    if a.rope_scaling is not None:
        turns_F = turns_F / slowing(turns_F, a.rope_scaling)
    angles_N1F = positions_N[:, None, None].float() * turns_F
    return angles_N1F.cos(), angles_N1F.sin()


def turns(a: Architecture, device: torch.device | None = None) -> Tensor:
    """What each pair of features turns by from token to token where nothing slows it, radians, (E / 2,)."""
    steps = torch.arange(0, a.head_width, 2, device=device, dtype=torch.float32) / a.head_width
    return a.rope_base**-steps


def slowing(turns_F: Tensor, scaling: RopeScaling) -> Tensor:
    """What each of the turns is divided by."""
    if scaling.kind == "linear":
        return torch.full_like(turns_F, scaling.factor)
    done_F = scaling.original * turns_F / (2 * math.pi)
    kept_F = ((done_F - scaling.low) / (scaling.high - scaling.low)).clamp(0, 1)
    return 1 / ((1 - kept_F) / scaling.factor + kept_F)
