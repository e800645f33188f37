"""A report is made from records alone: the same records, the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from evals.joining import join
from reports.build import build_report, write_report
from reports.destination import joining_command
from reports.load import load_runs
from tests.reports.fake_run import CORE, FakeRun, write_run

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


def copied(source: Path, target: Path, backwards: bool = False) -> Path:
    """A copy of a run, its files laid down in the order of their names or in the other one."""
    for path in sorted((p for p in source.rglob("*") if p.is_file()), reverse=backwards):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    return target


def test_a_run_that_was_moved_has_the_same_report(tmp_path: Path) -> None:
    """Wherever it lies, and in whichever order its files do: nothing of the machine is in it."""
    here = write_run(tmp_path / "here" / "run", FakeRun(judges=("probe", "rule:length"), unfinished=("a@1", "b@1")))
    there = copied(here, tmp_path / "another" / "place" / "of it", backwards=True)
    build_report(here)
    build_report(there)
    assert {name: (here / name).read_bytes() for name in MADE} == {name: (there / name).read_bytes() for name in MADE}


def joined(folders: list[Path], out: Path) -> dict[str, bytes]:
    """The report of several runs, file by file."""
    write_report(join(load_runs(folders), joining_command(out, folders)), out)
    return {name: (out / name).read_bytes() for name in MADE}


def test_runs_that_were_moved_have_the_same_report_of_them_all(tmp_path: Path) -> None:
    """Likewise for several runs, as long as they lie alike towards one another."""
    first, second = FakeRun(characters=CORE[:3], judges=("probe", "rule:length")), FakeRun(characters=CORE[2:5])
    here = [write_run(tmp_path / "here" / name, fake) for name, fake in (("a", first), ("b", second))]
    there = [copied(run, tmp_path / "there" / run.name, backwards=True) for run in here]
    assert joined(here, tmp_path / "here" / "all") == joined(there, tmp_path / "there" / "all")


def test_a_report_of_several_runs_says_which_they_are(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / c.recipe, FakeRun(characters=(c,), prompts=8)) for c in CORE[:2]]
    page = joined(runs, tmp_path / "all")["report.md"].decode()
    assert "| Run sft | 1 trial on 60TFLOP" in page
    assert "| Run dpo-beta0.05 | 1 trial on 60TFLOP" in page
    assert "python -m harness report ../sft ../dpo-beta0.05 --out again" in page


def test_what_differs_between_the_runs_is_a_warning(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / c.recipe, FakeRun(characters=(c,), prompts=8)) for c in CORE[:2]]
    record = (runs[1] / "record.json").read_text()
    (runs[1] / "record.json").write_text(record.replace('"dtype": ""', '"dtype": "bfloat16"'))
    report = json.loads(joined(runs, tmp_path / "all")["report.json"])
    assert any("different dtypes" in warning for warning in report["warnings"])


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
