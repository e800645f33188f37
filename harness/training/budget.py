"""What training costs, and what one trial may spend.

FLOPs are those of useful tokens: the body (2 a weight forward, 6 with backward, plus attention) and the LM head (at
response positions only), no padding, no recomputation; a template's common prefix counts once a step, though each
micro-batch reads it again.
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


def forward_flops(a: Architecture, rows: Sequence[Row]) -> float:
    """FLOPs of one forward pass over rows packed together, head at response positions only."""
    prefix = common_prefix(rows)
    tokens = sum(r.input_tokens for r in rows) - prefix * (len(rows) - 1)
    attended = sum(r.attended for r in rows) - prefix * (prefix + 1) // 2 * (len(rows) - 1)
    body = 2.0 * a.body_weights * tokens + 4.0 * a.depth * a.attention_width * attended
    head = 2.0 * a.head_weights * sum(r.response_tokens for r in rows)
    return body + head


def training_flops(a: Architecture, rows: Sequence[Row]) -> float:
    """Forward and backward: three times a forward pass."""
    return 3.0 * forward_flops(a, rows)


def useful_tokens(rows: Sequence[Row]) -> int:
    """Tokens that the rows hold, prompts included, as a log counts them."""
    return sum(r.input_tokens for r in rows)
