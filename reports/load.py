"""From a run's folder to one `RunRecord`: the only place in `reports` that reads files."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from harness.errors import HarnessError
from harness.plain import on_one_line
from harness.records import (
    Agreement,
    BenchRecord,
    Comparison,
    Completion,
    HeldOutPrompt,
    JointScores,
    JudgeCard,
    Ledger,
    Look,
    PairLogp,
    Ranking,
    RunRecord,
    Sample,
    TrainStep,
    TrialPath,
    TrialRecord,
    TrialScores,
    Verdict,
    Waypoint,
)
from harness.store import read_json, read_jsonl
from reports.text import listed

R = TypeVar("R")


def load_run(folder: Path) -> RunRecord:
    """Read all that a report needs; trials without scores.json are left out and named in `unfinished`."""
    if not (folder / "record.json").is_file():
        raise HarnessError(f"{folder} holds no run (no record.json): give the folder that `run --out` made")
    bench = read_json(folder / "record.json", BenchRecord)
    joint = _optional(folder / "joint.json", tuple[JointScores, ...]) or ()
    trials = tuple(_with_joint(trial, bench, joint) for trial in _trials(folder, bench))
    anchor = folder / "anchor"
    return RunRecord(
        bench=bench,
        anchor_completions=read_jsonl(anchor / "completions.jsonl", Completion),
        anchor_steps=read_jsonl(anchor / "train.jsonl", TrainStep),
        anchor_scores=_optional(anchor / "scores.json", TrialScores),
        trials=trials,
        judges=_judges(folder, bench),
        comparisons=_optional(folder / "comparisons.json", tuple[Comparison, ...]) or (),
        agreements=_optional(folder / "agreements.json", tuple[Agreement, ...]) or (),
        prompts=read_jsonl(folder / "prompts.jsonl", HeldOutPrompt),
        recipes=_optional(folder / "recipes.json", tuple[TrialScores, ...]) or (),
        looks=_optional(folder / "looks.json", tuple[Look, ...]) or (),
        rankings=_optional(folder / "rankings.json", tuple[Ranking, ...]) or (),
        paths=_optional(folder / "paths.json", tuple[TrialPath, ...]) or (),
        unfinished=_unfinished(folder, bench, trials),
    )


def load_runs(folders: Sequence[Path]) -> dict[str, RunRecord]:
    """Several runs by the names of their folders; by their paths from where all lie, where two names are the same."""
    whole = [folder.resolve() for folder in folders]
    twice = next((folder for folder, path in zip(folders, whole, strict=True) if whole.count(path) > 1), None)
    if twice is not None:
        raise HarnessError(f"{twice} is given twice: name each run once")
    return {name: load_run(folder) for name, folder in zip(_names(whole), folders, strict=True)}


def _names(paths: Sequence[Path]) -> list[str]:
    above = os.path.commonpath([path.parent for path in paths])
    for seen in ([path.name for path in paths], [path.relative_to(above).as_posix() for path in paths]):
        names = [on_one_line(name) for name in seen]
        if len(set(names)) == len(paths):
            return names
    raise HarnessError(f"{listed(names)} look the same: rename one of the folders")


def _optional(path: Path, kind: type[R]) -> R | None:
    return read_json(path, kind) if path.is_file() else None


def _trials(folder: Path, bench: BenchRecord) -> tuple[TrialRecord, ...]:
    done = (_trial(path.parent) for path in (folder / "trials").glob("*/scores.json"))
    rank = {recipe: place for place, recipe in enumerate(bench.recipes)}
    return tuple(sorted(done, key=lambda t: (rank.get(t.recipe, len(rank)), t.recipe, t.seed)))


def _trial(folder: Path) -> TrialRecord:
    scores = read_json(folder / "scores.json", TrialScores)
    return TrialRecord(
        recipe=scores.recipe,
        seed=scores.seed,
        steps=read_jsonl(folder / "train.jsonl", TrainStep),
        ledger=read_json(folder / "ledger.json", Ledger),
        completions=read_jsonl(folder / "completions.jsonl", Completion),
        samples=read_jsonl(folder / "samples.jsonl", Sample),
        pairs=read_jsonl(folder / "pairs.jsonl", PairLogp),
        verdicts=tuple(v for v in read_jsonl(folder / "verdicts.jsonl", Verdict) if v.against == "anchor"),
        scores=scores,
        waypoints=_waypoints(folder / "waypoints.jsonl"),
    )


def _with_joint(trial: TrialRecord, bench: BenchRecord, joint: Sequence[JointScores]) -> TrialRecord:
    """The trial with the scores that it has in common with the others."""
    name = trial.recipe if bench.seeds == 1 else trial.name
    more = next((found.scores for found in joint if found.trial == name), {})
    return dataclasses.replace(trial, scores=dataclasses.replace(trial.scores, scores=trial.scores.scores | more))


def _waypoints(path: Path) -> tuple[Waypoint, ...]:
    """None where the run is from before they were measured."""
    return read_jsonl(path, Waypoint) if path.is_file() else ()


def _judges(folder: Path, bench: BenchRecord) -> tuple[JudgeCard, ...]:
    cards = [read_json(path, JudgeCard) for path in sorted((folder / "judges").glob("*.json"))]
    missing = set(bench.judges) - {card.name for card in cards}
    if missing and any((folder / "trials").glob("*/scores.json")):
        raise HarnessError(f"{folder} has no card of judge {min(missing)!r}: run the same command again to make it")
    rank = {name: place for place, name in enumerate(bench.judges)}
    return tuple(sorted(cards, key=lambda card: (rank.get(card.name, len(rank)), card.name)))


def _unfinished(folder: Path, bench: BenchRecord, trials: tuple[TrialRecord, ...]) -> tuple[str, ...]:
    """Trials with a folder but no scores, and recipes asked for that have neither a trial nor an error."""
    begun = {path.name for path in (folder / "trials").glob("*@*") if not (path / "scores.json").is_file()}
    known = {trial.recipe for trial in trials} | {_recipe(name) for name in (*begun, *bench.failed)}
    never = (recipe for recipe in bench.recipes if recipe not in known)
    return (*sorted(begun - set(bench.failed)), *never)


def _recipe(trial: str) -> str:
    return trial.rpartition("@")[0] or trial
