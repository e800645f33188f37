"""What loggers are told of a run, and that a run never hangs on them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from harness.events import Event
from harness.loggers import relay
from harness.loggers.relay import LoggedWatch
from harness.progress import Terminal
from harness.records import TrainStep, TrialScores
from harness.store import read_json, read_jsonl
from tests.harness.door import harness
from tests.harness.loggers.notes import MADE, Notes, install_logger
from tests.harness.test_bench import Place, small
from tests.reports.fake_run import CORE, FakeRun, write_run


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    install_logger(tmp_path / "site", monkeypatch)
    return tmp_path / "site"


@pytest.fixture
def place(tmp_path: Path, tiny_model_folder: Path) -> Place:
    """Benches of two recipes, a second each."""
    own = small(tmp_path, tiny_model_folder)
    return Place(root=own.root, flags={**own.flags, "recipes": "sft,dpo-beta0.1"})


def told(notes: Notes, folder: Path) -> None:
    """The logger knows all that the run's folder holds, each step once, and the anchor's as the anchor's alone."""
    anchor = read_jsonl(folder / "anchor" / "train.jsonl", TrainStep)
    assert tuple(notes.steps["anchor"]) == anchor
    for trial in ("sft@0", "dpo-beta0.1@0"):
        own = [s for s in read_jsonl(folder / "trials" / trial / "train.jsonl", TrainStep) if s not in anchor]
        assert notes.steps[trial] == own
        assert notes.scored[trial][-1] == read_json(folder / "trials" / trial / "scores.json", TrialScores)
    assert (notes.calls[0], notes.calls[-1]) == ("start", "finish")
    assert (notes.calls.count("start"), notes.calls.count("finish")) == (1, 1)


def test_a_logger_is_told_every_step_and_every_score(place: Place, site: Path) -> None:
    run = place.run(log="notes")
    assert run.ended.code == 0
    told(MADE[None], run.folder)


def test_what_other_runs_had_computed_is_told_too(place: Place, site: Path) -> None:
    """Stages from the cache make no step in this run, but their curves belong to it; a finished run is told whole."""
    place.run()
    for name in ("again", "run"):
        MADE.clear()
        run = place.run(name=name, log="notes")
        told(MADE[None], run.folder)


def test_a_logger_changes_no_number(place: Place, site: Path) -> None:
    """The bench's file, its digest and its report are those of the run without."""
    without, logged = place.run(name="a", cache="one"), place.run(name="b", cache="other", log="notes")
    assert without.report == logged.report
    assert (without.folder / "bench.toml").read_bytes() == (logged.folder / "bench.toml").read_bytes()


@pytest.mark.parametrize("moment", ["start", "step", "scores", "finish"])
def test_a_logger_that_fails_costs_one_line(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """It is told nothing more, the others are; the run ends as ever."""
    install_logger(tmp_path / "site", monkeypatch, fails_at=moment)
    words = ("--out", tmp_path / "run", "--judge", "rule:gold", "--log", "notes")
    flags = [part for flag, value in place.flags.items() for part in (f"--{flag.replace('_', '-')}", value)]
    ended = harness("run", *flags, *words, cache=tmp_path / "cache")
    assert ended.code == 0
    assert ended.err.count("--log notes failed and is told nothing more") == 1
    assert "(ConnectionError: the network is gone)" in ended.err
    assert MADE[None].calls[-1] == moment


def test_one_logger_that_fails_leaves_the_others_alone(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", FakeRun(characters=CORE[:1]))
    good, bad = Notes(), Notes(fails_at="scores", error=SystemExit)
    watch = LoggedWatch(Terminal(file=io.StringIO()), {"bad": bad, "good": good}, folder)
    for kind, text in (("start", ""), ("begin", "anchor and judges"), ("done", ""), ("begin", "sft@1"), ("done", "")):
        watch.show(Event(at=0.0, kind=kind, text=text))  # type: ignore[arg-type]  # mypy sees plain strings
    watch.show(Event(at=0.0, kind="stopped", text="interrupted"))
    assert bad.calls[-1] == "scores"
    assert good.calls[-2:] == ["scores", "finish"]


def test_an_interrupt_while_a_logger_works_is_an_interrupt(tmp_path: Path) -> None:
    """Ctrl-C stops the run, not the logger."""
    folder = write_run(tmp_path / "run", FakeRun(characters=CORE[:1]))
    notes = Notes(fails_at="start", error=KeyboardInterrupt)
    watch = LoggedWatch(Terminal(file=io.StringIO()), {"notes": notes}, folder)
    with pytest.raises(KeyboardInterrupt):
        watch.show(Event(at=0.0, kind="begin", text="anchor and judges"))


def test_a_stage_trained_twice_is_told_once(tmp_path: Path) -> None:
    """Once more for its weights on the way, say."""
    folder = write_run(tmp_path / "run", FakeRun(characters=CORE[:1]))
    notes = Notes()
    watch = LoggedWatch(Terminal(file=io.StringIO()), {"notes": notes}, folder)
    watch.show(Event(at=0.0, kind="begin", text="new@0"))
    line = TrainStep(stage=0, step=1, spent=1.0, loss=1.0, grad_norm=1.0, learning_rate=1e-4, num_tokens=1)
    for _ in range(2):
        watch.show(Event(at=0.0, kind="step", step=line))
    assert notes.steps["new@0"] == [line]


@pytest.mark.parametrize(("loggers", "reads"), [(0, 0), (1, 1)])
def test_the_anchors_log_is_read_once_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loggers: int, reads: int
) -> None:
    """Not at each step; and by no run without loggers."""
    folder, opened = write_run(tmp_path / "run", FakeRun(characters=CORE[:1])), []
    monkeypatch.setattr(relay.store, "read_jsonl", lambda path, kind: opened.append(path) or read_jsonl(path, kind))
    watch = LoggedWatch(Terminal(file=io.StringIO()), {"notes": Notes()} if loggers else {}, folder)
    watch.show(Event(at=0.0, kind="begin", text="new@0"))
    for step in (1, 2, 3):
        line = TrainStep(stage=0, step=step, spent=1.0, loss=1.0, grad_norm=1.0, learning_rate=1e-4, num_tokens=1)
        watch.show(Event(at=0.0, kind="step", step=line))
    assert opened == [folder / "anchor" / "train.jsonl"] * reads


def test_a_damaged_record_stops_a_logger_and_no_run(tmp_path: Path) -> None:
    """Whatever the relay reads is somebody's file."""
    folder = write_run(tmp_path / "run", FakeRun(characters=CORE[:1]))
    (folder / "record.json").write_text(json.dumps({"no": "bench"}))
    console = Terminal(file=io.StringIO(), width=200)
    watch = LoggedWatch(console, {"notes": Notes()}, folder)
    watch.show(Event(at=0.0, kind="begin", text="sft@1"))
    watch.show(Event(at=0.0, kind="done"))
    assert console.file.getvalue().count("told nothing more") == 1  # type: ignore[attr-defined]
