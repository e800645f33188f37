"""How exactly torch computes, in one place: a dtype means the same on a GPU and on a processor, and at every call."""

from __future__ import annotations

from typing import Any

import torch

# What torch hands over to MKL on a processor.
BY_MKL = (
    torch.acos,
    torch.asin,
    torch.atan,
    torch.cos,
    torch.erf,
    torch.erfc,
    torch.erfinv,
    torch.exp,
    torch.expm1,
    torch.lgamma,
    torch.log,
    torch.log10,
    torch.log1p,
    torch.log2,
    torch.sin,
    torch.sqrt,
    torch.tan,
    torch.tanh,
)


def settle_precision() -> None:
    """float32 is IEEE's, never TF32's 10 bits, and sums of bfloat16 products are kept in float32.

    Log-probs are compared with a reference's, and packed rows with separate ones, to 1e-5: TF32 is off by 1e-3. Who
    wants to be faster asks for bfloat16. For the whole process; a processor's multiplications know none of it.
    """
    backends: Any = torch.backends  # which types none of the new names; torch warns of the old ones, allow_tf32
    backends.cuda.matmul.fp32_precision = "ieee"  # FlexAttention's kernels too go by this one
    backends.cudnn.conv.fp32_precision = "ieee"
    backends.cudnn.rnn.fp32_precision = "ieee"
    backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False


def make_first_calls() -> None:
    """Call every function of MKL's once, on one thread.

    MKL chooses how to compute a function when it is first called. Where threads make that call together, one may get
    a poor choice, for that call alone: a process's first cosines were off by 1.5e-4 in 6 of 40 processes
    (https://github.com/pytorch/pytorch/issues/188792; docs/log.md, 2026-11-27).
    """
    for function in BY_MKL:
        for dtype in (torch.float32, torch.float64):
            function(torch.full((1,), 0.5, dtype=dtype, device="cpu"))
