"""How exactly a GPU multiplies, in one place: a dtype means the same there as on a processor."""

from __future__ import annotations

from typing import Any

import torch


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
