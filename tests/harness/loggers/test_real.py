"""The built-in loggers with their real libraries, each keeping what it was told on this machine, read back."""

from __future__ import annotations

import json
import os
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.events import Event
from harness.loggers.logger import facts, figures, readings
from harness.loggers.registry import make_loggers
from harness.loggers.relay import Relay
from harness.records import BenchRecord, TrainStep, TrialScores
from harness.store import read_json, read_jsonl
from tests.harness.door import harness
from tests.reports.fake_run import CORE, FakeRun, write_run

TRIAL = "dpo-beta0.05@1"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", FakeRun(characters=CORE[1:2]))


def steps(run: Path) -> tuple[TrainStep, ...]:
    """The trial's own."""
    anchor = read_jsonl(run / "anchor" / "train.jsonl", TrainStep)
    return tuple(s for s in read_jsonl(run / "trials" / TRIAL / "train.jsonl", TrainStep) if s not in anchor)


def scores(run: Path) -> dict[str, float]:
    return figures(read_json(run / "trials" / TRIAL / "scores.json", TrialScores))


def bench(run: Path) -> BenchRecord:
    return read_json(run / "record.json", BenchRecord)


def tell(spec: str, run: Path, *, end: bool = True) -> None:
    """All of the run, as `harness run --log SPEC` tells it. Whatever the library raises comes through here."""

    def complain(line: str) -> None:
        raise AssertionError(line)

    relay = Relay(make_loggers([spec], run), run, complain)
    for text in ("anchor and judges", TRIAL):
        relay.hear(Event(at=0.0, kind="begin", text=text))
        relay.hear(Event(at=0.0, kind="done"))
    if end:
        relay.hear(Event(at=0.0, kind="finished"))


def near(found: dict[str, float]) -> Any:
    return pytest.approx(found, rel=1e-6)  # event files keep float32


# TensorBoard


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag → its points, as TensorBoard reads them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_draws_what_was_trained_and_scored(run: Path) -> None:
    """In the run's own folder, a folder a trial; a session that goes on draws no curve twice."""
    pytest.importorskip("tensorboard")
    for _ in range(2):
        tell("tensorboard", run)
    found = curves(run / "tensorboard" / TRIAL)
    for line in steps(run):
        for name, value in readings(line).items():
            assert [v for step, v in found[name] if step == line.step] == pytest.approx([value], rel=1e-6)
    assert {name: found[name][-1][1] for name in scores(run)} == near(scores(run))
    assert set(curves(run / "tensorboard" / "anchor")) >= {"stage0/loss"}


def test_tensorboards_folder_can_be_named(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    tell(f"tensorboard:{tmp_path / 'events'}", run)
    assert (tmp_path / "events" / TRIAL).is_dir()
    assert not (run / "tensorboard").exists()


def test_a_file_is_no_folder_of_tensorboards(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "taken").write_text("")
    ended = harness("run", "--log", f"tensorboard:{tmp_path / 'taken'}", "--model", "nothing", cache=tmp_path / "cache")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "is a file: name a folder" in ended.err


def test_a_folder_that_cannot_be_made_ends_the_logging_alone(run: Path) -> None:
    """TensorBoard finds out at its first point: one line, and the run goes on."""
    pytest.importorskip("tensorboard")
    said: list[str] = []
    relay = Relay(make_loggers(["tensorboard:/proc/x"], run), run, said.append)
    for kind in ("begin", "done", "finished"):
        relay.hear(Event(at=0.0, kind=kind, text=TRIAL if kind == "begin" else ""))
    (line,) = said
    assert line.startswith("--log tensorboard:/proc/x failed and is told nothing more, the run goes on (")


# Weights & Biases


def test_wandb_keeps_a_run_a_trial_offline(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """History on its stage's axis, scores as the summary, the bench as its configuration and its group."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    tell("wandb:mine", run)
    found = {record["run"]["run_id"]: record for record in map(offline_run, (run / "wandb").glob("offline-run-*"))}
    assert len(found) == 2
    kept = next(record for name, record in found.items() if name.endswith(TRIAL))
    assert kept["run"]["run_group"] == bench(run).digest[:12]
    assert kept["run"]["project"] == "mine"
    wanted = [{**readings(s), f"stage{s.stage}/step": s.step} for s in steps(run)]
    assert [{name: row[name] for name in wanted[0]} for row in kept["history"]] == wanted
    assert {name: kept["summary"][name] for name in scores(run)} == near(scores(run))
    assert kept["config"]["digest"] == bench(run).digest


def offline_run(folder: Path) -> dict[str, Any]:
    """What `wandb sync` would send of one run."""
    from wandb.proto import wandb_internal_pb2 as proto

    (file,) = folder.glob("*.wandb")
    kept: dict[str, Any] = {"history": [], "summary": {}, "config": {}, "run": {}}
    for data in log_records(file.read_bytes()):
        record = proto.Record.FromString(data)
        run = record.run
        if record.WhichOneof("record_type") == "run":
            kept["run"] = {"run_id": run.run_id, "run_group": run.run_group, "project": run.project}
            kept["config"] |= values(run.config.update)
        elif record.WhichOneof("record_type") == "history":
            kept["history"].append(values(record.history.item))
        elif record.WhichOneof("record_type") == "summary":
            kept["summary"] |= values(record.summary.update)
    return kept


def values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def log_records(content: bytes, block: int = 32_768) -> Iterator[bytes]:
    """The records of a LevelDB log behind W&B's own 7 bytes: each part has a checksum, its length and its kind."""
    place, parts = 7, b""
    while place + 7 <= len(content):
        if block - place % block < 7:  # too little left of the block for another header
            place += block - place % block
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last of several parts
            yield parts
            parts = b""


def test_wandb_without_a_key_is_one_line(tmp_path: Path) -> None:
    """Said before anything is read; it is asked for where there is a terminal."""
    pytest.importorskip("wandb")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    own = {"HOME": tmp_path, "NETRC": tmp_path / "none", "PREFBENCH_CACHE": tmp_path / "cache"}
    command = [
        sys.executable,
        "-m",
        "harness",
        "run",
        "--log",
        "wandb",
        "--model",
        "nothing",
        "--out",
        tmp_path / "run",
    ]
    ended = subprocess.run(
        command,
        env=kept | {k: str(v) for k, v in own.items()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1] == "--log wandb has no key: wandb login, or set WANDB_MODE=offline"
    assert not (tmp_path / "run").exists()


# MLflow


@pytest.fixture
def tracking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """MLflow with a store of its own."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    return mlflow


def test_mlflow_keeps_a_run_a_trial(run: Path, tracking: Any) -> None:
    """A session that goes on finds its runs again."""
    for _ in range(2):
        tell("mlflow:mine", run)
    client = tracking.MlflowClient()
    found = {r.info.run_name: r for r in client.search_runs([client.get_experiment_by_name("mine").experiment_id])}
    assert set(found) == {"anchor", TRIAL}
    kept = found[TRIAL]
    assert {name: kept.data.params[name] for name in ("digest", "recipe")} == {
        name: str(facts(bench(run), TRIAL)[name]) for name in ("digest", "recipe")
    }
    losses = client.get_metric_history(kept.info.run_id, "stage1/loss")
    assert sorted({(m.step, m.value) for m in losses}) == [(s.step, s.loss) for s in steps(run)]
    spelt = {name.replace("[", "_").replace("]", "_"): value for name, value in scores(run).items()}
    assert {name: kept.data.metrics[name] for name in spelt} == near(spelt)
    assert kept.info.status == "FINISHED"


def test_mlflow_without_its_server_is_one_line(tmp_path: Path, tracking: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Soon, and before the run begins."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    ended = harness("run", "--log", "mlflow", "--model", "nothing", "--out", tmp_path / "run", cache=tmp_path / "cache")
    assert ended.code == 2
    assert "http://127.0.0.1:9 does not answer" in ended.err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


# Trackio


def test_trackio_keeps_a_run_a_trial(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its database on this machine."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    tell("trackio:mine", run)
    (database,) = (tmp_path / "trackio").rglob("*.db")
    with sqlite3.connect(database) as rows:
        kept = rows.execute("SELECT run_name, step, metrics FROM metrics ORDER BY id").fetchall()
    mine = [(step, json.loads(metrics)) for name, step, metrics in kept if name.endswith(TRIAL)]
    assert [row for row in mine if "stage1/loss" in row[1]] == [(s.step, readings(s)) for s in steps(run)]
    assert [metrics for _, metrics in mine if "scores/kl_nats" in metrics] == [near(scores(run))]
