"""The trials' paths through win rate and KL, in tables: what they score at the same KL, and every point."""

from __future__ import annotations

import dataclasses

from harness.records import RunRecord, TrialPath
from reports.deciding import best_first, deciding
from reports.glossary import in_sentence, term
from reports.numbers import MISSING, Cell, figure, score_cell
from reports.page import Table, table
from reports.text import counted, one_line
from reports.trials import display_name

NAMED = 12  # trials that a figure has room to name and to follow; more are numbered by rank in the table of scores
FALLBACK = "reward_accuracy"  # of paths whose deciding metric was not measured on the way


def paths_shown(run: RunRecord) -> tuple[TrialPath, ...]:
    """By the metric that decides where trials have it on the way, else by reward accuracy; the best trial first."""
    for metric in (deciding(run).metric, FALLBACK):
        found = {path.trial: path for path in run.paths if path.metric == metric}
        if found:
            names = [display_name(run, trial) for trial in best_first(run, metric)]
            return tuple(found[name] for name in names if name in found)
    return ()


def paths_drawn(run: RunRecord) -> tuple[TrialPath, ...]:
    """Those of the figure: by its own metric alone, and none where it would be a tangle."""
    decider = deciding(run).metric
    few = len(run.trials) <= NAMED
    return tuple(path for path in paths_shown(run) if path.metric == decider) if few else ()


def matched_table(run: RunRecord) -> Table:
    """What each trial scores where its path first reaches a KL; no rows where no two trials reach one."""
    paths = paths_shown(run)
    common = sorted({matched.kl_nats for path in paths for matched in path.matched})
    if not common:
        return table("", ("Recipe",), ())
    title = term(paths[0].metric).title
    rows = tuple((Cell(one_line(path.trial)), *(_cell(path, kl) for kl in common)) for path in paths)
    titles = ("Recipe", *(f"at {figure(kl, 'nats')} nats" for kl in common))
    few = min(point.kl.n for path in paths for point in path.points)
    note = (
        f"Between two checkpoints {in_sentence(paths[0].metric)} is interpolated. Those on the way were scored on "
        f"{counted(few, 'prompt')}, so the intervals are wide; they are of each trial alone, and no test of a "
        "difference. A dash: the trial's path does not pass that KL."
    )
    return table(f"{title} at the same KL to the anchor", titles, rows, note=note)


def _cell(path: TrialPath, kl: float) -> Cell:
    found = {matched.kl_nats: matched.value for matched in path.matched}
    return score_cell(found.get(kl))


def way_table(run: RunRecord) -> Table:
    """Every point of the figure's lines."""
    paths = paths_shown(run)
    title = term(paths[0].metric).title if paths else MISSING
    rows = tuple(
        (
            Cell(f"{one_line(path.trial)}, {point.spent:.0%} spent"),
            score_cell(point.kl),
            score_cell(point.value),
        )
        for path in paths
        for point in path.points
    )
    note = (
        "Of the last stage's budget. At 0% the anchor itself, at 100% the trial on all held-out prompts; between them "
        "few prompts, each value drawn towards the end's on all prompts by the share that is spent."
    )
    found = table(
        "On the way: every checkpoint between the anchor and the end",
        ("Checkpoint", term("kl_nats").title, title),
        rows,
    )
    return dataclasses.replace(found, note=note, folded=True)
