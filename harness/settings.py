"""bench.toml: what a bench asks for, and what that was resolved to on the machine that began it."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from harness import store
from harness.errors import HarnessError
from models.hub import SHORT_NAMES

M = TypeVar("M", bound=BaseModel)
_ABOVE_ZERO = Field(gt=0, allow_inf_nan=False)
# Models and data that no path of the same name can hide.
NAMES = ("smollm2-135m", *SHORT_NAMES, "courtesy", "rasbt", "rasbt-instructions")

_LATER = ("columns", "adapter")  # of Asked: each empty where it is not asked
_MACHINE = {"memory"}  # of Asked: how a machine carries a bench out, which changes its numbers by rounding at most


class Asked(BaseModel):
    """What a user can ask for: the flags of `run`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = "smollm2-135m"
    data: str = "courtesy"
    template: str = "auto"
    columns: tuple[str, ...] = ()  # "chosen=accepted": which of the data's columns holds what
    adapter: str = ""  # "lora:r=16": what is trained beside frozen weights; all weights are, where it is empty
    recipes: tuple[str, ...] = ("core",)
    budget: str = "60s"
    seeds: int = Field(default=1, ge=1, le=1000)
    first_seed: int = Field(default=0, ge=0, le=1_000_000)
    judges: tuple[str, ...] = ("probe",)
    eval_prompts: int = Field(default=128, ge=2)
    precision: str = ""  # "3pp": prompts are added until the main contrast is known to that many points either way
    max_new_tokens: int = Field(default=64, ge=1)
    batch_pairs: int = Field(default=16, ge=1, le=65_536)
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    memory: str = "auto"  # "6GB": what the run may take of the machine

    @property
    def question(self) -> dict[str, Any]:
        """What the numbers hang on."""
        return self.model_dump(exclude=_MACHINE)

    @field_validator("judges")
    @classmethod
    def _each_once(cls, judges: tuple[str, ...]) -> tuple[str, ...]:
        """A judge given twice is one judge: its verdicts do not count double."""
        return tuple(dict.fromkeys(judges))


class Resolved(BaseModel):
    """What makes a run reproducible: the budget in FLOPs, contents by digest, and how numbers were computed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipes: tuple[str, ...]  # `all` and globs as what they meant: a recipe installed later does not join
    model_digest: str
    data_digest: str
    judges: tuple[str, ...]  # what each one is, with its model's digest
    budget_flops: Annotated[float, _ABOVE_ZERO] | None = None
    budget_pairs: Annotated[int, _ABOVE_ZERO] | None = None
    flops_per_second: Annotated[float, _ABOVE_ZERO] | None = None
    flops_per_byte: Annotated[float, _ABOVE_ZERO]
    dtype: Literal["float32", "bfloat16"]
    threads: int = Field(ge=1, le=1024)
    micro_batch_tokens: int = Field(ge=1)

    @model_validator(mode="after")
    def _one_budget(self) -> Resolved:
        if (self.budget_flops is None) == (self.budget_pairs is None):
            raise ValueError("exactly one of budget_flops and budget_pairs has to be given")
        return self


class BenchFile(BaseModel):
    """The whole of bench.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    asked: Asked
    resolved: Resolved | None = None

    @property
    def recipes(self) -> tuple[str, ...]:
        """As they were resolved, else as they were asked for."""
        return self.resolved.recipes if self.resolved else self.asked.recipes

    @property
    def seeds(self) -> range:
        """Of every recipe's trials."""
        return range(self.asked.first_seed, self.asked.first_seed + self.asked.seeds)

    @property
    def digest(self) -> str:
        """Of everything in it that its numbers hang on."""
        return store.digest(self.model_dump(mode="json", exclude={"asked": _MACHINE}))

    def asking(self, wanted: Asked) -> BenchFile:
        """The bench of `wanted`: this one as it was resolved, where that asks the same question."""
        return BenchFile(asked=wanted, resolved=self.resolved if wanted.question == self.asked.question else None)

    def write(self, path: Path) -> None:
        """Write it as TOML, atomically. What is None is left out, as TOML has no word for it."""
        resolved = self.resolved.model_dump(mode="json", exclude_none=True) if self.resolved else None
        tables = {"asked": self.asked.model_dump(mode="json")} | ({"resolved": resolved} if resolved else {})
        store.write_text(path, f"# Reproduce: python -m harness run --config {path.name}\n" + tomli_w.dumps(tables))


def read_bench(path: Path) -> BenchFile:
    """Read bench.toml; HarnessError names the file and the setting that is wrong."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise HarnessError(f"no file {path}: --config takes the bench.toml of a run") from error
    except (OSError, ValueError, RecursionError) as error:
        raise HarnessError(f"{path} cannot be read ({error}): --config takes the bench.toml of a run") from error
    return _checked(BenchFile, tables, str(path))


def asked(given: dict[str, Any]) -> Asked:
    """What the flags ask for; HarnessError names the flag that is wrong."""
    return _checked(Asked, given, "the command line")


def _checked(kind: type[M], values: dict[str, Any], where: str) -> M:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise HarnessError(f"{where}: {first_fault(error)}") from error


def first_fault(error: ValidationError) -> str:
    """The first thing that is wrong: the setting, its value where it has one, and why."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    value = "" if first["type"] == "missing" else f" {first['input']!r}"
    return f"{name}{value}: {first['msg'][:1].lower()}{first['msg'][1:]}"


def absolute(source: str) -> str:
    """A path that exists, made independent of the folder that the command was typed in; a name stays a name."""
    if source.startswith("transformers:"):
        return f"transformers:{absolute(source.removeprefix('transformers:'))}"
    path, elsewhere = Path(os.path.expanduser(source)), source in NAMES or source.startswith("hf:")
    return str(path.resolve()) if source.strip() and not elsewhere and path.exists() else source


def absolute_data(source: str) -> str:
    """The same of data, of which a pattern may name several files."""
    pattern = any(mark in source for mark in "*?[") and not source.startswith("hf:")
    return os.path.abspath(os.path.expanduser(source)) if pattern else absolute(source)


def absolute_judge(judge: str) -> str:
    """The same for the model of `probe:SRC` and `lm:SRC`."""
    kind, _, source = judge.partition(":")
    return f"{kind}:{absolute(source)}" if kind in ("probe", "lm") and source else judge


def default_folder(wanted: Asked) -> Path:
    """runs/DATA-MODEL-BUDGET-DIGEST: the same question again finds its folder, another question makes another."""
    names = [Path(wanted.data).stem, Path(wanted.model).name, wanted.budget]
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(names)).strip("-")
    said = wanted.model_dump(mode="json", exclude=_MACHINE)
    # What could not be asked yet when older folders were named counts where it is asked: they are found again.
    said = {name: value for name, value in said.items() if name not in _LATER or value}
    return Path("runs") / f"{slug[:60]}-{store.digest(said)[:6]}"


def refuse_another(folder: Path, wanted: BenchFile) -> BenchFile | None:
    """The bench that the folder holds, if it is this one; HarnessError if it holds another, None if it is new.

    It may go on with other memory, on another machine say.
    """
    path = folder / "bench.toml"
    if folder.exists() and not folder.is_dir():
        raise HarnessError(f"--out {folder} is a file: choose another folder")
    if not path.exists():
        if folder.exists() and any(not _is_ours(entry.name) for entry in folder.iterdir()):
            raise HarnessError(f"--out {folder} holds other files and no bench.toml: choose another folder")
        return None
    held = read_bench(path)
    mine, theirs = wanted.asked.question, held.asked.question
    changed = [name for name in mine if mine[name] != theirs[name]]
    if not changed and wanted.resolved is not None and wanted.resolved != held.resolved:
        changed, mine, theirs = ["resolved"], {"resolved": "another"}, {"resolved": "its own"}
    if changed:
        name = changed[0]
        raise HarnessError(
            f"--out {folder} holds another bench, with {name} {_shown(theirs[name])} instead of "
            f"{_shown(mine[name])}: choose another folder, or delete that one"
        )
    return held.asking(wanted.asked)


def _is_ours(name: str) -> bool:
    """What a run that was killed at its very beginning may leave."""
    return name == ".lock" or name.startswith(".bench.toml.")


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
