"""How numbers are written: shares as percent, differences in points, no false precision."""

from __future__ import annotations

from typing import NamedTuple

from harness.records import Comparison, Score

MISSING = "—"


class Cell(NamedTuple):
    """One cell of a table: a value, its interval where it has one, and the number behind it."""

    value: str
    interval: str = ""
    n: int | None = None
    strong: bool = False
    order: float | None = None  # what a table is sorted by, where the written value would mislead

    def __str__(self) -> str:
        return f"{self.value} ({self.interval})" if self.interval else self.value


def score_cell(score: Score | None) -> Cell:
    """A score with its interval, in its own unit; a dash where it is missing."""
    if score is None:
        return Cell(MISSING)
    value = figure(score.value, score.unit)
    interval = _interval(score.low, score.high, score.unit, scale=score.value)
    return Cell(value, interval, score.n, order=score.value)


def change_cell(score: Score | None) -> Cell:
    """A score that is a difference of shares, in points with its sign."""
    if score is None:
        return Cell(MISSING)
    interval = f"{_points(score.low)} to {_points(score.high)}"
    return Cell(points(score.value), interval, score.n, order=score.value)


def comparison_cell(comparison: Comparison, unit: str) -> Cell:
    """A difference with its interval: points for shares, else its own unit."""
    c = comparison
    if unit == "share":
        return Cell(points(c.difference), f"{_points(c.low)} to {_points(c.high)}", c.n, order=c.difference)
    value = signed(c.difference, decimals(c.difference)) + suffix(unit)
    low, high = (signed(end, decimals(c.difference)) for end in (c.low, c.high))
    return Cell(value, f"{low} to {high}", c.n, order=c.difference)


def share_cell(share: float | None) -> Cell:
    """A share without an interval; a dash where it is missing."""
    return Cell(MISSING) if share is None else Cell(f"{percent(share)}%", order=share)


def rate_cell(per_second: float | None) -> Cell:
    """So many a second: "42.1/s"; a dash where it was not measured."""
    if per_second is None:
        return Cell(MISSING)
    return Cell(f"{per_second:,.{decimals(per_second)}f}/s", order=per_second)


def count_cell(count: int) -> Cell:
    """A whole number: "42,000"."""
    return Cell(f"{count:,}", order=count)


def flops_cell(value: float, *, strong: bool = False) -> Cell:
    """FLOPs; a dash where there are none."""
    return Cell(flops(value) if value > 0 else MISSING, order=value if value > 0 else None, strong=strong)


def p_cell(p: float) -> Cell:
    """A p value."""
    return Cell(p_value(p), order=p)


def figure(value: float, unit: str) -> str:
    """A value with its unit, short: "71%", "×1.46", "6.23"."""
    if unit == "share":
        return f"{percent(value)}%"
    if unit == "ratio":
        return f"×{value:.2f}"
    return minus(f"{value:.{decimals(value)}f}")


def phrase(score: Score) -> str:
    """A score in a sentence: "71% (62% to 79%)", "6.23 nats (5.51 to 7.02)"."""
    value = figure(score.value, score.unit)
    low, high = (minus(end) for end in _ends(score.low, score.high, score.unit, score.value))
    mark = "%" if score.unit == "share" else ""
    return f"{value}{suffix(score.unit)} ({low}{mark} to {high}{mark})"


def points(value: float) -> str:
    """A difference of shares: "+12 points"."""
    number = _points(value)
    return f"{number} point{'' if number in ('+1', '−1') else 's'}"


def percent(value: float) -> str:
    """A share as a whole percent, but never rounded up to certainty: 99.7% is not 100%."""
    whole = round(100 * value)
    if whole == 100 and value < 1:
        return f"{min(100 * value, 99.9):.1f}"
    if whole == 0 and value >= 0.0005:
        return f"{100 * value:.1f}"
    return minus(str(whole))


def flops(value: float | None) -> str:
    """FLOPs in the prefix that leaves one to three digits before the point."""
    if value is None:
        return MISSING
    for power, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= power:
            return f"{value / power:.{decimals(value / power)}f} {prefix}FLOP"
    return f"{value:.0f} FLOP"


def seconds(value: float) -> str:
    """A duration: "48.2 s", "12 min 5 s"."""
    if value < 120:
        return f"{value:.1f} s"
    return f"{int(value // 60)} min {round(value % 60)} s"


def memory(count: int) -> str:
    """Bytes in GiB or MiB; a dash where nothing was measured."""
    if count <= 0:
        return MISSING
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def p_value(p: float) -> str:
    """A p value without false precision."""
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def minus(number: str) -> str:
    """A true minus sign, and no negative zero."""
    if number.startswith("-") and not number.strip("-0."):
        number = number[1:]
    return number.replace("-", "−")


def decimals(scale: float) -> int:
    """Decimals for a number of this size: three digits or so in all."""
    size = abs(scale)
    return 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 else 3


def suffix(unit: str) -> str:
    """The unit after a number; shares and ratios carry theirs already."""
    return "" if unit in ("share", "ratio") else f" {unit}"


def _interval(low: float, high: float, unit: str, scale: float) -> str:
    return " to ".join(_ends(low, high, unit, scale))


def _ends(low: float, high: float, unit: str, scale: float) -> tuple[str, str]:
    if unit == "share":
        return percent(low), percent(high)
    places = 2 if unit == "ratio" else decimals(scale)
    return minus(f"{low:.{places}f}"), minus(f"{high:.{places}f}")


def _points(value: float) -> str:
    return signed(100 * value, 0 if abs(value) >= 0.0095 or value == 0 else 1)


def signed(value: float, places: int) -> str:
    """A number with its sign, a true minus among them: "+1.2"; zero has none."""
    number = minus(f"{value:.{places}f}")
    return number if number.startswith("−") or value == 0 else f"+{number}"
