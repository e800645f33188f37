"""From what `--log` says to a logger. Built-ins and strangers' come by one road, the entry points `harness.loggers`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import cast

from harness.errors import HarnessError
from harness.loggers.logger import Logger

GROUP = "harness.loggers"
KNOWN = ("tensorboard[:DIR]", "wandb[:PROJECT]", "trackio[:PROJECT]", "mlflow[:EXPERIMENT]")
BUILT_IN = {name.partition("[")[0] for name in KNOWN}
_PROMISED = ("start", "step", "scores", "finish")


def make_loggers(specs: Sequence[str], folder: Path) -> dict[str, Logger]:
    """The loggers that were asked for, by spec, each once. HarnessError where one cannot work, before the run begins.

    `folder` is the run's own.
    """
    return {spec: _make(spec, folder) for spec in dict.fromkeys(specs)}


def _make(spec: str, folder: Path) -> Logger:
    kind, colon, detail = spec.partition(":")
    if colon and not detail:
        raise HarnessError(f"--log {spec} names nothing behind its colon: leave the colon out, or name it")
    point = _point(kind)
    try:
        logger = point.load()(detail or None, folder)
    except HarnessError:
        raise
    except (Exception, SystemExit) as error:  # a stranger's code, or a library, may fail in any way
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise HarnessError(f"--log {spec} cannot be made ({reason}): mend it, or leave it out") from error
    if missing := [name for name in _PROMISED if not callable(getattr(logger, name, None))]:
        raise HarnessError(
            f"--log {spec} from {point.value} has no {missing[0]}(): it is to be a harness.loggers.logger.Logger"
        )
    return cast("Logger", logger)


def _point(kind: str) -> EntryPoint:
    """The one entry point of this name, not yet imported."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, {})[point.value] = point  # a package may be listed twice and be one all the same
    if kind not in found and kind in BUILT_IN:
        raise HarnessError(f"--log {kind} is not among this installation's entry points: pip install prefbench again")
    if kind not in found:
        known = [*KNOWN, *sorted(set(found) - BUILT_IN)]
        close = difflib.get_close_matches(kind, [*BUILT_IN, *found], 1, 0.5)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise HarnessError(f"--log {kind!r} is no logger: {hint}known are {', '.join(known)}")
    if len(found[kind]) > 1:
        both = " and ".join(sorted(found[kind]))
        raise HarnessError(f"--log {kind!r} is installed twice, as {both}: remove one of the packages")
    return next(iter(found[kind].values()))
