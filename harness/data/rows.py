"""Preference data from a name or a path: rows read, checked, and put into their template."""

from __future__ import annotations

import difflib
import importlib.resources
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import store
from harness.cache import cache_root
from harness.data.fetch import RASBT, fetch
from harness.data.labelled import SPLIT_NAMES, LabelledRow, label_row
from harness.data.numbered import read_numbered
from harness.data.prompts import prompt_id_of
from harness.data.templates import RenderChat, check_template, render_prompt
from harness.errors import HarnessError
from harness.records import Pair

NAMES = ("courtesy", "rasbt")
TOLERATED_TIES = 0.01  # share of rows with chosen = rejected that is left out; the book's file has 6 in 1,100
FORMATS = {
    "alpaca": "Alpaca columns",
    "plain": "TRL columns in plain text",
    "chat": "TRL columns with messages",
}


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """The preference pairs of one source, in its order."""

    name: str  # the name or path that was asked for
    digest: str  # sha256 of the file
    template: str  # settled: "alpaca", "plain" or "chat"
    pairs: tuple[Pair, ...]
    splits: tuple[str, ...] | None = None  # the split that each pair is fixed to; None where the data fixes none
    warnings: tuple[str, ...] = ()  # one sentence each, for the report


def load_pairs(
    source: str | Path,
    template: str = "auto",
    *,
    render_chat: RenderChat | None = None,
    cache: Path | None = None,
) -> DataSet:
    """The pairs of `courtesy`, `rasbt`, or a JSON or JSONL file with Alpaca or TRL columns.

    Messages need the model's chat template, `render_chat`, unless `template` names another one.
    Up to 1% of rows with chosen = rejected are left out with a warning; more are an error.
    """
    check_template(template)
    path = _path_of(source, cache or cache_root())
    rows = [label_row(path, row) for row in read_numbered(path)]
    _refuse_mixture(rows)
    warnings = (*_tie_warnings(rows), *_gold_warnings(rows))
    kept = [row for row in rows if not row.tied]
    settled = kept[0].template if template == "auto" else template
    return DataSet(
        name=str(source),
        digest=store.file_digest(path),
        template=settled,
        pairs=tuple(_pair(row, settled, render_chat) for row in kept),
        splits=_fixed_splits(kept),
        warnings=warnings,
    )


def _path_of(source: str | Path, cache: Path) -> Path:
    match str(source):
        case "courtesy":
            return Path(str(importlib.resources.files("harness.data") / "courtesy.jsonl"))
        case "rasbt":
            return fetch(RASBT, cache)
    path = Path(os.path.expanduser(source))
    if path.is_dir():
        raise HarnessError(f"'{source}' is a folder: give the path of a file in it")
    if not path.exists():
        raise HarnessError(f"no data named '{source}', and no such file: {_guess(path)}")
    return path


def _guess(path: Path) -> str:
    beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, [*NAMES, *beside], n=1)
    if not close:
        return f"give {', '.join(NAMES)} or the path of a JSON or JSONL file"
    return f"did you mean '{close[0] if close[0] in NAMES else path.parent / close[0]}'?"


def _refuse_mixture(rows: Sequence[LabelledRow]) -> None:
    for row in rows:
        if row.template != rows[0].template:
            raise HarnessError(
                f"{row.at} has {FORMATS[row.template]}, and row 1 {FORMATS[rows[0].template]}: put them into two files"
            )


def _tie_warnings(rows: Sequence[LabelledRow]) -> tuple[str, ...]:
    """Real data has a few rows that prefer nothing: they are said. Many mean that a column is wrong."""
    tied = [row for row in rows if row.tied]
    if len(tied) > TOLERATED_TIES * len(rows):
        raise HarnessError(
            f"{tied[0].at} has chosen = rejected (so have {len(tied)} of {len(rows)} rows, "
            f"more than {TOLERATED_TIES:.0%}): mend or delete them"
        )
    if not tied:
        return ()
    where = ", ".join(f"{row.row}" for row in tied)
    return (f"{len(tied)} of {len(rows)} rows have chosen = rejected and are left out: rows {where}.",)


def _gold_warnings(rows: Sequence[LabelledRow]) -> tuple[str, ...]:
    """A check of the answers is used where every held-out row has one, so that one row without matters."""
    without = [row.row for row in rows if row.gold is None]
    if not without or len(without) == len(rows):
        return ()
    return (
        f"{len(without)} of {len(rows)} rows have no readable 'gold' (the first is row {without[0]}): answers are "
        "checked only where every held-out row has one.",
    )


def _fixed_splits(rows: Sequence[LabelledRow]) -> tuple[str, ...] | None:
    """The rows' own splits, where every row names one of ours and none of ours is without rows."""
    names = tuple(row.split for row in rows if row.split is not None)
    return names if len(names) == len(rows) and set(names) == set(SPLIT_NAMES) else None


def _pair(row: LabelledRow, template: str, render_chat: RenderChat | None) -> Pair:
    return Pair(
        prompt_id=prompt_id_of(row.ask.question),
        question=row.ask.question,
        prompt=render_prompt(template, row.ask, render_chat),
        chosen=row.chosen,
        rejected=row.rejected,
        gold=row.gold,
    )
