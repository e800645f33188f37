"""Log-probs of response tokens, without ever holding (batch, time, vocabulary) logits.

Only hidden states that predict a response token go through the LM head, CHUNK at a time, and the backward pass computes
each chunk's logits again; what a pair's responses begin with goes through it once.
Shapes: M response tokens · U of them, shared ones once · D width · V vocabulary · R responses.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from models import kernels, products
from models.decoder import Decoder
from models.packing import Packed

CHUNK = 512  # response positions at a time: 50 MB of logits in bfloat16 at a vocabulary of 49,152
IN_CACHE = 2**20  # logits in float32 that a processor computes at a time
ROWS = 256  # of slopes that torch multiplies with the head at a time: 512 take it longer on AMX than twice 256


def sum_logps(decoder: Decoder, batch: Packed, *, dtype: torch.dtype) -> Tensor:
    """log π(y|x) of each response, summed over its tokens, end token included: (R,) float32 nats."""
    return by_response(token_logps(decoder, batch, dtype=dtype), batch)


def token_logps(decoder: Decoder, batch: Packed, *, dtype: torch.dtype) -> Tensor:
    """log π of each response token, (M,) float32 nats."""
    hidden_ND, _ = decoder(batch.tokens_N, batch.positions_N, batch.attend, dtype=dtype)
    return target_logps(hidden_ND, decoder.head, batch, dtype=dtype, gradient_VD=decoder.head_gradient)


def target_logps(
    hidden_ND: Tensor, head_VD: Tensor, batch: Packed, *, dtype: torch.dtype, gradient_VD: Tensor | None = None
) -> Tensor:
    """log π of each response token from final hidden states and the LM head, (M,) float32 nats.

    `gradient_VD`: memory for the head's gradient, which is then an alias of it: a graph may use the head once.
    """
    hidden_UD = hidden_ND.index_select(0, batch.sources_U).to(dtype)
    logps_U: Tensor = _TargetLogps.apply(hidden_UD, head_VD.to(dtype), batch.targets_U, gradient_VD)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return logps_U.index_select(0, batch.places_M)


def by_response(values_M: Tensor, batch: Packed) -> Tensor:
    """Sums of response tokens' values by response, (R,)."""
    return values_M.new_zeros(batch.responses).index_add(0, batch.response_M, values_M)


class _TargetLogps(torch.autograd.Function):
    """log softmax(hidden · headᵀ)[target], chunk by chunk; by the logits its slope is (onehot − softmax).

    The last chunk's slope is kept, so that of a small batch nothing is computed twice. Slopes take the place of their
    logits; what each response token's gradient is multiplied by is put to the hidden states, which are far smaller.
    """

    @staticmethod
    def forward(ctx, hidden_UD, head_VD, targets_U, gradient_VD):  # type: ignore[no-untyped-def]  # torch's signature is untyped
        pieces, last = [], None
        for hidden, targets in zip(hidden_UD.split(CHUNK), targets_U.split(CHUNK), strict=True):
            last = products.multiply(hidden, head_VD.T)
            pieces += _in_cache(last, targets, sloping=any(ctx.needs_input_grad))
        ctx.save_for_backward(hidden_UD, head_VD, targets_U)
        ctx.gradient, ctx.last = gradient_VD, last if any(ctx.needs_input_grad) else None
        return torch.cat(pieces)

    @staticmethod
    def backward(ctx, grad_U):  # type: ignore[no-untyped-def]
        hidden_UD, head_VD, targets_U = ctx.saved_tensors
        grad_U1, grad_hidden = grad_U[:, None], torch.empty_like(hidden_UD)
        # An adapter leaves the head frozen: it needs no gradient then, nor the memory for one.
        grad_head = None
        if ctx.needs_input_grad[1]:
            grad_head = torch.empty_like(head_VD) if ctx.gradient is None else ctx.gradient
            if not len(hidden_UD):
                grad_head.zero_()
        slope, ctx.last = ctx.last, None
        for start in reversed(range(0, len(hidden_UD), CHUNK)):
            part = slice(start, start + CHUNK)
            if slope is None:
                slope = products.multiply(hidden_UD[part], head_VD.T)
                _in_cache(slope, targets_U[part], sloping=True)
            few = ROWS if slope.device.type == "cpu" and not products.take(slope, head_VD) else CHUNK
            for back, slopes, weights in zip(
                grad_hidden[part].split(few), slope.split(few), grad_U1[part].split(few), strict=True
            ):
                back.copy_(products.multiply(slopes, head_VD) * weights)
            if grad_head is not None:
                weighted = (hidden_UD[part] * grad_U1[part]).to(hidden_UD.dtype)
                products.multiply(slope.T, weighted, out=grad_head, add=part.stop < len(hidden_UD))
            slope = None
        # Another name of the same memory: autograd takes what only it holds without a copy.
        return grad_hidden, None if grad_head is None else grad_head.detach(), None, None


def _in_cache(logits_UV: Tensor, targets_U: Tensor, *, sloping: bool) -> list[Tensor]:
    """log softmax at the targets, in float32, in parts of U; with `sloping`, logits become (onehot − softmax).

    Few rows at a time, which a processor's caches hold: five passes over all of them in memory take a third as long
    as their multiplication (docs/log.md, 2026-11-27). Where there are kernels, one.
    """
    if kernels.take(logits_UV):
        return [kernels.targets(logits_UV, targets_U, sloping=sloping)]
    few = max(1, IN_CACHE // logits_UV.shape[1]) if logits_UV.device.type == "cpu" else CHUNK
    wide_RV, shares_RV = logits_UV.new_empty(2, min(few, len(logits_UV)), logits_UV.shape[1], dtype=torch.float32)
    found = []
    for logits, targets in zip(logits_UV.split(few), targets_U[:, None].split(few), strict=True):
        wide = wide_RV[: len(logits)].copy_(logits)
        shares = torch.softmax(wide, -1, out=shares_RV[: len(logits)])
        # The largest share is at least 1 / V: its logarithm is exact where the target's may be that of zero.
        norm = wide.amax(-1, keepdim=True) - shares.amax(-1, keepdim=True).log()
        found.append((wide.gather(1, targets) - norm)[:, 0])
        if sloping:
            logits.copy_(shares.neg_().scatter_add_(1, targets, shares.new_ones(targets.shape)))
    return found


class Divergence(NamedTuple):
    """Along given responses, by R: exact KL(π‖a) summed over positions, log π(y) and log a(y). Float32 nats."""

    kl_R: Tensor
    policy_logp_R: Tensor
    anchor_logp_R: Tensor


@torch.no_grad()
def divergence(policy: Decoder, anchor: Decoder, batch: Packed, *, dtype: torch.dtype) -> Divergence:
    """KL over the whole vocabulary at every response position, in float32, summed along each response.

    On responses sampled from the policy at temperature 1 this is the Rao-Blackwellised estimate of reverse KL
    (arXiv:2504.10637): unbiased, and never negative.
    """
    hidden = []
    for decoder in (policy, anchor):
        hidden_ND, _ = decoder(batch.tokens_N, batch.positions_N, batch.attend, dtype=dtype)
        hidden.append(hidden_ND.index_select(0, batch.sources_U).to(dtype).split(CHUNK))
    kls, policies, anchors = [], [], []
    for policy_UD, anchor_UD, targets in zip(*hidden, batch.targets_U.split(CHUNK), strict=True):
        policy_UV = products.multiply(policy_UD, policy.head.to(dtype).T).float().log_softmax(-1)
        anchor_UV = products.multiply(anchor_UD, anchor.head.to(dtype).T).float().log_softmax(-1)
        policies.append(policy_UV.gather(1, targets[:, None])[:, 0])
        anchors.append(anchor_UV.gather(1, targets[:, None])[:, 0])
        kls.append((policy_UV.exp() * (policy_UV - anchor_UV)).sum(-1))
    sums = [by_response(torch.cat(parts)[batch.places_M], batch) for parts in (kls, policies, anchors)]
    return Divergence(*sums)
