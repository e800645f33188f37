"""Each kernel computes the formula in float32, whatever the sizes and threads; without a compiler there is none."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models import kernels
from models.decoding import Cache

needs_kernels = pytest.mark.skipif(kernels.built().library is None, reason=kernels.built().said)
DTYPES = [torch.float32, torch.bfloat16]
SIZES = [(1, 1), (3, 5), (40, 257), (300, 64)]  # rows and width; the last are worth several threads
EXACT = {torch.float32: 2e-6, torch.bfloat16: 2**-8}  # relative: bfloat16 has 8 bits


def close(found: Tensor, wanted: Tensor, dtype: torch.dtype = torch.float32) -> None:
    """To the last bit or two of `dtype`, by the largest number."""
    error = (found.double() - wanted.double()).abs().max()
    assert error <= EXACT[dtype] * wanted.abs().max().clamp(min=1)


@needs_kernels
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
class TestFormulas:
    def test_a_norm_and_its_slopes(self, dtype: torch.dtype, size: tuple[int, int]) -> None:
        x, added, weight = torch.randn(size), torch.randn(size).to(dtype), torch.randn(size[1])
        total = (x + added).double().requires_grad_()
        weighting = weight.double().requires_grad_()
        wanted = F.rms_norm(total, weighting.shape, weighting, 1e-5)
        out, scale, summed = kernels.norm(x, added, weight, 1e-5, dtype)
        close(out, wanted.detach(), dtype)
        close(summed, total.detach())
        grad, passed = torch.randn(size).to(dtype), torch.randn(size)
        wanted.backward(grad.double())
        assert total.grad is not None
        assert weighting.grad is not None
        slopes = kernels.norm_back(grad, passed, summed, weight, scale, True)
        close(slopes.x, total.grad + passed)
        close(slopes.added, total.grad + passed, dtype)
        assert slopes.added.dtype == dtype
        assert slopes.weight is not None
        close(slopes.weight, weighting.grad)
        assert kernels.norm_back(grad, None, summed, weight, scale, False).weight is None

    def test_a_gate_and_its_slope(self, dtype: torch.dtype, size: tuple[int, int]) -> None:
        both = (4 * torch.randn(size[0], 2 * size[1])).to(dtype)
        wide = both.double().requires_grad_()
        gate, up = wide.chunk(2, dim=-1)
        wanted = F.silu(gate) * up
        grad = torch.randn(size).to(dtype)
        wanted.backward(grad.double())
        assert wide.grad is not None
        close(kernels.gate(both), wanted.detach(), dtype)
        close(kernels.gate_back(grad, both), wide.grad, dtype)

    def test_a_rotation_of_some_of_the_heads(self, dtype: torch.dtype, size: tuple[int, int]) -> None:
        rows, half = size
        whole = torch.randn(rows, 5, 2 * half).to(dtype)
        cosine, sine = torch.randn(2, rows, 1, half).to(dtype)
        first, second = whole[:, :3].double().chunk(2, dim=-1)
        c, s = cosine.double(), sine.double()
        for way in (1.0, -1.0):
            wanted = torch.cat((first * c - way * second * s, second * c + way * first * s), dim=-1)
            turned = torch.zeros_like(whole)
            kernels.turn(whole[:, :3], cosine, sine, turned[:, 1:4], way)
            close(turned[:, 1:4], wanted, dtype)
            assert not turned[:, [0, 4]].any()

    @pytest.mark.parametrize("sloping", [True, False])
    def test_log_probs_of_targets_and_their_slopes(
        self, dtype: torch.dtype, size: tuple[int, int], sloping: bool
    ) -> None:
        logits, targets = (5 * torch.randn(size)).to(dtype), torch.arange(size[0]) % size[1]
        wanted = logits.double().log_softmax(-1)
        onehot = F.one_hot(targets, size[1]).double()
        changed = logits.clone()
        close(kernels.targets(changed, targets, sloping=sloping), (wanted * onehot).sum(-1))
        if sloping:
            close(changed, onehot - wanted.exp(), dtype)
        else:
            assert torch.equal(changed, logits)

    def test_sums_of_squares_and_of_gradients(self, dtype: torch.dtype, size: tuple[int, int]) -> None:
        gradient, total = torch.randn(size).to(dtype), torch.randn(size)
        summed = total + gradient
        assert kernels.squares(gradient, None) == pytest.approx(float(gradient.double().square().sum()), rel=1e-6)
        kernels.add(total, gradient, first=False)
        assert torch.equal(total, summed)
        kernels.add(total, gradient, first=True)
        assert torch.equal(total, gradient.float())

    @pytest.mark.parametrize("copied", [True, False])
    def test_adamw_steps_as_torchs_and_the_copy_follows(
        self, dtype: torch.dtype, size: tuple[int, int], copied: bool
    ) -> None:
        """On a gradient to some of whose rows others are added."""
        master = torch.randn(size)
        copy = master.bfloat16() if copied else None
        mean, square = torch.zeros(2, *size)
        theirs = torch.nn.Parameter(master.clone())
        optimizer = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.0)
        of_row = torch.full(size[:1], -1, dtype=torch.int32)
        of_row[::2] = torch.arange(len(of_row[::2]), dtype=torch.int32)
        for step in (1, 2, 3):
            gradient, rows = torch.randn(size).to(dtype), torch.randn(len(of_row[::2]), size[1])
            theirs.grad = gradient.float().clone()
            theirs.grad[::2] += rows
            added = kernels.Added(of_row, rows)
            assert kernels.squares(gradient, added) == pytest.approx(float(theirs.grad.square().sum()), rel=1e-5)
            theirs.grad *= 0.5
            optimizer.step()
            settings = {"shrink": 0.5, "betas": (0.9, 0.999), "rate": 0.01, "step": step, "eps": 1e-8}
            kernels.adamw(master, mean, square, copy, gradient, added, **settings)  # type: ignore[arg-type]
            close(master, theirs.detach())
        assert copy is None or torch.equal(copy, master.bfloat16())
        assert master._version == 3, "autograd is to notice"


@needs_kernels
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("dtype", DTYPES)
class TestAttention:
    def test_the_slope_between_its_multiplications(self, dtype: torch.dtype) -> None:
        B, H, T, S, OPEN = 3, 4, 19, 50, 20  # more than what one thread does alone
        scores, grads = (3 * torch.randn(B, H, T, S)).to(dtype), torch.randn(B, H, T, S).to(dtype)
        unseen = torch.rand(B, 1, T, S) < 0.3
        unseen[..., :OPEN] = False
        bias = torch.zeros(unseen.shape, dtype=dtype).masked_fill_(unseen, -math.inf)
        wide = scores.double().requires_grad_()
        shares = torch.softmax(wide + bias.double(), -1)
        shares.backward(grads.double())
        assert wide.grad is not None
        kernels.soften(scores, grads, bias, OPEN)
        close(scores, shares.detach(), dtype)
        close(grads, wide.grad, dtype)
        assert (scores[unseen.expand_as(scores)] == 0).all()

    @pytest.mark.parametrize("heads", [(9, 3, 64), (4, 4, 128), (6, 2, 8)], ids=str)
    def test_a_new_token_looks_at_what_its_row_has(self, dtype: torch.dtype, heads: tuple[int, int, int]) -> None:
        """Rows of other lengths; what lies behind is never read, and the cache is that of the plain way."""
        (H, K, E), B, T = heads, 5, 12
        lengths = torch.tensor([0, 3, 11, 7, 1])
        whole = torch.randn(B, H + 2 * K, E).to(dtype)
        query, key, value = whole.split((H, K, K), dim=1)
        keys, values = torch.randn(2, B + 2, K, T, E).to(dtype)[:, :B]
        behind = (torch.arange(T) > lengths[:, None])[:, None, :, None]
        plain = keys.clone(), values.clone()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kernels, "built", lambda: kernels.Built(None, "not here"))
            attend = Cache(plain[0][None], plain[1][None], lengths).attend(T)
            wanted = attend(0, query, key, value)
        for cache in (keys, values):
            cache.masked_fill_(behind, math.nan)
        found = kernels.look(query, key, value, keys, values, lengths)
        assert found is not None
        torch.testing.assert_close(found, wanted, rtol=2 * EXACT[dtype], atol=2 * EXACT[dtype])
        assert torch.equal(keys.where(~behind, 0), plain[0].where(~behind, 0))
        assert torch.equal(values.where(~behind, 0), plain[1].where(~behind, 0))


@needs_kernels
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_no_number_stays_none(dtype: torch.dtype) -> None:
    """Training has to notice that it diverged."""
    bad = torch.full((2, 8), math.nan, dtype=dtype)
    x = torch.full((2, 8), math.nan)
    ones = torch.ones(2, 8, dtype=dtype)
    outputs: list[Tensor] = [
        kernels.norm(x, None, torch.ones(8), 1e-5, dtype).out,
        kernels.gate(bad),
        kernels.gate_back(ones[:, :4].contiguous(), bad),
        kernels.targets(bad.clone(), torch.zeros(2, dtype=torch.int64), sloping=True),
    ]
    scores, grads = bad.clone(), ones.clone()
    kernels.soften(scores, grads, torch.zeros(1, 1, 2, 8, dtype=dtype), 8)
    total, master, moments = torch.zeros(2, 8), torch.zeros(2, 8), torch.zeros(2, 2, 8)
    kernels.add(total, bad, first=False)
    settings = {"shrink": 1.0, "betas": (0.9, 0.999), "rate": 0.1, "step": 1, "eps": 1e-8}
    kernels.adamw(master, *moments, None, bad, None, **settings)  # type: ignore[arg-type]
    new, caches = bad[:, None], torch.zeros(2, 2, 1, 3, 8, dtype=dtype)
    seen = kernels.look(new, new, new, *caches, torch.tensor([0, 2]))
    assert seen is not None
    outputs += [scores, grads, total, master, seen]
    assert all(out.isnan().all() for out in outputs)
    assert math.isnan(kernels.squares(bad, None))


@needs_kernels
def test_numbers_are_rounded_to_bfloat16_as_torch_rounds() -> None:
    """To nearest, ties to even, over all magnitudes; infinities stay."""
    bits = torch.randint(-(2**31), 2**31, (4, 4096), generator=torch.Generator().manual_seed(0)).int()
    values = torch.cat((bits.view(torch.float32), (bits & -65536 | 0x8000).view(torch.float32)))
    values = values.where(~values.isnan(), math.inf)
    copy = torch.empty(values.shape, dtype=torch.bfloat16)
    moments = torch.zeros(2, *values.shape)
    settings = {"shrink": 1.0, "betas": (0.9, 0.999), "rate": 0.0, "step": 1, "eps": 1e-8}
    kernels.adamw(values, *moments, copy, torch.zeros_like(values), None, **settings)  # type: ignore[arg-type]
    assert torch.equal(copy, values.bfloat16())


@needs_kernels
def test_exponentials_are_exact_to_a_few_bits_and_end_in_zero() -> None:
    gate = torch.linspace(-100, 100, 200_001)
    found = kernels.gate(torch.stack((gate, torch.ones_like(gate)), dim=1))[:, 0]
    torch.testing.assert_close(found.double(), F.silu(gate.double()), rtol=5e-7, atol=1e-35)


@needs_kernels
def test_gates_in_bfloat16_are_right_to_a_rounding_also_where_they_are_open_or_shut() -> None:
    """A slope has the share's distance from one times the gate, where a poor reciprocal is seen (Intel's is not)."""
    gate = torch.cat((torch.linspace(-30, 30, 4001), torch.tensor([-1e6, -1e3, 1e3, 1e6, 1e30]))).bfloat16()
    wide = gate.double().requires_grad_()
    both = torch.cat((gate.expand(16, -1).T, torch.ones(len(gate), 16).bfloat16()), dim=1).contiguous()
    wanted = F.silu(wide)
    wanted.sum().backward()
    assert wide.grad is not None
    slope = kernels.gate_back(torch.ones(len(gate), 16).bfloat16(), both)
    for found, exact in (
        (kernels.gate(both)[:, 0], wanted.detach()),
        (slope[:, 0], wide.grad),
        (slope[:, 16], wanted.detach()),
    ):
        torch.testing.assert_close(found.double(), exact, rtol=2**-8 + 2e-4, atol=1e-6)


UNKNOWN: dict[str, Callable[[], Tensor]] = {
    "float64": lambda: torch.ones(3, dtype=torch.float64),
    "float16": lambda: torch.ones(3, dtype=torch.float16),
    "a column": lambda: torch.ones(3, 3)[:, 0],
    "no memory": lambda: torch.ones(3, device="meta"),
}


@needs_kernels
@pytest.mark.parametrize("name", UNKNOWN)
def test_tensors_that_kernels_do_not_know_are_left_to_torch(name: str) -> None:
    assert kernels.take(torch.ones(3))
    assert not kernels.take(UNKNOWN[name]())
    assert not kernels.take(torch.ones(3), UNKNOWN[name]())
    assert not kernels.take(torch.ones(3), torch.ones(3).bfloat16())


@needs_kernels
def test_heads_too_wide_are_left_to_torch() -> None:
    new, caches = torch.ones(1, 1, kernels.WIDEST + 2), torch.zeros(2, 1, 1, 3, kernels.WIDEST + 2)
    assert kernels.look(new, new, new, *caches, torch.tensor([0])) is None


@pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None or os.environ.get("PREFBENCH_KERNELS") == "0",
    reason="no C compiler, or not asked for",
)
def test_where_there_is_a_compiler_there_are_kernels() -> None:
    """Or all tests above would be skipped where the source is wrong."""
    assert kernels.built().library is not None, kernels.built().said
    told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    assert kernels.built().attends == ("avx512_bf16" in told)
    assert kernels.built().multiplies == bool(kernels.built().library.lend_tiles())


def told(cache: Path, **environment: str) -> str:
    """What a fresh process says of its kernels, and whether it computes."""
    code = (
        "import torch; from models import kernels; from models.fused import silu_gate;"
        "print(kernels.built().said, silu_gate(torch.ones(2, 4)).tolist())"
    )
    settings = {"PATH": "/usr/bin:/bin", "PREFBENCH_CACHE": str(cache), **environment}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=settings, check=False)
    assert done.returncode == 0, done.stderr
    assert "0.7310585" in done.stdout
    return done.stdout


@needs_kernels
@pytest.mark.parametrize("file", ["attention.c", "products.c"])
def test_a_compiler_too_old_for_this_processor_costs_that_file_alone(tmp_path: Path, file: str) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text(f'#!/bin/sh\ncase "$*" in *{file}*) exit 1;; esac\nexec cc "$@"\n')
    compiler.chmod(0o755)
    said, built = told(tmp_path, CC=str(compiler)), kernels.built()
    assert "compiled by" in said
    assert ("attention" in said) == (built.attends and file != "attention.c")
    assert ("matrices" in said) == (built.multiplies and file != "products.c")


@needs_kernels
def test_kernels_are_compiled_once_for_a_machine(tmp_path: Path) -> None:
    assert "compiled by" in told(tmp_path)
    (library,) = (tmp_path / "kernels").iterdir()
    made = library.stat().st_mtime_ns
    assert "compiled by" in told(tmp_path)
    assert [file.stat().st_mtime_ns for file in (tmp_path / "kernels").iterdir()] == [made]
    library.write_bytes(library.read_bytes()[:100])
    assert "compiled by" in told(tmp_path), "what a crash cut off is made again"


FAULTS = {
    "no compiler": ({"CC": "no-such-compiler"}, "FileNotFoundError"),
    "one that fails": ({"CC": "false"}, "false"),
    "a quote without its end": ({"CC": '"gcc'}, "ValueError"),
    "not asked for": ({"PREFBENCH_KERNELS": "0"}, "PREFBENCH_KERNELS=0"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_without_a_compiler_torch_computes_and_it_is_said_why(fault: str, tmp_path: Path) -> None:
    environment, said = FAULTS[fault]
    assert said in told(tmp_path, **environment)


def test_a_cache_that_cannot_be_written_costs_the_kernels_alone(tmp_path: Path) -> None:
    (tmp_path / "kernels").write_text("a file where a folder belongs")
    assert "none" in told(tmp_path)
