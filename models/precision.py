"""How exactly a GPU multiplies, in one place: a dtype means the same there as on a processor."""

from __future__ import annotations

import torch


def settle_precision() -> None:
    """float32 is IEEE's, never TF32's 10 bits, and sums of bfloat16 products are kept in float32.

    Log-probs are compared with a reference's, and packed rows with separate ones, to 1e-5: TF32 is off by 1e-3. Who
    wants to be faster asks for bfloat16. For the whole process; a processor's multiplications know none of it.
    """
    backends = torch.backends  # the old names, allow_tf32, are left alone: torch warns of them, and of mixing the two
    backends.cuda.matmul.fp32_precision = "ieee"  # FlexAttention's kernels too go by this one
    backends.cudnn.conv.fp32_precision = "ieee"
    backends.cudnn.rnn.fp32_precision = "ieee"
    backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
