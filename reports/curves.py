"""Training curves: loss, margin and accuracy over the spent fraction of a stage; and where they end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from harness.records import RunRecord, TrainStep
from reports.deciding import best_first, deciding
from reports.figures import INK, PALE, Mark, blank, marks, styled, tidy
from reports.numbers import MISSING, Cell, figure
from reports.page import Table, table
from reports.text import one_line
from reports.trials import display_name

# A step sees a handful of pairs, so single steps are noise: a line is a mean over this share of the steps.
WINDOW = 0.15
POINTS = 200  # of a line: more cannot be seen, and a long run's figure would fill the page

FOLLOWED = 12  # trials whose lines can be told apart; of more, the best few are drawn and the rest are pale
BEST = 6
SHORT_NAME = 22  # characters: three such names stand side by side under the panels

_ANCHOR = Mark(INK, "o", "-")
_PALE = Mark(PALE, "o", "-")
_REST = "the others"
Value = Callable[[TrainStep], float | None]


def curves(run: RunRecord) -> Figure:
    """Four small multiples: SFT loss, preference loss, reward margins, reward accuracies."""
    plain, preference = _stages(run)
    looks = {"anchor": _ANCHOR, **_looks(run)}
    with styled():
        canvas = blank(9.0, 7.4, pad=0.1)
        panels = canvas.subplots(2, 2)
        _panel(panels[0, 0], "SFT loss, nats a token", plain, lambda step: step.loss, looks)
        _panel(panels[0, 1], "Preference loss", preference, lambda step: step.loss, looks)
        _panel(panels[1, 0], "Reward margin (beta × nats)", preference, lambda s: s.rewards_margins, looks)
        _panel(panels[1, 1], "Reward accuracy", preference, lambda s: s.rewards_accuracies, looks)
        panels[1, 1].yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        panels[1, 1].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        for panel in panels[1]:
            panel.set_xlabel("spent of the stage's budget")
        _legend(canvas, {name: look for name, look in looks.items() if name in plain or name in preference})
    return canvas


def _looks(run: RunRecord) -> dict[str, Mark]:
    """Each trial's mark; of many trials only the best keep theirs."""
    own = marks(run)
    if len(own) <= FOLLOWED:
        return own
    best = [display_name(run, trial) for trial in best_first(run, deciding(run).metric)[:BEST]]
    return {name: own[name] if name in best else _PALE for name in own}


def _stages(run: RunRecord) -> tuple[dict[str, list[TrainStep]], dict[str, list[TrainStep]]]:
    """Steps without and with preference rewards, by trial; the anchor's only once, as its own."""
    plain: dict[str, list[TrainStep]] = {"anchor": list(run.anchor_steps)} if run.anchor_steps else {}
    preference: dict[str, list[TrainStep]] = {}
    shared = set(run.anchor_steps)
    for trial in run.trials:
        name = display_name(run, trial)
        for step in trial.steps:
            if step.rewards_margins is not None:
                preference.setdefault(name, []).append(step)
            elif step not in shared:
                plain.setdefault(name, []).append(step)
    return plain, preference


def _panel(axes: Axes, title: str, stages: dict[str, list[TrainStep]], value: Value, looks: dict[str, Mark]) -> None:
    tidy(axes)
    axes.set_title(title, loc="left")
    for name, steps in sorted(stages.items(), key=lambda stage: looks[stage[0]] is not _PALE):  # the pale ones below
        points = [(step.spent, v) for step in steps if (v := value(step)) is not None]
        if points:
            spent, values = zip(*points, strict=True)
            mark = looks[name]
            axes.plot(thinned(spent), thinned(smoothed(values)), color=mark.colour, linestyle=mark.dash, linewidth=2.2)
    if not stages:
        axes.text(0.5, 0.5, "no such stage", transform=axes.transAxes, ha="center", va="center")
    axes.set_xlim(0, 1)
    axes.set_xticks((0, 0.25, 0.5, 0.75, 1))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def smoothed(values: tuple[float, ...]) -> list[float]:
    """The centred mean of neighbouring steps, over fewer of them at the ends."""
    half = round(WINDOW * len(values) / 2)
    windows = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def thinned(values: Sequence[float]) -> list[float]:
    """At most POINTS of the values, evenly spaced, the first and the last among them."""
    if len(values) <= POINTS:
        return list(values)
    return [values[round(i * (len(values) - 1) / (POINTS - 1))] for i in range(POINTS)]


def ends_table(run: RunRecord) -> Table:
    """The last point of every curve: the mean of the last steps of the trial's last stage."""
    rows = tuple((Cell(display_name(run, trial)), *_ends(trial.steps)) for trial in run.trials)
    titles = ("Recipe", "Steps", "Loss", "Reward margin", "Reward accuracy", "Gradient norm")
    return table("Where training ended", titles, rows, note="Means over the last steps of the last stage.")


def _ends(steps: tuple[TrainStep, ...]) -> tuple[Cell, ...]:
    last = [step for step in steps if step.stage == steps[-1].stage]
    values: tuple[tuple[Value, str], ...] = (
        (lambda step: step.loss, ""),
        (lambda step: step.rewards_margins, ""),
        (lambda step: step.rewards_accuracies, "share"),
        (lambda step: step.grad_norm, ""),
    )
    return (Cell(f"{len(last):,}"), *(_end(last, value, unit) for value, unit in values))


def _end(steps: list[TrainStep], value: Value, unit: str) -> Cell:
    known = tuple(v for step in steps if (v := value(step)) is not None)
    return Cell(figure(smoothed(known)[-1], unit) if known else MISSING)


def _legend(canvas: Figure, looks: dict[str, Mark]) -> None:
    """One legend for all panels, under them."""
    entries = {_REST if look is _PALE else one_line(name, 36): look for name, look in looks.items()}
    if not entries:
        return
    handles = [Line2D([], [], color=look.colour, linestyle=look.dash, linewidth=2.6) for look in entries.values()]
    columns = 3 if max(map(len, entries)) <= SHORT_NAME else 2
    canvas.legend(handles, list(entries), loc="outside lower center", ncols=columns, frameon=False, handlelength=3.2)
