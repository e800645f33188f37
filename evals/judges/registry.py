"""From what `--judge` says to a judge: `probe`, `lm:SRC`, and what packages bring by the entry-point group.

Built-ins and strangers' judges come by one road, `harness.judges`: a name, and a function that makes the judge of what
stands behind the colon (None where nothing does). Only those that share the bench's model are made by the caller.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points

from evals.judges.protocol import Judge
from evals.judges.stranger import Make, load_judge
from harness.errors import HarnessError

GROUP = "harness.judges"
KNOWN = ("probe", "lm:SRC", "ollama:MODEL", "openai:BASE_URL#MODEL", "rule:length", "rule:gold")
BUILT_IN = {name.partition(":")[0] for name in KNOWN}


def make_judge(spec: str, *, own: Mapping[str, Make]) -> Judge:
    """The judge that a spec names; `own` makes the kinds that the caller has the models for, `probe` and `lm`."""
    kind, _, detail = spec.partition(":")
    if kind in own:
        return own[kind](detail or None)
    points = kinds()
    if kind not in points and kind in BUILT_IN:
        raise HarnessError(f"judge {spec!r} is not among this installation's entry points: pip install it again")
    if kind not in points:
        raise HarnessError(f"no judge named {spec!r}: {_suggestion(spec, [*own, *points])}")
    if len(points[kind]) > 1:
        both = " and ".join(sorted(point.value for point in points[kind]))
        raise HarnessError(f"judge {kind!r} is installed twice, as {both}: remove one of the packages")
    return load_judge(points[kind][0], spec, detail or None)


def kinds() -> dict[str, list[EntryPoint]]:
    """Every kind of judge that is installed, not yet imported; more than one entry where packages quarrel over it."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, {})[point.value] = point  # a package may be listed twice and be one all the same
    return {name: list(by_value.values()) for name, by_value in found.items()}


def _suggestion(spec: str, installed: list[str]) -> str:
    known = [*KNOWN, *sorted(set(installed) - BUILT_IN)]
    near = difflib.get_close_matches
    close = near(spec, known, n=1) or near(spec.partition(":")[0], [*installed, *known], n=1)
    return f"{f'did you mean {close[0]!r}? ' if close else ''}known are {', '.join(known)}"
