"""The file of figures: on which machine and with which libraries, and of each figure when and from which commit."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
LATEST = HERE / "latest.json"
LIBRARIES = ("torch", "transformers", "trl", "accelerate")
CHANGED = "+"  # behind a commit: with changes that are in none


def known(file: Path, here: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """What was measured before, where it was on a machine like this with the same libraries; else that is said."""
    if not file.exists():
        return {"machine": here}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if isinstance(found, dict) and found.get("machine") == here:
        return found
    say(f"{file} holds figures of another machine, other libraries or another dtype: they are replaced")
    return {"machine": here}


def update(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Replace what is new, at any depth."""
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(old.get(key), dict):
            update(old[key], value)
        else:
            old[key] = value


def stamped(found: dict[str, Any], stamp: dict[str, str]) -> dict[str, Any]:
    """The same, `made` standing beside the topmost figures and for all below: a file holds those of several days."""
    if found and all(isinstance(value, dict) for value in found.values()):
        return {key: stamped(value, stamp) for key, value in found.items()}
    return {**found, "made": stamp}


def moment(file: Path) -> dict[str, str]:
    """The day, and the commit where that can be told; the file of figures is no change to it."""
    today = {"date": datetime.now(UTC).date().isoformat()}
    commit, top = _git("rev-parse", "--short=12", "HEAD"), _git("rev-parse", "--show-toplevel")
    if commit is None or top is None:
        return today
    own = file.resolve()
    others = [f":(top,exclude){own.relative_to(top)}"] if own.is_relative_to(top) else []
    changed = _git("status", "--porcelain", "--", ":/", *others)
    return {**today, "commit": commit + ("" if changed == "" else CHANGED)}


def _git(*asked: str) -> str | None:
    try:
        return subprocess.run(["git", *asked], cwd=HERE, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or no checkout
        return None


def machine(dtype: str) -> dict[str, Any]:
    """What the figures were made on and with."""
    found = {name: importlib.metadata.version(name) for name in LIBRARIES if importlib.util.find_spec(name)}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return {
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "dtype": dtype,
        "python": platform.python_version(),
        **found,
    }


def processor() -> str:
    """Its name, as Linux tells it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
