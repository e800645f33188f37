"""Which recipes there are, and how a name on the command line becomes a plan.

Built-ins and strangers' recipes come by one road, the entry-point group `harness.recipes`. The built-ins' names, groups
and summaries stand in a table here, so that listing them does not import torch.
"""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import math
import re
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from harness import store
from harness.errors import HarnessError
from harness.recipes.recipe import Recipe, Reference, Stage

GROUP = "harness.recipes"
SEE = "See: python -m harness recipes"
LONGEST_LABEL = 100  # characters: it names a folder


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A recipe with some knobs set, under a name of its own."""

    recipe: str
    knobs: dict[str, str]
    summary: str
    groups: tuple[str, ...] = ("core",)


VARIANTS = {
    "sft": Variant(recipe="sft", knobs={}, summary="SFT only, on the whole budget: what preference tuning has to beat"),
    **{
        f"dpo-beta{beta}": Variant(
            recipe="dpo", knobs={"beta": beta}, summary=f"DPO from the anchor, beta {beta}, frozen reference"
        )
        for beta in ("0.05", "0.1", "0.3", "0.5")
    },
    "dpo-soft-reference": Variant(
        recipe="dpo", knobs={"reference": "soft"}, summary="DPO, beta 0.1, the reference follows the policy softly"
    ),
    "dpo-hard-reference": Variant(
        recipe="dpo", knobs={"reference": "hard"}, summary="DPO, beta 0.1, the reference jumps to the policy at times"
    ),
}
GROUPS = {group for variant in VARIANTS.values() for group in variant.groups}
SUMMARIES = {
    "sft": "supervised fine-tuning on the chosen responses",
    "dpo": "direct preference optimisation (arXiv:2305.18290), frozen or moving reference (arXiv:2404.09656)",
}
KNOBS = {  # of the built-ins, with their defaults, so that listing them does not import torch
    "sft": "learning_rate=0.0001",
    "dpo": "beta=0.1 reference=frozen|soft|hard half_life=0.25 period=0.25 learning_rate=5e-05",
}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One recipe as chosen for a bench: its name there and its resolved stages."""

    name: str  # "dpo-beta0.1", or "dpo_beta=0.2_reference=soft"
    spec: str  # what reproduces it on the command line
    summary: str
    knobs: dict[str, str]  # every one as it is set, the defaults too
    stages: tuple[Stage, ...]


def families() -> dict[str, EntryPoint]:
    """Every recipe that is installed, by name, not yet imported."""
    return {point.name: point for point in entry_points(group=GROUP)}


def choose(asked: Sequence[str]) -> tuple[Choice, ...]:
    """The recipes that `all`, groups, names, globs and specs with knobs mean, in order and each once."""
    specs = [spec for item in asked for name in item.split(",") if name.strip() for spec in _expand(name.strip())]
    if not specs:
        raise HarnessError(f"no recipe was named: --recipes all, a group such as core, or names. {SEE}")
    choices: dict[str, Choice] = {}
    for spec in specs:
        choice = _choose(spec)
        choices.setdefault(choice.name, choice)
    return tuple(choices.values())


def _expand(asked: str) -> list[str]:
    """Groups and globs to specs."""
    names = {*VARIANTS, *(set(families()) - {v.recipe for v in VARIANTS.values()})}
    if asked == "all":
        return [*VARIANTS, *sorted(names - set(VARIANTS))]
    if asked in GROUPS:
        return [name for name, variant in VARIANTS.items() if asked in variant.groups]
    if any(sign in asked for sign in "*?["):
        found = [name for name in [*VARIANTS, *sorted(names - set(VARIANTS))] if fnmatch.fnmatchcase(name, asked)]
        if not found:
            raise HarnessError(f"no recipe matches {asked!r}. {SEE}")
        return found
    return [asked]


def _choose(spec: str) -> Choice:
    name, *settings = spec.split(":")
    if settings and (name == "all" or name in GROUPS):
        raise HarnessError(f"{name!r} is a group, and knobs are a recipe's: name one before {settings[0]!r}. {SEE}")
    variant = VARIANTS.get(name)
    point = families().get(variant.recipe if variant else name)
    if point is None:
        raise HarnessError(_unknown(name))
    recipe = _load(point)
    pairs = [_setting(text, recipe) for text in settings]
    given = dict(pairs)
    if len(given) < len(pairs):
        raise HarnessError(f"recipe {spec!r} sets a knob twice: give each once")
    knobs = _knobs(recipe, {**(variant.knobs if variant else {}), **given})
    label = _label(name, recipe, knobs, given)
    summary = VARIANTS[label].summary if label in VARIANTS else SUMMARIES.get(recipe.name, f"from {point.value}")
    set_to = {field.name: str(getattr(knobs, field.name)) for field in dataclasses.fields(knobs)}
    return Choice(name=label, spec=spec, summary=summary, knobs=set_to, stages=_stages(recipe, knobs, point))


def _load(point: EntryPoint) -> Recipe:
    try:
        recipe = point.load()
    except (Exception, SystemExit) as error:  # a stranger's module may fail in any way
        reason = " ".join(str(error).split())
        raise HarnessError(f"recipe {point.name!r} from {point.value} cannot be imported: {reason}") from error
    if not isinstance(recipe, Recipe):
        raise HarnessError(f"recipe {point.name!r} from {point.value} is no harness.recipes.recipe.Recipe: {recipe!r}")
    return recipe


def _stages(recipe: Recipe, knobs: Any, point: EntryPoint) -> tuple[Stage, ...]:
    try:
        stages = tuple(recipe.plan(knobs))
    except (Exception, SystemExit) as error:  # as above: a stranger's plan
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise HarnessError(f"recipe {recipe.name!r} from {point.value} cannot be planned: {reason}") from error
    if not stages:
        raise HarnessError(f"recipe {recipe.name!r} from {point.value} plans no stage: it needs one at least")
    for stage in stages:
        _check(stage, recipe, point)
    shares = [stage.share for stage in stages]
    if min(shares) <= 0 or sum(shares) > 1 + 1e-9:
        raise HarnessError(
            f"recipe {recipe.name!r} from {point.value} plans shares {shares} of its budget: each has to be above 0, "
            "and all together 1 at most"
        )
    return stages


def _check(stage: Any, recipe: Recipe, point: EntryPoint) -> None:
    """HarnessError where a stranger's stage is none, or holds what no trainer can use."""
    if not isinstance(stage, Stage):
        raise HarnessError(f"recipe {recipe.name!r} from {point.value} plans {stage!r}, which is no Stage")
    kinds = typing.get_args(typing.get_type_hints(Reference)["kind"])
    if stage.reference.kind not in kinds:
        raise HarnessError(f"recipe {recipe.name!r} has a reference {stage.reference.kind!r}: it is one of {kinds}")
    numbers = {
        "share": stage.share,
        "learning_rate": stage.learning_rate,
        "half_life": stage.reference.half_life,
        "period": stage.reference.period,
    }
    for name, value in numbers.items():
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            whose = f"recipe {recipe.name!r} from {point.value}"
            raise HarnessError(f"{whose} plans a {name} of {value!r}: it must be above 0")


def _unknown(name: str) -> str:
    known = [*VARIANTS, *families(), "all", "core"]
    close = difflib.get_close_matches(name, known, 1, 0.6)
    hint = f": did you mean {close[0]!r}?" if close else "."
    return f"no recipe named {name!r}{hint} {SEE}"


def _setting(text: str, recipe: Recipe) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    names = [field.name for field in dataclasses.fields(recipe.knobs)]
    if not names:
        raise HarnessError(f"recipe {recipe.name!r} has no knobs: name it without {text!r}")
    if not equals or not value:
        raise HarnessError(f"knob {text!r} of {recipe.name} has no value: write it as {recipe.name}:{names[0]}=VALUE")
    if name not in names:
        close = difflib.get_close_matches(name, names, 1, 0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"its knobs are {', '.join(names)}"
        raise HarnessError(f"recipe {recipe.name!r} has no knob {name!r}: {hint}")
    return name, value.strip()


def _knobs(recipe: Recipe, given: dict[str, str]) -> Any:
    """The recipe's knobs with the given ones converted to their types and checked."""
    hints = typing.get_type_hints(recipe.knobs)
    converted = {name: _convert(recipe, name, hints[name], text) for name, text in given.items()}
    try:
        return recipe.knobs(**converted)
    except (TypeError, ValueError) as error:  # the recipe's own word on what its knobs may be
        raise HarnessError(f"recipe {recipe.name!r} cannot be set so: {error}") from error


def _convert(recipe: Recipe, name: str, hint: Any, text: str) -> Any:
    if typing.get_origin(hint) is typing.Literal:
        if text not in typing.get_args(hint):
            allowed = ", ".join(typing.get_args(hint))
            raise HarnessError(f"knob {name}={text} of {recipe.name}: it is one of {allowed}")
        return text
    if hint is str:
        return text
    if hint is bool:
        if text.lower() not in ("true", "false"):
            raise HarnessError(f"knob {name}={text} of {recipe.name}: it is one of true, false")
        return text.lower() == "true"
    try:
        value = hint(text)
    except (TypeError, ValueError) as error:
        kind = getattr(hint, "__name__", str(hint))
        raise HarnessError(f"knob {name}={text} of {recipe.name}: it is no {kind}") from error
    if isinstance(value, float) and not math.isfinite(value):
        raise HarnessError(f"knob {name}={text} of {recipe.name}: it must be a finite number")
    return value


def _label(name: str, recipe: Recipe, knobs: Any, given: dict[str, str]) -> str:
    """A named variant where the knobs are its knobs, else the recipe and what was set; safe as a folder's name."""
    for known, variant in VARIANTS.items():
        if variant.recipe == recipe.name and _knobs(recipe, variant.knobs) == knobs:
            return known
    label = "_".join([name, *(f"{knob}={getattr(knobs, knob)}" for knob in sorted(given))])  # 0.20 is 0.2
    label = re.sub(r"[^\w.=+-]", "-", label)
    return label if len(label) <= LONGEST_LABEL else f"{label[:LONGEST_LABEL]}-{store.digest(label)[:6]}"
