"""A pytest plug-in: a run's scores as the fixture `bench`, and `assert_no_regression` against a baseline.

Loaded by every pytest in the environment, so nothing heavy is imported before a test asks for a run.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.records import RunRecord, Score

WIDTH = 110  # columns of the table in a failure


@dataclass(frozen=True)
class Bench:
    """A finished run: `bench["dpo-beta0.1"]["correct"].value`, with `.low`, `.high` and `.n`."""

    folder: Path
    baseline: Path | None = None  # what --bench-baseline named
    rules: Path | None = None  # what --bench-rules named

    @cached_property
    def record(self) -> RunRecord:
        """All that the run's folder holds."""
        from reports.load import load_run

        return load_run(self.folder)

    @property
    def trials(self) -> tuple[str, ...]:
        """Their names, as the report shows them."""
        from reports.trials import display_name

        return tuple(display_name(self.record, trial) for trial in self.record.trials)

    def __getitem__(self, trial: str) -> Mapping[str, Score]:
        """The scores of one trial by metric; KeyError lists the trials there are."""
        found = dict(zip(self.trials, self.record.trials, strict=True))
        if trial not in found:
            raise KeyError(f"no trial {trial!r} in {self.folder}: it has {', '.join(found) or 'none'}")
        return found[trial].scores.scores


def pytest_addoption(parser: pytest.Parser) -> None:
    """--bench and what belongs to it."""
    group = parser.getgroup("prefbench")
    group.addoption("--bench", type=Path, help="the folder of the run that the fixture `bench` reads")
    group.addoption("--bench-baseline", type=Path, help="a run's folder, or the file of gate RUN --save-baseline")
    group.addoption("--bench-rules", type=Path, help="gate.toml: which metrics, and how much each may fall")


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest) -> Bench:
    """The run that --bench names."""
    options = request.config.option
    if options.bench is None:
        pytest.fail("no run was named: pytest --bench runs/NAME", pytrace=False)
    return Bench(options.bench, options.bench_baseline, options.bench_rules)


def assert_no_regression(
    bench: Bench | Path | str,
    baseline: Path | str | None = None,
    *,
    rules: Path | str | None = None,
    recipes: Sequence[str] = (),
    allow_unsure: bool = False,
) -> None:
    """Fail the test where the run is worse than the baseline, or, unless allowed, where that cannot be told.

    What is not given comes from the command line (--bench-baseline, --bench-rules). `recipes` are NEW=OLD, as in
    `gate --recipe`. What cannot be compared at all fails too, in one line.
    """
    from rich.console import Console

    from harness.errors import HarnessError
    from harness.gating import check, read_standing
    from reports.gate import print_gate

    __tracebackhide__ = True
    run = bench if isinstance(bench, Bench) else Bench(Path(bench))
    against, asked = baseline or run.baseline, rules or run.rules
    if against is None:
        pytest.fail("no baseline was named: pytest --bench-baseline FILE, or give one", pytrace=False)
    try:
        found = check(
            read_standing(run.folder),
            read_standing(Path(against)),
            rules=Path(asked) if asked else None,
            recipes=recipes,
        )
    except HarnessError as error:
        pytest.fail(str(error), pytrace=False)
    if found.verdict == "pass" or (found.verdict == "cannot tell" and allow_unsure):
        return
    shown = io.StringIO()
    print_gate(found, Console(file=shown, width=WIDTH))
    pytest.fail(f"{run.folder} against {against}\n{shown.getvalue()}", pytrace=False)
