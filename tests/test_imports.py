"""Imports go one way: models, harness, evals, reports; only the conductor and the command line see all four."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("models", "harness", "evals", "reports")
# The conductors, of a bench, of a gate, of judges alone and of an export, and the doors: the command line and pytest's.
SEE_ALL = {
    *("harness/bench.py", "harness/gating.py", "harness/exporting.py", "harness/judging.py", "harness/way.py"),
    *("harness/cli.py", "harness/__main__.py", "harness/pytest_plugin.py"),
}
# Package → what of ours its files may import besides itself: a package, or single modules.
ALLOWED = {
    "models": (),
    "harness": ("models",),
    "evals": ("models", "harness.records", "harness.errors"),
    "reports": ("harness.records", "harness.errors", "harness.store", "harness.plain"),
}
FILES = {path.relative_to(ROOT).as_posix(): path for package in PACKAGES for path in (ROOT / package).rglob("*.py")}


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, at its top or inside, each name of `from X import a` as X.a."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def foreign(file: str) -> set[str]:
    """What of ours a file imports and may not."""
    own = file.split("/")[0]
    ours = {m for m in imported(FILES[file]) if any(within(m, package) for package in PACKAGES)}
    return {m for m in ours if not any(within(m, allowed) for allowed in (own, *ALLOWED[own]))}


@pytest.mark.parametrize("file", sorted(set(FILES) - SEE_ALL))
def test_a_file_imports_only_what_its_package_may_see(file: str) -> None:
    """Each arrow of the pipeline points one way."""
    assert foreign(file) == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_looked_at(package: str) -> None:
    """A folder that was moved is not passed over."""
    assert sum(file.startswith(f"{package}/") for file in FILES) > 3


@pytest.mark.parametrize("file", sorted(file for file in FILES if file.startswith("reports/")))
def test_reports_never_import_torch(file: str) -> None:
    """They read records, on any machine."""
    assert not any(within(module, "torch") for module in imported(FILES[file]))


@pytest.mark.parametrize("module", ["harness/records.py", "harness/errors.py", "harness/store.py", "harness/plain.py"])
def test_what_reports_read_by_never_imports_torch(module: str) -> None:
    """Nor do the modules of the harness that they stand on."""
    assert not any(within(name, "torch") for name in imported(FILES[module]))


def test_the_walls_are_looked_through() -> None:
    """The conductor does import what others may not: the search finds such imports."""
    assert {module.split(".")[0] for module in foreign("harness/bench.py")} == {"evals", "reports"}


def declared() -> set[str]:
    """Distributions that pyproject.toml depends on, or offers as the extra `hf`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["hf"]]
    return {re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-") for requirement in wanted}


def test_everything_imported_is_declared() -> None:
    """What another package happens to bring along may be gone tomorrow."""
    top = {module.split(".")[0] for path in FILES.values() for module in imported(path)}
    strangers = top - set(sys.stdlib_module_names) - set(PACKAGES) - {"pytest"}  # it loads our plug-in
    owners = importlib.metadata.packages_distributions()
    undeclared = {
        module for module in strangers if not {name.lower().replace("_", "-") for name in owners[module]} & declared()
    }
    assert undeclared == set()
