"""Figures are the same bytes for the same records, and legible: no name covers another."""

from __future__ import annotations

import dataclasses
import itertools
import random

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation

from reports.curves import POINTS, curves, smoothed, thinned
from reports.figures import marks, png, svg
from reports.frontier import frontier
from reports.paths import paths_shown
from tests.reports.conftest import Loaded
from tests.reports.fake_run import CORE, Character, FakeRun


@pytest.mark.parametrize("draw", [frontier, curves])
def test_the_same_records_draw_the_same_bytes(loaded: Loaded, draw: object) -> None:
    assert callable(draw)
    run = loaded(FakeRun())
    first, second = draw(run), draw(run)
    assert svg(first) == svg(second)
    assert png(first) == png(second)


def test_the_frontier_shows_each_trials_way(loaded: Loaded) -> None:
    """A line in the trial's colour through every point of the table, the same bytes each time."""
    run = loaded(FakeRun(ways=True))
    lines = frontier(run).axes[0].lines
    for path in paths_shown(run):
        kls, values = [p.kl.value for p in path.points], [p.value.value for p in path.points]
        (line,) = (line for line in lines if (list(line.get_xdata()), list(line.get_ydata())) == (kls, values))
        assert line.get_color() == marks(run)[path.trial].colour
    assert svg(frontier(run)) == svg(frontier(run))


def test_a_way_by_another_metric_is_not_drawn(loaded: Loaded) -> None:
    """Where the judge decides and was not asked on the way, its axis bears no reward accuracy."""
    silent = tuple(dataclasses.replace(c, gold=None) for c in CORE)
    plain, drawn = (frontier(loaded(FakeRun(characters=silent, ways=ways))).axes[0].lines for ways in (False, True))
    assert len(drawn) == len(plain)


def test_a_way_from_far_off_does_not_squeeze_the_trials(loaded: Loaded) -> None:
    """It is cut at the edge."""
    run = loaded(FakeRun(ways=True))
    first, *_ = run.paths
    far = dataclasses.replace(first.points[0], kl=dataclasses.replace(first.points[0].kl, value=300.0))
    moved = [dataclasses.replace(path, points=(far, *path.points[1:])) for path in run.paths]
    assert frontier(dataclasses.replace(run, paths=tuple(moved))).axes[0].get_xlim()[1] < 20


def test_no_figure_carries_a_date_or_a_version(loaded: Loaded) -> None:
    figure = frontier(loaded(FakeRun()))
    assert b"<dc:date>" not in svg(figure)
    assert b"matplotlib.org/)" not in svg(figure)
    assert b"Matplotlib" not in png(figure)


@pytest.mark.parametrize("trials", [7, 14])
def test_names_on_the_frontier_do_not_overlap(loaded: Loaded, trials: int) -> None:
    draw = random.Random(trials)
    crowd = tuple(
        Character(recipe=f"dpo-beta{i}", gold=draw.uniform(0.55, 0.75), kl=draw.uniform(4, 8)) for i in range(trials)
    )
    figure = frontier(loaded(FakeRun(characters=crowd)))
    figure.draw_without_rendering()
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    labels = [text for text in figure.axes[0].texts if isinstance(text, Annotation)]
    boxes = [label.get_window_extent(canvas.get_renderer()) for label in labels]
    assert len(boxes) == trials + 1
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_a_trial_without_kl_is_left_out_of_the_frontier(loaded: Loaded) -> None:
    assert svg(frontier(loaded(FakeRun(characters=CORE[:2], drop=("kl_nats",)))))


def test_a_bench_without_preference_stages_still_has_curves(loaded: Loaded) -> None:
    assert png(curves(loaded(FakeRun(characters=CORE[:1]))))


def test_a_long_line_is_thinned_and_keeps_its_ends() -> None:
    """A run of ten thousand steps does not fill the page."""
    thin = thinned([float(i) for i in range(10_000)])
    assert len(thin) == POINTS
    assert (thin[0], thin[-1]) == (0.0, 9_999.0)
    assert thin == sorted(thin)


@pytest.mark.parametrize("trials", [12, 30])
def test_the_legend_of_the_curves_lies_within_the_figure(loaded: Loaded, trials: int) -> None:
    """Long names and many trials are cut off at no edge."""
    crowd = tuple(Character(recipe=f"dpo_beta=0.{i:02d}_reference=hard", gold=0.5 + i / 100) for i in range(trials))
    figure = curves(loaded(FakeRun(characters=crowd)))
    figure.draw_without_rendering()
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    box = figure.legends[0].get_window_extent(canvas.get_renderer())
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1


def test_thirty_trials_draw_a_figure_that_a_page_bears(loaded: Loaded) -> None:
    crowd = tuple(Character(recipe=f"dpo_beta=0.{i:02d}_reference=hard", kl=1 + i / 3) for i in range(30))
    run = loaded(FakeRun(characters=crowd))
    assert len(svg(frontier(run))) < 200_000
    assert len(svg(curves(run))) < 400_000


def test_a_smoothed_line_keeps_its_length_and_its_mean() -> None:
    assert smoothed((2.0,) * 40) == [2.0] * 40
    assert smoothed((1.0,)) == [1.0]
