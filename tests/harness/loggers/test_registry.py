"""What `--log` accepts, and the one line where it does not, before anything is read or written."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.loggers.registry import BUILT_IN, make_loggers
from tests.harness.door import harness
from tests.harness.loggers.notes import MADE, install_logger


def test_a_strangers_logger_comes_by_the_same_road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By entry point; it is given what stands behind the colon, and each spec is made once."""
    install_logger(tmp_path / "site", monkeypatch)
    found = make_loggers(["notes", "notes:a:b", "notes"], tmp_path / "run")
    assert list(found) == ["notes", "notes:a:b"]
    assert set(MADE) == {None, "a:b"}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("tensorbord", "did you mean 'tensorboard'"),
        ("wand:b", "did you mean 'wandb'"),
        ("", "known are tensorboard[:DIR]"),
        ("notes:", "names nothing behind its colon"),
    ],
)
def test_a_name_that_is_no_logger_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, said: str
) -> None:
    install_logger(tmp_path / "site", monkeypatch)
    ended = harness("run", "--log", spec, "--model", "nothing", "--out", tmp_path / "run", cache=tmp_path / "cache")
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert said in ended.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_a_missing_library_is_said_with_the_way_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Before the run begins."""
    for module in (name, "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, module, None)
    ended = harness("run", "--log", name, "--model", "nothing", "--out", tmp_path / "run", cache=tmp_path / "cache")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert f"pip install 'prefbench[{name}]'" in ended.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("raise ValueError('bad\\nluck')", "cannot be made (ValueError: bad luck)"),
        ("raise SystemExit(3)", "cannot be made (SystemExit: 3)"),
        ("return object()", "has no start()"),
    ],
)
def test_a_stranger_that_cannot_be_made_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, said: str
) -> None:
    install_logger(tmp_path / "site", monkeypatch, fault=fault)
    with pytest.raises(HarnessError) as caught:
        make_loggers(["notes"], tmp_path / "run")
    assert said in str(caught.value)


def test_a_logger_asked_of_a_watch_is_refused(tmp_path: Path) -> None:
    """Who only watches starts nothing."""
    ended = harness("run", "--watch-only", tmp_path, "--log", "tensorboard", cache=tmp_path / "cache")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "--log asks for a run" in ended.err
