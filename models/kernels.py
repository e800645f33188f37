"""What is written in C (models/*.c), compiled on this machine when first needed; without it torch does the same.

torch passes over memory once an operator, and between the matrices it is memory that takes the time: the same formulas
in one pass each take a half to an eighth (docs/log.md, 2026-11-28). Without a C compiler, or where torch's threads are
not GCC's, there are no kernels, and the same numbers but for rounding. PREFBENCH_KERNELS=0 does without them.
C checks nothing: what may be handed over is asserted here, in models/segments.py and models/products.py, or asked of
`take`.
Shapes: N tokens · D width · F feed-forward width, or half a head's where it is turned · H heads · K key/value heads ·
E head width · B rows · T queries, or what a cache holds · S keys · U positions · V vocabulary.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import subprocess
import tempfile
from ctypes import c_float, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.failure import one_line
from models.home import cache_path

SOURCES = [Path(__file__).with_name(name) for name in ("kernels.c", "attention.c", "products.c")]
HEADER = Path(__file__).with_name("kernels.h")
SIDE = 32  # numbers in bfloat16 that lie in a line of a processor's cache
WIDEST = 512  # numbers of a head that one new token looks with; C keeps as many beside
FLAGS = (
    *("-O3", "-march=native", "-fPIC", "-fopenmp", "-fno-strict-aliasing", f"-DWIDEST={WIDEST}", f"-DSIDE={SIDE}"),
    *("-fno-math-errno", "-fno-trapping-math", "-fassociative-math", "-fno-signed-zeros"),  # sums in any order
)
FLAGS_X86 = ("-mprefer-vector-width=512",)
WIDE = {torch.float32: 1, torch.bfloat16: 0}  # as the source calls them
SIGNATURES: dict[str, list[Any]] = {
    "norm": [*[c_void_p] * 6, *[c_int64] * 3, c_float, c_int],
    "norm_back": [*[c_void_p] * 8, *[c_int64] * 3, c_int],
    "gate": [*[c_void_p] * 2, *[c_int64] * 3, c_int],
    "gate_back": [*[c_void_p] * 3, *[c_int64] * 3, c_int],
    "turn": [*[c_void_p] * 4, *[c_int64] * 6, c_float, c_int],
    "soften": [*[c_void_p] * 3, *[c_int64] * 6, c_int],
    "look": [*[c_void_p] * 8, *[c_int64] * 10, c_float, c_int],
    "targets": [*[c_void_p] * 4, *[c_int64] * 3, c_int, c_int],
    "add": [*[c_void_p] * 2, *[c_int64] * 3, c_int, c_int],
    "squares": [*[c_void_p] * 4, *[c_int64] * 3, c_int],
    "adamw": [*[c_void_p] * 7, *[c_int64] * 3, *[c_float] * 7, c_int],
}
PLAN = [*[c_void_p] * 2, *[c_int64] * 7, c_float, c_void_p]
SIGNATURES_ATTENTION: dict[str, list[Any]] = {
    "attend_room": [*[c_int64] * 3],
    "attend": [*[c_void_p] * 3, *[c_int64] * 3, *[c_void_p] * 2, *PLAN],
    "attend_back": [*[c_void_p] * 3, *[c_int64] * 3, *[c_void_p] * 7, *PLAN],
}
SIGNATURES_PRODUCTS: dict[str, list[Any]] = {
    "multiply_room": [c_int64],
    "multiply": [*[c_void_p] * 4, *[c_int64] * 8, c_int, c_void_p],
}


class Built(NamedTuple):
    """The library, and how it was made or why it was not."""

    library: Any
    said: str
    attends: bool = False  # also in bfloat16, which the processor multiplies itself
    multiplies: bool = False  # matrices in bfloat16, by Intel's AMX


@functools.cache
def built() -> Built:
    """Compiled once for a machine and kept in the cache folder; loaded once a process."""
    if os.environ.get("PREFBENCH_KERNELS") == "0":
        return Built(None, "not asked for (PREFBENCH_KERNELS=0)")
    try:
        compiler = shlex.split(os.environ.get("CC") or "cc")
        threads = _torchs_threads()
        version = _said_by([*compiler, "--version"]).splitlines()[0]
        ctypes.CDLL(str(threads), mode=ctypes.RTLD_GLOBAL)
        library = _loaded(compiler, version)
        lent = bool(library.lend_tiles())
        attends, multiplies = hasattr(library, "attend"), lent and hasattr(library, "multiply")
        there = SIGNATURES | (SIGNATURES_ATTENTION if attends else {}) | (SIGNATURES_PRODUCTS if multiplies else {})
        for name, signature in there.items():
            getattr(library, name).argtypes = signature
            getattr(library, name).restype = c_int64 if name.endswith("_room") else None
    except Exception as error:  # no compiler, another one's threads, a cache that cannot be written: all can do without
        return Built(None, f"none, torch's own operators instead ({one_line(error)})")
    more = [name for name, is_there in (("attention", attends), ("matrices", multiplies)) if is_there]
    how = f", {' and '.join(more)} in bfloat16{' by AMX' if lent else ''} too" if more else ""
    return Built(library, f"compiled by {version}{how}", attends=attends, multiplies=multiplies)


def _torchs_threads() -> Path:
    """The library calls those that torch has brought along: others beside them would wait for each other."""
    found = list((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
    if len(found) != 1:
        raise OSError(f"torch brings {len(found)} of GCC's thread libraries along, and one is needed")
    return found[0]


def _loaded(compiler: list[str], version: str) -> ctypes.CDLL:
    """Made again if what is kept cannot be loaded: a machine may have crashed while it was written."""
    library = _compiled(compiler, version)
    try:
        return ctypes.CDLL(str(library))
    except OSError:
        library.unlink(missing_ok=True)
        return ctypes.CDLL(str(_compiled(compiler, version)))


def _compiled(compiler: list[str], version: str) -> Path:
    """The library for this source, compiler and processor."""
    flags = (*FLAGS, *(FLAGS_X86 if platform.machine() in ("x86_64", "AMD64") else ()))
    texts = [file.read_text(encoding="utf-8") for file in (*SOURCES, HEADER)]
    made_of = (texts, compiler, version, flags, platform.machine(), _processor())
    library = cache_path() / "kernels" / f"{hashlib.sha256(repr(made_of).encode()).hexdigest()[:32]}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
            objects, linked = [], Path(scratch) / "kernels.so"
            for source in SOURCES:
                made = Path(scratch) / f"{source.stem}.o"
                try:
                    _said_by([*compiler, *flags, "-c", str(source), "-o", str(made)])
                    objects.append(made)
                except (
                    OSError
                ):  # too old for this processor: what is in the first file works without attention or products
                    if source is SOURCES[0]:
                        raise
            _said_by([*compiler, "-shared", *map(str, objects), "-o", str(linked), "-lm"])  # and no threads of its own
            linked.replace(library)
    return library


def _processor() -> str:
    """What `-march=native` goes by."""
    told = Path("/proc/cpuinfo")
    if not told.exists():
        return platform.processor()
    kinds = ("flags", "Features", "model name", "CPU part")
    return "\n".join(sorted({line for line in told.read_text(encoding="utf-8").splitlines() if line.startswith(kinds)}))


def _said_by(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise OSError(f"{shlex.join(command[:1])}: {done.stderr.strip()[:200]}")
    return done.stdout


def take(*tensors: Tensor) -> bool:
    """Whether there are kernels, and they know such tensors: of one dtype, whole, on a processor."""
    dtype = tensors[0].dtype
    return (
        dtype in WIDE
        and all(tensor.is_cpu and tensor.dtype == dtype and tensor.is_contiguous() for tensor in tensors)
        and built().library is not None
    )


class Normed(NamedTuple):
    """RMSNorm of x or of a sum, and what its gradient needs."""

    out: Tensor
    scale: Tensor  # what each row was multiplied by, (…, 1) float32
    x: Tensor


def norm(x: Tensor, added: Tensor | None, weight_D: Tensor, eps: float, dtype: torch.dtype) -> Normed:
    """Of x (…, D) in float32, or of x + `added`, which has `dtype`; cast to that."""
    total = x if added is None else torch.empty_like(x)
    out, scale = torch.empty_like(x, dtype=dtype), x.new_empty(*x.shape[:-1], 1)
    pointers = _at(x), _at(added), _at(weight_D), _at(total), _at(out), _at(scale)
    built().library.norm(*pointers, *_sizes(x), eps, WIDE[dtype])
    return Normed(out, scale, total)


class NormSlopes(NamedTuple):
    """What goes back through a norm, or through a sum and its norm."""

    x: Tensor
    added: Tensor  # the same in its dtype
    weight: Tensor | None


def norm_back(
    grad: Tensor, passed: Tensor | None, x: Tensor, weight_D: Tensor, scale: Tensor, learnt: bool
) -> NormSlopes:
    """`passed` comes from what else reads the sum, float32; the weight's slope only where it is learnt."""
    slope, threads = torch.empty_like(x), torch.get_num_threads()
    narrow = torch.empty_like(grad) if passed is not None and grad.dtype != x.dtype else None
    sums_TD = x.new_zeros(threads, x.shape[-1]) if learnt else None
    pointers = [_at(one) for one in (grad, passed, x, weight_D, scale, slope, narrow, sums_TD)]
    built().library.norm_back(*pointers, *_sizes(x), WIDE[grad.dtype])
    return NormSlopes(slope, slope if narrow is None else narrow, None if sums_TD is None else sums_TD[0])


def gate(both: Tensor) -> Tensor:
    """silu(gate) · up of gate and up side by side, (…, F)."""
    out = both.new_empty(*both.shape[:-1], both.shape[-1] // 2)
    built().library.gate(_at(both), _at(out), *_sizes(out), WIDE[both.dtype])
    return out


def gate_back(grad: Tensor, both: Tensor) -> Tensor:
    """The slope of both, (…, 2F)."""
    slope = torch.empty_like(both)
    pointers = _at(grad), _at(both), _at(slope)
    built().library.gate_back(*pointers, *_sizes(grad), WIDE[both.dtype])
    return slope


def turn(x_NHE: Tensor, cosine_N1F: Tensor, sine_N1F: Tensor, out_NHE: Tensor, way: float) -> None:
    """Each pair of features (e, e + E/2) turned by its angle times `way`. Tokens may lie apart, also in `out`."""
    N, H, E = x_NHE.shape
    assert cosine_N1F.shape == sine_N1F.shape == (N, 1, E // 2)
    assert out_NHE.shape == x_NHE.shape
    pointers = _at(x_NHE), _at(cosine_N1F), _at(sine_N1F), _at(out_NHE)
    sizes = N, x_NHE.stride(0), out_NHE.stride(0), H, E // 2, torch.get_num_threads()
    built().library.turn(*pointers, *sizes, way, WIDE[x_NHE.dtype])


def soften(scores: Tensor, grads: Tensor, bias_B1TS: Tensor, open: int) -> None:
    """Scores (…, T, S) of B times some heads become their softmax, its gradients theirs.

    `open`: so many columns of the bias, the first ones, are not looked at, as if they were zero.
    """
    B, _, T, S = bias_B1TS.shape
    assert scores.shape == grads.shape
    assert scores.shape[-1] == S
    sizes = B, scores.numel() // max(1, B * T * S), T, open, S, torch.get_num_threads()
    built().library.soften(_at(scores), _at(grads), _at(bias_B1TS), *sizes, WIDE[scores.dtype])


def look(
    query_BHE: Tensor, key_BKE: Tensor, value_BKE: Tensor, keys_BKTE: Tensor, values_BKTE: Tensor, lengths_B: Tensor
) -> Tensor | None:
    """Adds a token of each row behind what it has, and softmax(q · kᵀ / √E) · v over all of it, (B, H, E).

    Each row has fewer than T tokens. None where there is no kernel for that.
    """
    B, H, E = query_BHE.shape
    K, T = keys_BKTE.shape[1:3]
    new, caches = (query_BHE, key_BKE, value_BKE), (keys_BKTE, values_BKTE)
    if E > WIDEST or not take(*(x[:1] for x in new), *(x[:1] for x in caches)):
        return None
    assert keys_BKTE.shape == values_BKTE.shape
    assert keys_BKTE.stride() == values_BKTE.stride()
    assert lengths_B.dtype == torch.int64
    out, threads = query_BHE.new_empty(B, H, E), torch.get_num_threads()
    room = query_BHE.new_empty(threads, H // K, T, dtype=torch.float32)
    pointers = [_at(x) for x in (*new, *caches, lengths_B, out, room)]
    apart = [x.stride(0) for x in (*new, keys_BKTE)]
    built().library.look(*pointers, B, K, H // K, E, T, *apart, threads, E**-0.5, WIDE[query_BHE.dtype])
    return out


def targets(logits_UV: Tensor, targets_U: Tensor, *, sloping: bool) -> Tensor:
    """log softmax at the targets, (U,) float32; with `sloping`, logits become (onehot − softmax)."""
    assert targets_U.dtype == torch.int64
    assert targets_U.is_contiguous()
    logps_U = logits_UV.new_empty(len(logits_UV), dtype=torch.float32)
    room_TV = logits_UV.new_empty(torch.get_num_threads(), logits_UV.shape[1], dtype=torch.float32)
    pointers = _at(logits_UV), _at(targets_U), _at(logps_U), _at(room_TV)
    built().library.targets(*pointers, *_sizes(logits_UV), sloping, WIDE[logits_UV.dtype])
    return logps_U


def add(total: Tensor, more: Tensor, *, first: bool) -> None:
    """total += more, or total = more; total is float32."""
    assert total.dtype == torch.float32
    assert total.shape == more.shape
    built().library.add(_at(total), _at(more), *_sizes(more), first, WIDE[more.dtype])


class Added(NamedTuple):
    """Rows that are added to a gradient without making it anew: `of_row` says which, −1 for none."""

    of_row: Tensor  # (rows of the gradient,) int32
    rows: Tensor  # (some, width) float32


def squares(gradient: Tensor, added: Added | None) -> float:
    """Σ g² over all, in parts of float32 that are summed in float64."""
    sums_T = torch.empty(torch.get_num_threads(), dtype=torch.float64)
    pointers = _at(gradient), *_pointers(added), _at(sums_T)
    built().library.squares(*pointers, *_sizes(gradient), WIDE[gradient.dtype])
    return float(sums_T.sum())


def adamw(
    master: Tensor,
    mean: Tensor,
    square: Tensor,
    copy: Tensor | None,
    gradient: Tensor,
    added: Added | None,
    *,
    shrink: float,
    betas: tuple[float, float],
    rate: float,
    step: int,
    eps: float,
) -> None:
    """A step of AdamW (arXiv:1711.05101, no weight decay), gradients times `shrink`; the copy, in bfloat16, follows."""
    assert master.dtype == mean.dtype == square.dtype == torch.float32
    assert copy is None or (copy.dtype == torch.bfloat16 and copy.is_contiguous())
    weights = [_at(x) for x in (master, mean, square, copy, gradient)]
    corrected = rate / (1 - betas[0] ** step), (1 - betas[1] ** step) ** -0.5
    numbers = shrink, 1 - betas[0], betas[1], 1 - betas[1], *corrected, eps
    built().library.adamw(*weights, *_pointers(added), *_sizes(master), *numbers, WIDE[gradient.dtype])
    torch.autograd.graph.increment_version([x for x in (master, copy) if x is not None])


def _at(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def _sizes(x: Tensor) -> tuple[int, int, int]:
    """Rows, numbers in each, threads."""
    width = x.shape[-1]
    return x.numel() // width if width else 0, width, torch.get_num_threads()


def _pointers(added: Added | None) -> tuple[int | None, int | None]:
    return (None, None) if added is None else (_at(added.of_row), _at(added.rows))
