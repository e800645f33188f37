"""What training costs, and what one trial may spend.

FLOPs are those of useful tokens: the body (2 a weight forward, 6 with backward, plus attention) and the LM head (at
response positions only), no padding, no recomputation; what a pair's responses begin with counts once, and a template's
common prefix once a step, though each micro-batch reads it again.
With an adapter (models/lora.py) the frozen matrices pass gradients on and have none of their own: `adapter_flops`.
Memory-bound work (optimizer steps, refreshes of a moving reference) is charged at its FLOP-equivalent: bytes moved
times the machine's balance.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harness.errors import HarnessError
from models.architecture import Architecture
from models.lora import Lora
from models.packing import Row, common_prefix

# FLOPs in the time that one byte takes to move: measured on 2 Xeon cores in float32 (docs/log.md). A budget in FLOPs
# uses it everywhere, so that everybody plans the same steps; a budget in seconds calibrates its own.
FLOPS_PER_BYTE = 8.0
UPDATE_BYTES = 32  # a weight: AdamW reads weight, gradient and two moments, writes three; clipping reads the gradient
REFRESH_BYTES = 12  # a weight: read policy and reference, write reference

Unit = Literal["seconds", "flops", "pairs", "epochs"]
_UNITS: dict[str, tuple[Unit, float]] = {
    "s": ("seconds", 1),
    "m": ("seconds", 60),
    "min": ("seconds", 60),
    "h": ("seconds", 3600),
    "flop": ("flops", 1),
    "gflop": ("flops", 1e9),
    "tflop": ("flops", 1e12),
    "pflop": ("flops", 1e15),
    "pair": ("pairs", 1),
    "pairs": ("pairs", 1),
    "epoch": ("epochs", 1),
    "epochs": ("epochs", 1),
}


@dataclass(frozen=True, kw_only=True)
class Amount:
    """A budget as the user wrote it."""

    unit: Unit
    amount: float


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What one trial may spend, resolved: FLOPs, or pairs where pairs or epochs were asked for."""

    flops: float | None = None
    pairs: int | None = None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Charged FLOPs of one step, by kind."""

    policy: float = 0.0
    reference: float = 0.0
    update: float = 0.0
    refresh: float = 0.0

    @property
    def total(self) -> float:
        return self.policy + self.reference + self.update + self.refresh

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            policy=self.policy + other.policy,
            reference=self.reference + other.reference,
            update=self.update + other.update,
            refresh=self.refresh + other.refresh,
        )


def parse_budget(text: str) -> Amount:
    """`60s`, `10m`, `1.5h`, `12TFLOP`, `800pairs`, `2epochs`; HarnessError for anything else."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([a-z]+)\s*", text, re.IGNORECASE)
    unit = _UNITS.get(match[2].lower().removesuffix("s") if len(match[2]) > 4 else match[2].lower()) if match else None
    if match is None or unit is None:
        raise HarnessError(f"budget {text!r} cannot be read: write 60s, 10m, 12TFLOP, 800pairs or 2epochs")
    amount = float(match[1]) * unit[1]
    if not 0 < amount < float("inf"):
        raise HarnessError(f"budget {text!r} is not above zero: write 60s, 10m, 12TFLOP, 800pairs or 2epochs")
    return Amount(unit=unit[0], amount=amount)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What rows packed together give a model to do; their common beginning counts once."""

    tokens: int  # that are read
    attended: int  # pairs (token, token it sees)
    predicted: int  # response tokens, what responses share once


def work_of(rows: Sequence[Row]) -> Work:
    """The work of one pass over these rows."""
    prefix = common_prefix(rows)
    return Work(
        tokens=sum(r.input_tokens for r in rows) - prefix * (len(rows) - 1),
        attended=sum(r.attended for r in rows) - prefix * (prefix + 1) // 2 * (len(rows) - 1),
        predicted=sum(r.predicted_tokens for r in rows),
    )


def forward_flops(a: Architecture, rows: Sequence[Row], adapter: Lora | None = None) -> float:
    """FLOPs of one forward pass over rows packed together, head at response positions only."""
    work = work_of(rows)
    weights = a.body_weights + (adapter.weights(a) if adapter is not None else 0)
    body = 2.0 * weights * work.tokens + 4.0 * a.depth * a.attention_width * work.attended
    return body + 2.0 * a.head_weights * work.predicted


def training_flops(a: Architecture, rows: Sequence[Row], adapter: Lora | None = None) -> float:
    """Forward and backward: three times a forward pass, or what an adapter leaves of that."""
    if adapter is None:
        return 3.0 * forward_flops(a, rows)
    return forward_flops(a, rows, adapter) + adapter_flops(a, rows, adapter)


def adapter_flops(a: Architecture, rows: Sequence[Row], adapter: Lora) -> float:
    """The backward pass of LoRA, with N weights in the body, n in the adapter, H in the head, T tokens, U predicted.

    2 (N − N₀) T through the frozen matrices, twice attention's forward pass, 4 n T for the adapter's own gradients and
    through it, less 2 n₀ T, and 2 H U through the head. N₀, n₀ and the first layer's attention are what needs no
    gradient, since nothing before it is trained: `Lora.idle`.
    """
    work, idle = work_of(rows), adapter.idle(a)
    frozen = 2.0 * (a.body_weights - idle.weights) * work.tokens
    layers = a.depth - 1 if idle.attention else a.depth
    attention = 2.0 * 4.0 * layers * a.attention_width * work.attended
    own = (4.0 * adapter.weights(a) - 2.0 * idle.adapter_weights) * work.tokens
    return frozen + attention + own + 2.0 * a.head_weights * work.predicted


def useful_tokens(rows: Sequence[Row]) -> int:
    """Tokens that are read of the rows, prompts included, as a log counts them."""
    return sum(r.input_tokens for r in rows)
