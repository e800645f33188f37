"""Matrices laid out once as a processor multiplies them in bfloat16.

oneDNN lays a matrix out anew at each call, which for the few tokens of a decoding step takes nearly as long as the
multiplication (docs/log.md, 2026-11-27). torch's compiler lays out once what it freezes; its operators for that are not
public, so they have to show first that they multiply, and where they do not, matrices stay as they are.
Shapes: N tokens · I inputs and O rows of a matrix.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from models.adapted import Adapted
from models.decoder import Decoder

ROUNDING = 2e-2  # relative error of a product in bfloat16
TOKENS = 64  # that the layout is chosen for; any number can be multiplied


class Prepacked:
    """A matrix that can only be multiplied with: it is in no `state_dict`, and copies of a decoder share it."""

    def __init__(self, weight_OI: Tensor) -> None:
        self._laid_out: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight_OI.detach(), TOKENS)

    def __deepcopy__(self, memo: dict[int, object]) -> Prepacked:
        return self

    def __call__(self, x_NI: Tensor, bias_O: Tensor | None) -> Tensor:
        """As `F.linear`, (N, O); without a gradient."""
        out_NO: Tensor = torch.ops.mkldnn._linear_pointwise(x_NI, self._laid_out, bias_O, "none", [], "")
        return out_NO


def prepack(decoder: Decoder) -> None:
    """Lay out the matrices of a decoder that only measures; those of its blocks take the place of the plain ones.

    The LM head stays beside its layout: log-probs are computed from the plain one, a chunk of positions at a time.
    """
    if isinstance(decoder, Adapted) or decoder.device.type != "cpu" or not works():
        return
    for layer in decoder.modules():
        if isinstance(layer, nn.Linear) and layer.weight.dtype == torch.bfloat16:
            layer.prepacked = Prepacked(layer.weight)  # type: ignore[assignment]  # no module
            if layer is not decoder.untied_head:
                layer.weight = nn.Parameter(layer.weight.to("meta"), requires_grad=False)


@functools.cache
def works() -> bool:
    """Whether this machine has the operators, and gets a product right."""
    draw = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(size, generator=draw).bfloat16() for size in ((100, 96), (64, 96), (64,)))
    try:
        laid_out = Prepacked(weight)
        tried = [(laid_out(x[:rows], b), x[:rows], b) for rows in (1, 5, len(x)) for b in (None, bias)]
    except Exception:  # no such operator, or none for this processor: it raises several kinds
        return False
    wanted = (part.double() @ weight.double().T + (0 if b is None else b.double()) for _, part, b in tried)
    return all((f.double() - w).norm() <= ROUNDING * w.norm() for (f, _, _), w in zip(tried, wanted, strict=True))
