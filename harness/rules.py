"""gate.toml: how much each metric may fall before a run is worse than its baseline."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import HarnessError
from harness.records import GateRule, judge_of
from harness.settings import first_fault

CONFIDENCE = 0.95
MARGIN = 0.05  # of the default rules, which are all on shares: five points
_LOWER = ("kl_nats", "k1_nats", "repetition", "truncated")
_HIGHER = (
    *("gold_win_rate", "correct", "reward_accuracy", "reward_margin_nats", "ranking_accuracy"),
    *("ranking_accuracy_per_token", "chosen_shift_nats", "distinct_2"),
)


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str
    margin: Annotated[float, Field(gt=0, allow_inf_nan=False)] | str
    better: Literal["higher", "lower"] | None = None
    recipes: tuple[str, ...] = ("*",)


class _RulesFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    confidence: Annotated[float, Field(ge=0.5, le=0.9999)] = CONFIDENCE
    rule: Annotated[tuple[_Rule, ...], Field(min_length=1)]


class Rules(BaseModel):
    """What a gate asks: its rules, and how sure it has to be over all of them."""

    model_config = ConfigDict(frozen=True)

    confidence: float
    rules: tuple[GateRule, ...]


def read_rules(path: Path, units: Mapping[str, str], recipes: Sequence[str]) -> Rules:
    """Read gate.toml; HarnessError names what is wrong. `units` is metric → unit, `recipes` what there is to check."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        file = _RulesFile.model_validate(tables)
    except FileNotFoundError as error:
        raise HarnessError(f"no file {path}: --rules takes a gate.toml with a [[rule]] for each metric") from error
    except ValidationError as error:
        raise HarnessError(f"{path}: {first_fault(error)}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise HarnessError(f"{path} cannot be read ({error}): --rules takes a gate.toml") from error
    return Rules(confidence=file.confidence, rules=tuple(_rule(path, rule, units, recipes) for rule in file.rule))


def default_rules(deciding: str, units: Mapping[str, str]) -> Rules:
    """What the baseline's answer rests on, correctness where it is checked, and reward accuracy: five points each."""
    metrics = dict.fromkeys((deciding, "correct", "reward_accuracy"))
    found = [name for name in metrics if name in units]
    rules = tuple(GateRule(metric=name, margin=MARGIN, better="higher") for name in found)
    return Rules(confidence=CONFIDENCE, rules=rules)


def _rule(path: Path, rule: _Rule, units: Mapping[str, str], recipes: Sequence[str]) -> GateRule:
    if rule.metric not in units:
        hint = _hint(rule.metric, sorted(units))
        raise HarnessError(f"{path}: no metric {rule.metric!r} is measured by prompt in either run: {hint}")
    better = rule.better or _direction(rule.metric)
    if better is None:
        raise HarnessError(
            f'{path}: whether more of {rule.metric} is better depends on you: add better = "higher" or "lower"'
        )
    for glob in rule.recipes:
        if not any(fnmatchcase(recipe, glob) for recipe in recipes):
            raise HarnessError(f"{path}: no recipe here matches {glob!r}: {_hint(glob, recipes)}")
    margin = _margin(path, rule, units[rule.metric])
    return GateRule(metric=rule.metric, margin=margin, better=better, recipes=rule.recipes)


def _margin(path: Path, rule: _Rule, unit: str) -> float:
    """In the metric's unit; of a share it may be written in points, as "5pp"."""
    if isinstance(rule.margin, str):
        points = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*pp\s*", rule.margin)
        if points is None or unit != "share" or not 0 < float(points[1]) < 100:
            like = 'a number, or points such as "5pp"' if unit == "share" else f"a number, in {unit or 'its unit'}"
            raise HarnessError(f"{path}: a margin of {rule.margin!r} for {rule.metric}: it is {like}")
        return float(points[1]) / 100
    if unit == "share" and rule.margin >= 1:
        raise HarnessError(
            f"{path}: {rule.metric} is a share, and a margin of {rule.margin:g} is {100 * rule.margin:g} points: "
            f'write "{rule.margin:g}pp" for points'
        )
    return rule.margin


def _hint(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, 1, 0.5)
    return f"did you mean {close[0]!r}?" if close else f"these are: {', '.join(known)}"


def _direction(metric: str) -> str | None:
    if metric in _HIGHER or judge_of(metric) is not None:
        return "higher"
    return "lower" if metric in _LOWER else None
