"""The frontier: what each trial wins, against how far it drifted from the anchor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from matplotlib.transforms import Bbox

from harness.records import RunRecord, Score, TrialPath
from reports.deciding import best_first, deciding
from reports.figures import INK, PAPER, Mark, blank, marks, styled, tidy
from reports.glossary import term
from reports.paths import NAMED, paths_drawn
from reports.text import one_line
from reports.trials import display_name, score

# Where a label may stand, seen from its point, in units of its distance: nearest the reading direction first.
_DIRECTIONS = ((1, 0), (1, 1), (1, -1), (-1, 0), (-1, 1), (-1, -1), (0, 1), (0, -1))
_DISTANCES = (11, 20, 34, 50, 70, 95, 125)  # pixels at 100 dpi


FARTHEST = 1.5  # of the trials' farthest KL: a path that comes from farther away is cut off there


class Point(NamedTuple):
    """One trial in the plane; `place` is its place among the run's trials."""

    place: int
    name: str
    label: str
    kl: Score
    win: Score


def frontier(run: RunRecord) -> Figure:
    """Win rate (or what else decides) against KL, with both intervals, the anchor at no drift and no gain."""
    metric = deciding(run).metric
    points = _points(run, metric)
    with styled():
        figure = blank(8.4, 5.4)
        axes = figure.add_subplot()
        tidy(axes)
        _draw_anchor(axes)
        looks = marks(run)
        ways = paths_drawn(run)
        for path in ways:
            _draw_path(axes, path, looks[path.trial])
        for point in points:
            _draw_point(axes, point, looks[point.name])
        _frame(axes, points, ways, term(metric).title)
        _label(figure, axes, points, {name: mark.colour for name, mark in looks.items()})
    return figure


def _points(run: RunRecord, metric: str) -> list[Point]:
    ranks = {trial.name: str(rank) for rank, trial in enumerate(best_first(run, metric), 1)}
    found = [(i, t, score(t, "kl_nats"), score(t, metric)) for i, t in enumerate(run.trials)]
    named = len(found) <= NAMED
    return [
        Point(i, name := display_name(run, t), one_line(name, 40) if named else ranks[t.name], kl, win)
        for i, t, kl, win in found
        if kl is not None and win is not None
    ]


def _draw_anchor(axes: Axes) -> None:
    axes.axhline(0.5, color=INK, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    axes.plot([0], [0.5], marker="o", markersize=9, color=PAPER, markeredgecolor=INK, markeredgewidth=2, zorder=5)


def _draw_path(axes: Axes, path: TrialPath, mark: Mark) -> None:
    """A thin line through where the trial was on its way, a small mark of its own at each place."""
    kls, values = [p.kl.value for p in path.points], [p.value.value for p in path.points]
    axes.plot(kls, values, color=mark.colour, linestyle=mark.dash, linewidth=1.1, alpha=0.9, zorder=2.5)
    if len(kls) > 2:
        axes.plot(kls[:-1], values[:-1], color=mark.colour, marker=mark.marker, markersize=4, linestyle="", zorder=3)


def _draw_point(axes: Axes, point: Point, mark: Mark) -> None:
    kl, win = point.kl, point.win
    for across, up in (([kl.low, kl.high], [win.value] * 2), ([kl.value] * 2, [win.low, win.high])):
        axes.plot(across, up, color=mark.colour, linewidth=1.8, alpha=0.75, zorder=2)
    axes.plot(
        [kl.value],
        [win.value],
        marker=mark.marker,
        markersize=10,
        color=mark.colour,
        markeredgecolor=PAPER,
        zorder=4,
        gid=f"trial-{point.place}",  # the page's script finds the point by it
    )


def _frame(axes: Axes, points: list[Point], ways: Sequence[TrialPath], title: str) -> None:
    """Limits that hold every interval, and the paths but for what is very far, with room for labels."""
    right = max([point.kl.high for point in points], default=1.0) or 1.0
    on_the_way = [p for path in ways for p in path.points if p.kl.value <= FARTHEST * right]
    right = max([right, *(p.kl.value for p in on_the_way)])
    low = min([0.5, *(point.win.low for point in points), *(p.value.value for p in on_the_way)])
    high = max([0.5, *(point.win.high for point in points), *(p.value.value for p in on_the_way)])
    room = 0.08 * max(high - low, 0.1)
    axes.set_xlim(-0.04 * right, 1.15 * right)
    axes.set_ylim(max(low - room, -0.02), min(high + room, 1.02))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))  # no ticks at 62.5%, shown as 62%
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("KL to the anchor, nats a response (less is closer)")
    axes.set_ylabel(title)


def _label(figure: Figure, axes: Axes, points: list[Point], colours: dict[str, str]) -> None:
    """A name beside every point, where it covers neither another name nor a point; a line leads to a far one."""
    figure.draw_without_rendering()
    markers = [_pixels(axes, 0.0, 0.5), *(_pixels(axes, p.kl.value, p.win.value) for p in points)]
    taken = [Bbox.from_extents(x - 8, y - 8, x + 8, y + 8) for x, y in markers]
    even = Bbox.from_extents(axes.bbox.x0, markers[0][1] - 1, axes.bbox.x1, markers[0][1] + 1)
    bars = [even, *(box for p in points for box in _bars(axes, p))]
    names = [("anchor", INK, 0.0, 0.5), *((p.label, colours[p.name], p.kl.value, p.win.value) for p in points)]
    for label, colour, x, y in sorted(names, key=lambda entry: (-entry[3], entry[2])):
        taken.append(_place(axes, label, (x, y), taken, bars, colour))


def _pixels(axes: Axes, x: float, y: float) -> tuple[float, float]:
    across, up = axes.transData.transform((x, y))
    return float(across), float(up)


def _bars(axes: Axes, point: Point) -> tuple[Bbox, Bbox]:
    left, bottom = _pixels(axes, point.kl.low, point.win.low)
    right, top = _pixels(axes, point.kl.high, point.win.high)
    x, y = _pixels(axes, point.kl.value, point.win.value)
    return Bbox.from_extents(left, y - 1, right, y + 1), Bbox.from_extents(x - 1, bottom, x + 1, top)


def _place(axes: Axes, name: str, at: tuple[float, float], taken: list[Bbox], bars: list[Bbox], colour: str) -> Bbox:
    """Write the name at the best free place, with a line of its point's colour where that is not beside it; its box."""
    text = axes.annotate(name, at, xytext=(0, 0), textcoords="offset points", va="bottom", fontsize=12.5, zorder=6)
    # Paper behind the name, not a stroke round its letters: outlined twice, thirty names would take a megabyte.
    text.set_bbox({"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 1.0})
    text.set_in_layout(False)
    canvas = axes.figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    size = text.get_window_extent(canvas.get_renderer())  # type: ignore[no-untyped-call]  # Matplotlib's
    options = list(_options(_pixels(axes, *at), size.width, size.height))
    box, distance = min(options, key=lambda option: _cost(option[0], option[1], axes.bbox, taken, bars))
    x, y = _pixels(axes, *at)
    per_pixel = 72 / canvas.figure.dpi
    text.xyann = ((box.x0 - x) * per_pixel, (box.y0 - y) * per_pixel)
    if distance > _DISTANCES[0]:
        _leader(axes, (x, y), box, colour)
    return box


def _options(point: tuple[float, float], width: float, height: float) -> list[tuple[Bbox, float]]:
    """Boxes round the point, each with its distance."""
    x, y = point
    found = []
    for distance in _DISTANCES:
        for right, up in _DIRECTIONS:
            left = x + right * distance - (width if right < 0 else width / 2 if right == 0 else 0)
            bottom = y + up * distance - height / 2
            found.append((Bbox.from_bounds(left, bottom, width, height), float(distance)))
    return found


def _cost(box: Bbox, distance: float, frame: Bbox, taken: list[Bbox], bars: list[Bbox]) -> float:
    """Covering a name or a point is worst, then leaving the frame, then lying on a bar, then being far."""
    outside = not (frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1)
    covered = sum(box.overlaps(other) for other in taken)
    crossed = sum(box.overlaps(bar) for bar in bars)
    return 1000 * covered + 500 * outside + 30 * crossed + distance


def _leader(axes: Axes, point: tuple[float, float], box: Bbox, colour: str) -> None:
    """From the point to the box's nearest place, so that points that lie on one another keep their names."""
    x = min(max(point[0], box.x0), box.x1)
    y = min(max(point[1], box.y0), box.y1)
    ends = axes.transData.inverted().transform([point, (x, y)])
    axes.plot(ends[:, 0], ends[:, 1], color=colour, linewidth=1.4, zorder=3, scalex=False, scaley=False)
