"""gate.toml: how much each metric may fall before a run is worse than its baseline."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from harness.errors import HarnessError
from harness.records import GateRule, judge_of

CONFIDENCE = 0.95
MARGIN = 0.05  # of the default rules, which are all on shares: five points
_LOWER = ("kl_nats", "k1_nats", "repetition", "truncated")
_HIGHER = (
    *("gold_win_rate", "correct", "reward_accuracy", "reward_margin_nats", "ranking_accuracy"),
    *("ranking_accuracy_per_token", "chosen_shift_nats", "distinct_2"),
)


def _read_margin(value: Any) -> Any:
    """Points of a share may be written as such: "5pp"."""
    points = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*pp\s*", value) if isinstance(value, str) else None
    return float(points[1]) / 100 if points else value


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str
    margin: Annotated[float, BeforeValidator(_read_margin), Field(gt=0, allow_inf_nan=False)]
    better: Literal["higher", "lower"] | None = None
    recipes: tuple[str, ...] = ("*",)


class _RulesFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    confidence: Annotated[float, Field(gt=0, lt=1)] = CONFIDENCE
    rule: Annotated[tuple[_Rule, ...], Field(min_length=1)]


class Rules(BaseModel):
    """What a gate asks: its rules, and how sure it has to be over all of them."""

    model_config = ConfigDict(frozen=True)

    confidence: float
    rules: tuple[GateRule, ...]


def read_rules(path: Path, measured: Collection[str]) -> Rules:
    """Read gate.toml; HarnessError names what is wrong. `measured` are the metrics that the two runs have."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        file = _RulesFile.model_validate(tables)
    except FileNotFoundError as error:
        raise HarnessError(f"no file {path}: --rules takes a gate.toml with a [[rule]] for each metric") from error
    except ValidationError as error:
        raise HarnessError(f"{path}: {_first(error)}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise HarnessError(f"{path} cannot be read ({error}): --rules takes a gate.toml") from error
    return Rules(confidence=file.confidence, rules=tuple(_rule(path, rule, measured) for rule in file.rule))


def default_rules(deciding: str, measured: Collection[str]) -> Rules:
    """What the baseline's answer rests on, correctness where it is checked, and reward accuracy: five points each."""
    metrics = dict.fromkeys((deciding, "correct", "reward_accuracy"))
    found = [name for name in metrics if name in measured]
    rules = tuple(GateRule(metric=name, margin=MARGIN, better="higher") for name in found)
    return Rules(confidence=CONFIDENCE, rules=rules)


def _rule(path: Path, rule: _Rule, measured: Collection[str]) -> GateRule:
    if rule.metric not in measured:
        close = difflib.get_close_matches(rule.metric, sorted(measured), 1, 0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"these are: {', '.join(sorted(measured))}"
        raise HarnessError(f"{path}: no metric {rule.metric!r} is measured by prompt in either run: {hint}")
    better = rule.better or _direction(rule.metric)
    if better is None:
        raise HarnessError(
            f'{path}: whether more of {rule.metric} is better depends on you: add better = "higher" or "lower"'
        )
    return GateRule(metric=rule.metric, margin=rule.margin, better=better, recipes=rule.recipes)


def _direction(metric: str) -> str | None:
    if metric in _HIGHER or judge_of(metric) is not None:
        return "higher"
    return "lower" if metric in _LOWER else None


def _first(error: ValidationError) -> str:
    found = error.errors()[0]
    name = ".".join(str(part) for part in found["loc"])
    value = "" if found["type"] == "missing" else f" {found['input']!r}"
    return f"{name}{value}: {found['msg'][:1].lower()}{found['msg'][1:]}"
