"""Several runs as one: every trial once, under a name of its own, compared anew prompt by prompt."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from evals.conclusions import conclude, with_joint, without_joint
from evals.likeness import budget_words, notes, refuse_unlike
from evals.paths import make_paths
from harness.errors import HarnessError
from harness.records import BenchRecord, JoinedRun, JudgeCard, RunRecord, TrialRecord

T = TypeVar("T")


class _Found(NamedTuple):
    """A trial, the run that it was found in first, and what its recipe is called among the trials of all runs."""

    run: str
    trial: TrialRecord
    recipe: str


def join(runs: Mapping[str, RunRecord], command: str) -> RunRecord:
    """Run's name → run in; one run out, which `command` makes again. HarnessError where they cannot be compared.

    Trials and judges come in the order of the runs; of the judges, the first that qualifies decides.
    """
    refuse_unlike(runs)
    first, *_ = runs.values()
    found = _named(_in_order(_each_once(runs), runs))
    bench = _bench(runs, found, command)
    trials = tuple(_renamed(one) for one in found)
    scores = {trial.recipe if bench.seeds == 1 else trial.name: trial.scores for trial in trials}
    if len(scores) < len(trials):
        raise HarnessError(f"{_double(trials)} lies twice in that run: delete one of its two folders")
    anchor, cards = next((r.anchor_scores for r in runs.values() if r.anchor_scores is not None), None), _cards(runs)
    drawn = conclude(cards, scores, anchor)
    whole = with_joint(scores, drawn.joint)
    return dataclasses.replace(
        first,
        bench=bench,
        trials=tuple(dataclasses.replace(t, scores=whole[name]) for name, t in zip(scores, trials, strict=True)),
        anchor_scores=anchor,
        judges=cards,
        comparisons=drawn.comparisons,
        agreements=drawn.agreements,
        recipes=drawn.recipes,
        rankings=drawn.rankings,
        paths=make_paths(scores, {name: trial.waypoints for name, trial in zip(scores, trials, strict=True)}),
        unfinished=_unfinished(runs),
    )


def _each_once(runs: Mapping[str, RunRecord]) -> list[_Found]:
    """All trials; the same one in two runs is one, with what either run measured of it."""
    found: list[_Found] = []
    for name, run in runs.items():
        for trial in map(_alone, run.trials):
            place = next((i for i, other in enumerate(found) if _same(other.trial, trial)), None)
            if place is None:
                found.append(_Found(name, trial, trial.recipe))
            else:
                found[place] = found[place]._replace(trial=_merged(found[place].trial, trial))
    return found


def _alone(trial: TrialRecord) -> TrialRecord:
    return dataclasses.replace(trial, scores=without_joint(trial.scores))


def _same(a: TrialRecord, b: TrialRecord) -> bool:
    """One checkpoint of one recipe and seed, and every number that both have of it equal."""
    if (a.recipe, a.seed, _checkpoint(a)) != (b.recipe, b.seed, _checkpoint(b)):
        return False
    return _agree(a.scores.scores, b.scores.scores) and _agree(a.scores.per_prompt, b.scores.per_prompt)


def _checkpoint(trial: TrialRecord) -> str:
    return trial.ledger.stages[-1].digest


def _agree(mine: Mapping[str, object], theirs: Mapping[str, object]) -> bool:
    return all(mine[key] == theirs[key] for key in mine.keys() & theirs.keys())


def _merged(a: TrialRecord, b: TrialRecord) -> TrialRecord:
    """The first one, with the verdicts and scores of judges that only the second was asked of."""
    asked = {verdict.judge for verdict in a.verdicts}
    more = tuple(verdict for verdict in b.verdicts if verdict.judge not in asked)
    scores = dataclasses.replace(
        a.scores,
        scores=b.scores.scores | a.scores.scores,
        per_prompt=b.scores.per_prompt | a.scores.per_prompt,
    )
    return dataclasses.replace(a, verdicts=a.verdicts + more, scores=scores)


def _in_order(found: Sequence[_Found], runs: Mapping[str, RunRecord]) -> list[_Found]:
    """By recipe, as the runs have them, then by seed; of equal ones the earlier run's first."""
    rank = {recipe: place for place, recipe in enumerate(_all_of(run.bench.recipes for run in runs.values()))}
    return sorted(found, key=lambda f: (rank.get(f.recipe, len(rank)), f.recipe, f.trial.seed))


def _named(found: Sequence[_Found]) -> list[_Found]:
    """A recipe that two runs trained differently is called by its run too, in all its trials, so that none misleads."""
    names = [one.trial.name for one in found]
    twice = {one.recipe for one, name in zip(found, names, strict=True) if names.count(name) > 1}
    return [one._replace(recipe=_of_run(one.recipe, one.run)) if one.recipe in twice else one for one in found]


def _renamed(one: _Found) -> TrialRecord:
    scores = dataclasses.replace(one.trial.scores, recipe=one.recipe)
    return dataclasses.replace(one.trial, recipe=one.recipe, scores=scores)


def _of_run(name: str, run: str) -> str:
    return f"{name} ({run})"


def _unfinished(runs: Mapping[str, RunRecord]) -> tuple[str, ...]:
    """What no run has finished, with the run that began it or was to."""
    done = {name for run in runs.values() for trial in run.trials for name in (trial.recipe, trial.name)}
    return tuple(_of_run(t, name) for name, run in runs.items() for t in run.unfinished if t not in done)


def _double(trials: Sequence[TrialRecord]) -> str:
    names = [trial.name for trial in trials]
    return next(name for name in names if names.count(name) > 1)


def _cards(runs: Mapping[str, RunRecord]) -> tuple[JudgeCard, ...]:
    """Every judge once, by the first card of it."""
    cards: dict[str, JudgeCard] = {}
    for run in runs.values():
        for card in run.judges:
            cards.setdefault(card.name, card)
    return tuple(cards.values())


def _bench(runs: Mapping[str, RunRecord], found: Sequence[_Found], command: str) -> BenchRecord:
    """What was compared, all runs together."""
    benches = {name: run.bench for name, run in runs.items()}
    first, *_ = benches.values()
    seeds = [len({one.trial.seed for one in found}), *(bench.seeds for bench in benches.values())]
    return dataclasses.replace(
        _with_budget(first, tuple(benches.values())),
        judges=_all_of(bench.judges for bench in benches.values()),
        recipes=tuple(dict.fromkeys(one.recipe for one in found)),
        recipe_summaries=_about(found, {name: bench.recipe_summaries for name, bench in benches.items()}),
        recipe_knobs=_about(found, {name: bench.recipe_knobs for name, bench in benches.items()}),
        seeds=max(seeds),
        dtype=" and ".join(dict.fromkeys(bench.dtype for bench in benches.values())),
        digest="",
        memory="",  # of one machine on one day
        command=command,
        data_notes=_all_of(bench.data_notes for bench in benches.values()),
        failed={_of_run(trial, name): why for name, bench in benches.items() for trial, why in bench.failed.items()},
        runs=tuple(_origin(name, run) for name, run in runs.items()),
        run_notes=notes(runs),
    )


def _with_budget(first: BenchRecord, benches: tuple[BenchRecord, ...]) -> BenchRecord:
    """The budget that all have, or each in words; a rate is of one machine on one day, so it is left out."""
    if len({(bench.budget_flops, bench.budget_pairs) for bench in benches}) == 1:
        return dataclasses.replace(first, flops_per_second=None)
    words = " or ".join(dict.fromkeys(map(budget_words, benches)))
    return dataclasses.replace(first, budget=words, budget_flops=None, budget_pairs=None, flops_per_second=None)


def _about(found: Sequence[_Found], by_run: Mapping[str, Mapping[str, T]]) -> dict[str, T]:
    """What the runs say of each recipe, by its name here."""
    told = ((one.recipe, by_run[one.run].get(one.trial.recipe)) for one in found)
    return {recipe: words for recipe, words in told if words is not None}


def _all_of(lists: Iterator[tuple[str, ...]]) -> tuple[str, ...]:
    """Everything in any of them, once."""
    return tuple(dict.fromkeys(item for items in lists for item in items))


def _origin(name: str, run: RunRecord) -> JoinedRun:
    bench = run.bench
    return JoinedRun(
        name=name, digest=bench.digest, budget=budget_words(bench), dtype=bench.dtype, trials=len(run.trials)
    )
