"""Where a report of several runs goes: a folder of its own."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.store import read_json


def own_folder(out: Path | None, runs: Sequence[Path]) -> Path:
    """The folder asked for; HarnessError where there is none, or where it holds a run or other files."""
    if out is None:
        raise HarnessError("several runs make one report in a folder of its own: name it with --out")
    for run in runs:
        if run.resolve() in (out.resolve(), *out.resolve().parents):
            raise HarnessError(f"--out {out} is in the run {run}, which stays as it is: choose another folder")
    if out.exists() and not out.is_dir():
        raise HarnessError(f"--out {out} is a file: choose another folder")
    if out.is_dir() and any(not _is_ours(entry) for entry in out.iterdir()) and not _is_joined(out):
        raise HarnessError(f"--out {out} holds other files and no report of several runs: choose another folder")
    return out


def _is_ours(entry: Path) -> bool:
    """What a report that was killed at its very beginning may leave."""
    return entry.name.startswith(".report.json.")


def _is_joined(folder: Path) -> bool:
    """Whether an earlier report of several runs lies there, to be written anew."""
    if not (folder / "report.json").is_file():
        return False
    try:
        report = read_json(folder / "report.json", dict[str, Any])
    except HarnessError:
        return False
    bench = report.get("bench")
    return isinstance(bench, dict) and bool(bench.get("runs"))


def joining_command(out: Path, runs: Sequence[Path]) -> str:
    """What makes the report again, typed in its folder: the runs are named as seen from there."""
    seen = [Path(os.path.relpath(run.resolve(), out.resolve())).as_posix() for run in runs]
    return shlex.join(["python", "-m", "harness", "report", *seen, "--out", "again"])
