"""A report is made from records alone: the same records, the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from reports.build import build_report
from tests.reports.fake_run import FakeRun, write_run

MADE = (
    "report.json",
    "report.md",
    "report.html",
    *(f"figures/{n}.{e}" for n in ("frontier", "training") for e in ("svg", "png")),
)


def test_building_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    build_report(folder)
    first = {name: (folder / name).read_bytes() for name in MADE}
    assert build_report(folder) == folder / "report.md"
    assert {name: (folder / name).read_bytes() for name in MADE} == first


def test_two_folders_with_the_same_records_have_the_same_report(tmp_path: Path) -> None:
    here, there = write_run(tmp_path / "here"), write_run(tmp_path / "there")
    build_report(here)
    build_report(there)
    assert all((here / name).read_bytes() == (there / name).read_bytes() for name in MADE)


def test_nothing_temporary_is_left_behind(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    build_report(folder)
    assert not [path for path in folder.rglob(".*") if path.is_file()]


def test_a_run_with_nothing_finished_still_has_a_report(tmp_path: Path) -> None:
    build_report(write_run(tmp_path, FakeRun(characters=(), judges=(), failed={"sft@1": "out of memory"})))
    assert "nothing to compare" in json.loads((tmp_path / "report.json").read_text())["answer"]


def test_reports_need_no_torch_models_or_evals() -> None:
    code = (
        "import sys, reports.build, reports.terminal;"
        "seen = {name.partition('.')[0] for name in sys.modules};"
        "bad = seen & {'torch', 'models', 'evals', 'transformers'};"
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
