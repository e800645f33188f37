"""Tables of paired differences: every pair on the deciding metric, and the contrasts that readers ask for."""

from __future__ import annotations

import re
from itertools import groupby

from harness.records import Comparison, RunRecord
from reports.deciding import deciding, ranked
from reports.glossary import term
from reports.numbers import MISSING, Cell, comparison_cell, p_cell
from reports.page import Table, table
from reports.trials import comparison, display_name, told_apart, unit

WIDEST = 12  # columns that a page bears; report.json has every pair
BETTER, WORSE = "▲", "▼"  # that the row is told apart from the column


def matrix_table(run: RunRecord) -> Table:
    """Every pair of the best trials: row minus column, in bold where they can be told apart."""
    metric = deciding(run).metric
    names = [display_name(run, trial) for trial, _ in ranked(run, metric)[:WIDEST]]
    rows = tuple((Cell(a), *(_difference(run, a, b, metric) for b in names)) for a in names)
    points = " in points" if unit(run, metric) == "share" else ""
    return table(
        f"{term(metric).title}{points}: row minus column, best first",
        ("", *names),
        rows,
        note=f"{BETTER} the row is higher, {WORSE} lower, with p < 0.05 after Holm's correction over all pairs; "
        f"unmarked: cannot be told apart.{_left_out(run)}",
        pairs=True,
    )


def _left_out(run: RunRecord) -> str:
    return f" The best {WIDEST} are shown; report.json has every pair." if len(run.trials) > WIDEST else ""


def _difference(run: RunRecord, a: str, b: str, metric: str) -> Cell:
    found = comparison(run, a, b, metric) if a != b else None
    if found is None:
        return Cell("·" if a == b else MISSING)
    number = comparison_cell(found, unit(run, metric)).value.partition(" ")[0]
    apart = told_apart(found)
    mark = f" {BETTER if found.difference > 0 else WORSE}" if apart else ""
    return Cell(f"{number}{mark}", strong=apart, order=found.difference)


def contrasts_of_interest(run: RunRecord) -> Table:
    """The best against each other one on the deciding metric, and the extremes of a knob on KL."""
    metric = deciding(run).metric
    names = [display_name(run, trial) for trial, _ in ranked(run, metric)]
    pairs = [(names[0], other, metric) for other in names[1:]] if names else []
    ends = [(a, b, kind) for a, b in extremes(names) for kind in ("kl_nats", metric)]
    found = [comparison(run, *wanted) for wanted in dict.fromkeys([*ends, *pairs])]
    rows = tuple(_contrast(run, c) for c in found if c is not None)
    titles = ("First", "Second", "Metric", "First − second", "p", "p, Holm", "Told apart")
    note = "Paired by prompt: both answered the same ones. Holm's correction is over all pairs of trials."
    return table("Paired differences", titles, rows, note=note)


def _contrast(run: RunRecord, c: Comparison) -> tuple[Cell, ...]:
    apart = told_apart(c)
    return (
        Cell(c.a),
        Cell(c.b),
        Cell(term(c.metric).title),
        comparison_cell(c, unit(run, c.metric)),
        p_cell(c.p),
        p_cell(c.p_holm),
        Cell("yes" if apart else "no", strong=apart),
    )


def extremes(names: list[str]) -> list[tuple[str, str]]:
    """Of recipes that differ in beta alone, the smallest and the largest: KL should fall between them."""
    found = [
        ((match[1], match[3]), float(match[2]), name)
        for name in names
        if (match := re.fullmatch(r"(.*?)beta=?(\d+(?:\.\d+)?)(.*)", name))
    ]
    families = (list(family) for _, family in groupby(sorted(found), key=lambda entry: entry[0]))
    return [(family[0][2], family[-1][2]) for family in families if len(family) > 1]
