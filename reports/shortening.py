"""Names cut to the cells of a terminal, so that no two of them look the same."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, chop_cells

MARK = "…"


def narrowest(names: Sequence[str], least: int, most: int) -> int:
    """The fewest cells, between these, in which cutting leaves all names distinct; the most where none does."""
    enough = max((cell_len(name) for name in names), default=0)
    widths = range(min(least, enough), min(most, enough) + 1)
    return next((cells for cells in widths if _cut_alike(names, cells)), max(1, min(most, enough)))


def shortened(names: Sequence[str], cells: int) -> tuple[str, ...]:
    """Each name in so many cells: its beginning, with as much of its end as tells it from the others.

    Where cutting leaves some alike, these are numbered.
    """
    return _cut_alike(names, cells) or _numbered(names, cells)


def _cut_alike(names: Sequence[str], cells: int) -> tuple[str, ...] | None:
    """All names cut at one place, the one that keeps the least of their ends; None where no place will do."""
    for tail in range(cells):
        cut = tuple(_without_middle(name, cells, tail) for name in names)
        if len(set(cut)) == len(set(names)):
            return cut
    return None


def _without_middle(name: str, cells: int, tail: int) -> str:
    if cell_len(name) <= cells:
        return name
    return f"{_beginning(name, cells - 1 - tail)}{MARK}{_beginning(name[::-1], tail)[::-1]}"


def _numbered(names: Sequence[str], cells: int) -> tuple[str, ...]:
    """As much of each beginning as its number leaves room for."""
    numbers = {name: str(place) for place, name in enumerate(dict.fromkeys(names), 1)}
    return tuple(
        name if cell_len(name) <= cells else f"{_beginning(name, cells - 1 - len(numbers[name]))}{MARK}{numbers[name]}"
        for name in names
    )


def _beginning(text: str, cells: int) -> str:
    """As much of the text as fits into so many cells."""
    return chop_cells(text, cells)[0] if text and cells > 0 and cell_len(text[0]) <= cells else ""
