"""LoRA (arXiv:2106.09685) in tensors: pairs of small matrices beside a decoder's frozen ones, whose base is shared.

A policy is measured as it was trained, its adapter beside the frozen matrices: merged into them in bfloat16, small
changes would be rounded away. `merged` is for other people's tools.
Shapes: N tokens · I inputs and O rows of a matrix · r rank · S ranks of a matrix's pairs together.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from models import products
from models.decoder import Decoder, multiply_alone
from models.lora import Lora, Projection

NAME = "adapter"  # of the module beside a matrix


class Pair(nn.Module):
    """A and B of one projection. A is drawn as PEFT draws it (Kaiming, a = √5), B is zero: at first they do nothing."""

    def __init__(self, projection: Projection, r: int, draw: torch.Generator) -> None:
        super().__init__()
        self.projection = projection
        bound = 1 / math.sqrt(projection.inputs)
        self.a = nn.Parameter(torch.empty(r, projection.inputs).uniform_(-bound, bound, generator=draw))  # (r, I)
        self.b = nn.Parameter(torch.zeros(projection.rows, r))  # (O, r)


class Adapter(nn.ModuleDict):
    """The pairs beside one matrix, by projection; `on` says whether they count."""

    def __init__(self, projections: list[Projection], lora: Lora, draw: torch.Generator) -> None:
        super().__init__({p.name: Pair(p, lora.r, draw) for p in projections})
        self.lora, self.on = lora, True

    @property
    def pairs(self) -> list[Pair]:
        return [pair for pair in self.values() if isinstance(pair, Pair)]

    def forward(self, x_NI: Tensor, linear: nn.Linear) -> Tensor:
        """The frozen matrix and its pairs on x, in x's dtype, (N, O)."""
        if not self.on:
            return multiply_alone(x_NI, linear)
        pairs = self.pairs
        a_SI = torch.cat([pair.a for pair in pairs]).to(x_NI.dtype)
        bs = [pair.b.to(x_NI.dtype) for pair in pairs]
        starts = tuple(pair.projection.start for pair in pairs)
        out_NO: Tensor = _LowRank.apply(x_NI, linear, self.lora.scale, starts, a_SI, *bs)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return out_NO


class _LowRank(torch.autograd.Function):
    """W x + s · B A x, added in place, so that neither way needs a second (N, O): W has no gradient, A and B have."""

    @staticmethod
    def forward(ctx, x_NI, linear, scale, starts, a_SI, *bs):  # type: ignore[no-untyped-def]  # torch's signature is untyped
        out_NO = multiply_alone(x_NI, linear)
        h_NS = (x_NI @ a_SI.T).mul_(scale)
        for start, b_Or, h_Nr in zip(starts, bs, h_NS.chunk(len(bs), -1), strict=True):
            out_NO[:, start : start + len(b_Or)].addmm_(h_Nr, b_Or.T)
        ctx.linear, ctx.scale, ctx.starts = linear, scale, starts
        ctx.save_for_backward(x_NI, h_NS, a_SI, *bs)
        return out_NO

    @staticmethod
    def backward(ctx, grad_NO):  # type: ignore[no-untyped-def]
        x_NI, h_NS, a_SI, *bs = ctx.saved_tensors
        parts = [grad_NO[:, start : start + len(b_Or)] for start, b_Or in zip(ctx.starts, bs, strict=True)]
        grad_bs = [part.T @ h_Nr for part, h_Nr in zip(parts, h_NS.chunk(len(bs), -1), strict=True)]
        grad_NS = torch.cat([part @ b_Or for part, b_Or in zip(parts, bs, strict=True)], -1).mul_(ctx.scale)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = products.multiply(grad_NO, ctx.linear.weight.to(grad_NO.dtype)).addmm_(grad_NS, a_SI)
        return grad_x, None, None, None, grad_NS.T @ x_NI, *grad_bs


def with_adapter(base: Decoder, lora: Lora, *, seed: int = 0) -> Decoder:
    """A policy that computes what the base does until it is trained. The base's weights are shared, and stay frozen."""
    assert not adapters(base), "one adapter goes on through all stages"
    chosen = lora.projections(base.architecture)
    policy = sharing(base, list(base.requires_grad_(False).parameters()))
    draw = torch.Generator().manual_seed(seed)
    for block in policy.blocks:
        for matrix in dict.fromkeys(p.matrix for p in chosen):
            adapter = Adapter([p for p in chosen if p.matrix == matrix], lora, draw)
            getattr(block, matrix).add_module(NAME, adapter.to(base.device))
    return policy.requires_grad_(False)


def adapters(decoder: nn.Module) -> dict[str, Adapter]:
    """By the matrix that each lies beside: "blocks.0.qkv"; empty where all weights are a policy's own."""
    suffix = f".{NAME}"
    return {name.removesuffix(suffix): m for name, m in decoder.named_modules() if isinstance(m, Adapter)}


def lora_of(decoder: nn.Module) -> Lora | None:
    """What the decoder's adapter was asked for as; None without one."""
    return next((adapter.lora for adapter in adapters(decoder).values()), None)


def own_weights(decoder: nn.Module) -> dict[str, nn.Parameter]:
    """What training changes and a checkpoint holds, by name: an adapter's weights, or all where there is none."""
    found = adapters(decoder)
    return {
        name: weight
        for name, weight in decoder.named_parameters()
        if not found or name.rpartition(f".{NAME}.")[0] in found
    }


def twin(decoder: Decoder) -> Decoder:
    """A frozen copy of what training changes; what an adapter leaves frozen is shared."""
    mine = {id(weight) for weight in own_weights(decoder).values()}
    return sharing(decoder, [w for w in decoder.parameters() if id(w) not in mine]).requires_grad_(False)


def sharing(decoder: Decoder, weights: list[nn.Parameter]) -> Decoder:
    """A copy in which these weights are the same tensors."""
    return copy.deepcopy(decoder, {id(weight): weight for weight in weights})


@contextlib.contextmanager
def adapter_off(decoder: nn.Module) -> Iterator[None]:
    """Within, the decoder computes what its base does."""
    switched = [adapter for adapter in adapters(decoder).values() if adapter.on]
    for adapter in switched:
        adapter.on = False
    try:
        yield
    finally:
        for adapter in switched:
            adapter.on = True


@torch.no_grad()
def merged(decoder: Decoder) -> Decoder:
    """A plain decoder of its own: W + (alpha / r) · B A in each matrix, added in float32."""
    plain = copy.deepcopy(decoder).requires_grad_(False)
    for name, adapter in adapters(plain).items():
        linear = plain.get_submodule(name)
        for pair in adapter.pairs:
            rows = linear.weight.data[pair.projection.start :][: pair.projection.rows]  # type: ignore[index]  # an nn.Linear
            rows.add_((adapter.lora.scale * pair.b @ pair.a).to(rows.dtype))
        delattr(linear, NAME)
    return plain
