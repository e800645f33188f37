"""A GPU's float32 is float32: the flags can be set and read without one. A processor's first numbers are its others."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest
import torch

from harness.training import machine
from models.precision import BY_MKL, settle_precision

READ = """
import torch
from models.precision import settle_precision
torch.backends.fp32_precision = "tf32"  # what somebody else may have asked for
settle_precision()
b = torch.backends
print(b.cuda.matmul.fp32_precision, b.cudnn.conv.fp32_precision, b.cudnn.rnn.fp32_precision)
print(b.cuda.matmul.allow_tf32, b.cuda.matmul.allow_bf16_reduced_precision_reduction)
"""

FIRST = """
from torch.utils._python_dispatch import TorchDispatchMode
class Recorded(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        print(function, out.dtype, out.numel())
        return out
with Recorded():
    import models.decoder
"""


def test_who_imports_a_decoder_has_called_mkls_functions_on_one_thread() -> None:
    """One element is computed by one thread, whatever else the process does with several."""
    told = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, check=True).stdout.split("\n")
    for function in BY_MKL:
        for dtype in ("float32", "float64"):
            assert f"aten.{function.__name__}.default torch.{dtype} 1" in told


def test_no_multiplication_is_rounded_to_tf32_or_summed_in_bfloat16() -> None:
    """In a process of its own, since the flags stay; warnings of deprecated flags would be errors."""
    told = subprocess.run([sys.executable, "-W", "error", "-c", READ], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["ieee", "ieee", "ieee", "False", "False"]


def test_it_is_settled_where_a_gpu_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """And left alone where there is none."""
    settled: list[bool] = []
    monkeypatch.setattr(machine, "settle_precision", lambda: settled.append(True))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert machine.choose_device() == torch.device("cpu")
    assert not settled
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert machine.choose_device() == torch.device("cuda")
    assert settled


def test_a_processors_numbers_stay_as_they_are() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(64, 64, generator=draw)
    before = x @ x
    with warnings.catch_warnings(action="error"):
        settle_precision()
    assert torch.equal(x @ x, before)
