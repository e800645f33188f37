"""How many held-out prompts are enough: planned looks, each at twice as many as the last.

The looks are fixed before anything is seen, and whether to go on hangs on how wide the main contrast's interval is, not
on which way it points (Chow and Robbins 1965): by simulation intervals then cover as they say (docs/log.md).
"""

from __future__ import annotations

import re

from harness.errors import HarnessError
from harness.records import Comparison, Look

GROWTH = 2


def parse_precision(text: str) -> float:
    """ "3pp" as 0.03; HarnessError where it is no number of points."""
    points = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*pp\s*", text)
    if points is None or not 0 < float(points[1]) < 50:
        raise HarnessError(f"--precision {text!r} is no number of points: write 3pp for ±3 points")
    return float(points[1]) / 100


def look_at(contrast: Comparison, prompts: int) -> Look:
    """What is written down of a look.

    Where all prompts agree nothing has a width, and yet up to three in n of others may not (the rule of three).
    """
    half = (contrast.high - contrast.low) / 2
    return Look(
        prompts=prompts,
        a=contrast.a,
        b=contrast.b,
        metric=contrast.metric,
        half_width=half if half > 0 else 3 / contrast.n,
    )


def next_look(prompts: int, available: int) -> int | None:
    """Prompts of the look after one at so many; None where all are used up."""
    return min(GROWTH * prompts, available) if prompts < available else None
