"""`run --watch-only` shows a run that goes on elsewhere as its own terminal does, and ends as it ends."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock
from rich.console import Console

from harness.errors import HarnessError
from harness.events import Event
from harness.following import Stop, Tail, follow, is_at_work
from harness.progress import Watch
from tests.harness.door import Finished, harness, install_stranger, write_sums
from tests.harness.test_cli import NO_TORCH
from tests.harness.test_progress import event, training
from tests.reports.fake_run import FakeRun, write_run


def line(happened: Event) -> str:
    """As a journal holds it."""
    return json.dumps({k: v for k, v in dataclasses.asdict(happened).items() if v not in (None, "", ())}) + "\n"


def write(folder: Path, *happened: Event) -> Path:
    """A folder whose journal says this, as if its run was gone."""
    folder.mkdir(exist_ok=True)
    with (folder / "progress.jsonl").open("a") as file:
        file.writelines(map(line, happened))
    return folder


FINISHED, INTERRUPTED = event(9, "finished"), event(9, "stopped", "interrupted")


@dataclass
class Elsewhere:
    """A process that does the next thing each time the follower waits for it."""

    deeds: list[Callable[[], object]]

    def __call__(self, seconds: float) -> None:
        """One deed; who waits longer than that waits for ever."""
        assert self.deeds, "the follower does not end"
        self.deeds.pop(0)()


def followed(folder: Path, *deeds: Callable[[], object]) -> tuple[list[str], Stop | None]:
    """What a follower in a pipe writes, and how it says that the session ended."""
    written = io.StringIO()
    stop = follow(folder, Watch(Console(file=written, width=160)), Elsewhere(list(deeds)))
    return written.getvalue().splitlines(), stop


# What is followed.


def test_what_happened_before_is_shown_at_once(tmp_path: Path) -> None:
    """With the times at which it happened."""
    lines, stop = followed(write(tmp_path / "run", *training(0.25, 0.5), FINISHED))
    assert stop is None
    assert [shown[:25] for shown in lines] == [f"[0:0{second}] 1/2 dpo-beta0.1@0:" for second in (0, 2, 4, 4)]


def test_what_happens_is_shown_as_it_happens(tmp_path: Path) -> None:
    """Until the run is done."""
    folder = write(tmp_path / "run", *training()[:4])
    lock = FileLock(folder / ".lock")
    lock.acquire()
    later = [
        lambda: write(folder, event(5, "step", spent=0.5)),
        lambda: write(folder, event(9, "done", "75%"), FINISHED),
    ]
    lines, stop = followed(folder, *later)
    assert stop is None
    assert [shown[:6] for shown in lines] == ["[0:00]", "[0:05]", "[0:09]"]


def test_half_a_line_waits_for_its_other_half(tmp_path: Path) -> None:
    """Nothing is lost, nothing is shown twice."""
    folder = write(tmp_path / "run", *training()[:4])
    path, whole = folder / "progress.jsonl", line(event(5, "step", spent=0.5))
    with FileLock(folder / ".lock"):
        lines, _ = followed(
            folder,
            lambda: path.write_text(path.read_text() + whole[:20]),
            lambda: path.write_text(path.read_text() + whole[20:]),
            lambda: write(folder, FINISHED),
        )
    assert len(lines) == 2


@pytest.mark.parametrize(
    "spoilt", ["", "{", "null", '{"kind": "begin"}', '{"at": 1.0, "kind": "from the future"}', "\x00"]
)
def test_a_line_that_cannot_be_read_costs_no_other(tmp_path: Path, spoilt: str) -> None:
    """Cut off, or written by another version."""
    folder = write(tmp_path / "run", *training()[:4])
    with (folder / "progress.jsonl").open("a") as file:
        file.write(spoilt + "\n")
    lines, stop = followed(write(folder, event(5, "done", "75%"), FINISHED))
    assert (len(lines), stop) == (2, None)


def test_only_the_last_session_is_shown(tmp_path: Path) -> None:
    """A run that was gone on with begins its clock again."""
    folder = write(tmp_path / "run", *training(0.5)[:-1], INTERRUPTED, *training(0.25), FINISHED)
    lines, stop = followed(folder)
    assert (len(lines), stop) == (3, None)


def test_a_session_that_has_not_begun_to_write_is_waited_for(tmp_path: Path) -> None:
    """It has the folder already, and the end of the one before is not its own."""
    folder = write(tmp_path / "run", *training(0.5)[:-1], INTERRUPTED)
    with FileLock(folder / ".lock") as lock:
        lines, stop = followed(folder, lambda: write(folder, *training(0.25), FINISHED), lock.release)
    assert (len(lines), stop) == (3, None)


def test_a_session_that_just_ended_and_has_not_let_go_is_not_taken_for_killed(tmp_path: Path) -> None:
    """Who joins at that very moment is told its end."""
    folder = write(tmp_path / "run", *training(0.25), FINISHED)
    lock = FileLock(folder / ".lock")
    lock.acquire()
    lines, stop = followed(folder, lock.release)
    assert (len(lines), stop) == (3, None)


def test_a_run_begun_again_after_it_was_killed_is_followed_on(tmp_path: Path) -> None:
    """Between two looks."""
    folder = write(tmp_path / "run", *training(0.5)[:-1])
    with FileLock(folder / ".lock"):
        lines, stop = followed(folder, lambda: write(folder, *training(0.25), FINISHED))
    assert (len(lines), stop) == (5, None)


def test_who_joins_late_sees_the_right_times(tmp_path: Path) -> None:
    """A stage that is half done after half an hour has half an hour left, and began half an hour ago."""
    folder = write(
        tmp_path / "run",
        *training()[:4],
        *(event(n * 60, "step", spent=n / 60) for n in range(31)),
        FINISHED,
    )
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=160)

    class Look(Watch):
        def show(self, event: Event) -> None:
            super().show(event)
            self._bars.progress.refresh()

    follow(folder, Look(console, clock=lambda: event(1800, "say").at))
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.getvalue())
    assert "30:00, 30:00 left" in [shown for shown in plain.splitlines() if shown.strip()][-1]


# How it ends.


def test_a_killed_run_is_said_to_be(tmp_path: Path) -> None:
    """Its journal has no end, and nobody holds its folder."""
    _, stop = followed(write(tmp_path / "run", *training(0.25, 0.45)[:-1]))
    assert stop == Stop(where="1/2 dpo-beta0.1@0: training, dpo, 45% of the stage spent", why="killed")


def test_a_run_killed_while_it_is_followed_is_said_to_be(tmp_path: Path) -> None:
    """As soon as it let go."""
    folder = write(tmp_path / "run", *training()[:4])
    lock = FileLock(folder / ".lock")
    lock.acquire()
    _, stop = followed(folder, lock.release)
    assert stop == Stop(where="1/2 dpo-beta0.1@0: training, dpo", why="killed")


def test_what_was_written_last_is_not_missed(tmp_path: Path) -> None:
    """It finished, and let go, between two looks."""
    folder = write(tmp_path / "run", *training()[:4])
    lock = FileLock(folder / ".lock")
    lock.acquire()

    def finish() -> None:
        write(folder, event(5, "done", "75%"), FINISHED)
        lock.release()

    lines, stop = followed(folder, finish)
    assert (len(lines), stop) == (2, None)


def test_an_end_at_the_moment_of_asking_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run finished and let go just before the follower asked: its journal is read after that."""
    folder = write(tmp_path / "run", *training()[:4])
    answers = iter([lambda: True, lambda: bool(write(folder, FINISHED)) and False])
    monkeypatch.setattr("harness.following.is_at_work", lambda folder: next(answers)())
    _, stop = followed(folder)
    assert stop is None


def test_an_interrupted_run_says_where_and_how_to_go_on(tmp_path: Path) -> None:
    """In one line that can be pasted into a shell, whatever the folder is called."""
    folder = write(tmp_path / "my run", *training(0.25)[:-1], INTERRUPTED)
    _, stop = followed(folder)
    assert stop is not None
    said = stop.line(folder)
    assert said.startswith(
        "stopped at 1/2 dpo-beta0.1@0: training, dpo, 25% of the stage spent (interrupted); to go on: "
    )
    assert said.endswith(f"run --config '{folder}/bench.toml' --out '{folder}'")


def test_a_folder_without_a_journal_holds_no_run(tmp_path: Path) -> None:
    """Nor does one that is not there."""
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(HarnessError, match="holds no run to watch"):
            followed(folder)


def test_looking_at_a_folder_writes_nothing_into_it(tmp_path: Path) -> None:
    """No lock where there was none."""
    folder = write(tmp_path / "run", *training())
    followed(folder)
    assert [path.name for path in folder.iterdir()] == ["progress.jsonl"]


def test_a_lock_is_seen_and_left_as_it_is(tmp_path: Path) -> None:
    """Whoever held it holds it still."""
    with FileLock(tmp_path / ".lock"):
        assert is_at_work(tmp_path)
        assert is_at_work(tmp_path)
    assert not is_at_work(tmp_path)


# The command.


def expect_one_line(ended: Finished, *words: str) -> None:
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (2, "", 1)
    assert all(word in ended.err for word in words)


def test_watching_a_folder_without_a_run_is_one_line(tmp_path: Path) -> None:
    """It says what to give."""
    expect_one_line(harness("run", "--watch-only", tmp_path, cache=tmp_path), "holds no run to watch", str(tmp_path))


@pytest.mark.parametrize(
    "option", [("--recipes", "sft"), ("--out", "x"), ("--judge", "probe"), ("--eval-prompts", "9")]
)
def test_an_option_that_asks_for_a_run_is_refused_beside_it(tmp_path: Path, option: tuple[str, str]) -> None:
    """Rather than passed over."""
    folder = write(tmp_path / "run", FINISHED)
    expect_one_line(
        harness("run", "--watch-only", folder, *option, cache=tmp_path), option[0], "--watch-only", "leave it out"
    )


def test_a_finished_run_ends_with_its_table(tmp_path: Path) -> None:
    """As its own terminal did: the answer and where the report is."""
    folder = write(write_run(tmp_path / "run", FakeRun()), *training(0.5), FINISHED)
    report = harness("report", folder, cache=tmp_path)
    ended = harness("run", "--watch-only", folder, cache=tmp_path)
    assert (ended.code, ended.out) == (0, report.out)


def test_a_run_with_failed_trials_ends_with_3(tmp_path: Path) -> None:
    """As it does itself."""
    folder = write_run(tmp_path / "run", FakeRun(failed={"mine@0": "no such kernel"}))
    assert harness("run", "--watch-only", write(folder, *training(0.5), FINISHED), cache=tmp_path).code == 3


def test_a_stopped_run_ends_with_130_and_a_line(tmp_path: Path) -> None:
    """And no table of half a run."""
    ended = harness("run", "--watch-only", write(tmp_path / "run", *training(0.25)[:-1], INTERRUPTED), cache=tmp_path)
    assert (ended.code, ended.out, ended.err.splitlines()[-1][:10]) == (130, "", "stopped at")


def test_watching_imports_nothing_heavy(tmp_path: Path) -> None:
    """Neither torch nor Matplotlib: it takes no memory from the run that it watches."""
    (tmp_path / "sitecustomize.py").write_text(NO_TORCH)
    folder = write(write_run(tmp_path / "run", FakeRun()), *training(0.5), FINISHED)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    watched = subprocess.run(command("run", "--watch-only", folder), env=environment, capture_output=True, text=True)
    assert watched.returncode == 0, watched.stderr


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "harness", *map(str, words)]


def test_ctrl_c_ends_the_watching_alone(tmp_path: Path) -> None:
    """Exit 130, one line, and the run still has its folder."""
    folder = write(tmp_path / "run", *training()[:4])
    with FileLock(folder / ".lock"):
        watching = subprocess.Popen(
            command("run", "--watch-only", folder), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert watching.stderr is not None
        assert "training, dpo" in watching.stderr.readline()
        watching.send_signal(signal.SIGINT)
        out, said = watching.communicate(timeout=60)
        assert is_at_work(folder)
    assert (watching.returncode, out, said.splitlines()[-1]) == (130, "", "no longer watching; the run goes on")


# A real run.


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The words of a small bench and where it lies."""

    words: tuple[object, ...]
    folder: Path
    cache: Path

    def start(self, *words: str) -> subprocess.Popen[str]:
        """In a process of its own, in a pipe, on one thread: so small a model is slower on several."""
        settings = {"PREFBENCH_CACHE": str(self.cache), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
        return subprocess.Popen(
            command(*(words or self.words)),
            env={**os.environ, **settings},
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, kind: str, process: subprocess.Popen[str]) -> None:
        """Until such an event is in the journal."""
        tail = Tail(self.folder / "progress.jsonl")
        while not any(happened.kind == kind for happened in tail.read()):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)

    def watch(self) -> Finished:
        """`run --watch-only` on it, in this process."""
        return harness("run", "--watch-only", self.folder, cache=self.cache)


def bench(root: Path, model: Path, *, budget: str, recipes: str) -> Bench:
    data, folder = write_sums(root / "sums.jsonl", 80), root / "run"
    flags = {"model": model, "data": data, "budget": budget, "recipes": recipes, "judge": "rule:gold", "out": folder}
    words = [
        word
        for name, value in {**flags, "eval-prompts": 6, "max-new-tokens": 6}.items()
        for word in (f"--{name}", value)
    ]
    return Bench(words=("run", *words), folder=folder, cache=root / "cache")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> tuple[Finished, Finished, Bench]:
    """A run followed from its beginning: how it ended, how the watching did."""
    root = tmp_path_factory.mktemp("followed")
    asked = bench(root, tiny_model_folder, budget="320pairs", recipes="sft,dpo")
    process = asked.start()
    asked.wait_for("plan", process)
    watched = asked.watch()
    out, err = process.communicate(timeout=120)
    return Finished(code=process.returncode, out=out, err=err), watched, asked


def test_a_follower_in_a_pipe_writes_what_the_run_writes(both: tuple[Finished, Finished, Bench]) -> None:
    """Line by line, with the same times and the same losses; the speed and the time left may differ a little."""
    ran, watched, _ = both

    def plain(text: str) -> list[str]:
        return [re.sub(r", [\d,]+ tok/s|; .*left$", "", shown) for shown in text.splitlines()]

    assert len(plain(ran.err)) > 20
    assert plain(watched.err) == plain(ran.err)


def test_a_follower_ends_with_the_table_of_the_run(both: tuple[Finished, Finished, Bench]) -> None:
    """And with its exit code."""
    ran, watched, _ = both
    assert (watched.code, watched.out) == (ran.code, ran.out)
    assert ran.code == 0


def test_a_run_says_its_time_left(both: tuple[Finished, Finished, Bench]) -> None:
    """From the end of the first trial on without a doubt, in both."""
    for ended in both[:2]:
        ends = [shown for shown in ended.err.splitlines() if "2/3 sft@0: reward accuracy" in shown]
        assert [bool(re.search(r"; \d+:\d\d left$", shown)) for shown in ends] == [True]


def test_a_finished_run_can_be_watched_again(both: tuple[Finished, Finished, Bench]) -> None:
    """It says the same, and ends at once."""
    _, watched, asked = both
    assert asked.watch() == watched


def test_a_plan_is_true(both: tuple[Finished, Finished, Bench]) -> None:
    """Every phase that came was planned, in its order, and every planned one came."""
    happened = Tail(both[2].folder / "progress.jsonl").read()
    planned = next(e.ahead for e in happened if e.kind == "plan")
    came: list[list[str]] = []
    for e in happened:
        if e.kind == "begin":
            came.append([])
        if e.kind == "phase":
            came[-1].append(e.text)
    assert came == [[part.what for part in ahead.parts] for ahead in planned]


def test_a_plan_counts_what_is_shared_once(both: tuple[Finished, Finished, Bench]) -> None:
    """The anchor is trained for itself, so DPO has its second stage alone."""
    planned = next(e.ahead for e in Tail(both[2].folder / "progress.jsonl").read() if e.kind == "plan")
    stages = [[part.what for part in ahead.parts if part.unit == "FLOP"] for ahead in planned]
    assert stages == [["training, sft"], ["training, sft"], ["training, dpo"]]
    assert planned[0].parts[0].work == pytest.approx(0.4 * planned[1].parts[0].work, rel=0.1)


def test_a_killed_run_is_followed_to_its_end_and_gone_on_with(tmp_path: Path, tiny_model_folder: Path) -> None:
    """SIGKILL in the midst of training; then the command that the follower says brings it to its end."""
    asked = bench(tmp_path, tiny_model_folder, budget="3000pairs", recipes="sft")
    process = asked.start()
    asked.wait_for("step", process)
    process.kill()
    process.communicate()
    stopped = asked.watch()
    said = stopped.err.splitlines()[-1]
    assert (stopped.code, stopped.out) == (130, "")
    assert re.match(
        r"stopped at 1/2 anchor and judges: training, sft, \d+% of the stage spent \(killed\); to go on: ", said
    )
    again = asked.start(*said.partition("python -m harness ")[2].split())
    out, _ = again.communicate(timeout=120)
    assert (again.returncode, asked.watch().out) == (0, out)


def test_what_is_done_is_not_planned_again(tmp_path: Path, tiny_model_folder: Path) -> None:
    """A run that goes on has its rest ahead of it: here the verdicts of one trial."""
    asked = bench(tmp_path, tiny_model_folder, budget="48pairs", recipes="sft,dpo")
    first = harness(*asked.words, cache=asked.cache)
    trial = asked.folder / "trials" / "sft@0"
    (trial / "verdicts.jsonl").unlink()
    harness(*asked.words, cache=asked.cache)
    plans = [e.ahead for e in Tail(asked.folder / "progress.jsonl").read() if e.kind == "plan"]
    assert first.code == 0
    assert [[part.what for part in ahead.parts] for ahead in plans[-1]] == [[], ["judging"], []]


def test_a_failed_trial_is_told_to_who_follows(
    tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its reason, and exit 3."""
    install_stranger(tmp_path / "site", monkeypatch, loss="raise RuntimeError('no such kernel')")
    asked = bench(tmp_path, tiny_model_folder, budget="32pairs", recipes="strange,sft")
    ran, watched = harness(*asked.words, cache=asked.cache), asked.watch()
    assert (ran.code, watched.code) == (3, 3)
    assert "strange@0: failed: RuntimeError: no such kernel" in watched.err


def test_a_run_whose_journal_cannot_be_written_is_done_all_the_same(tmp_path: Path, tiny_model_folder: Path) -> None:
    """A full disk for progress is no reason to lose a run; its records have room here."""
    asked = bench(tmp_path, tiny_model_folder, budget="32pairs", recipes="sft")
    harness(*asked.words, cache=asked.cache)
    (asked.folder / "progress.jsonl").unlink()
    (asked.folder / "progress.jsonl").symlink_to("/dev/full")
    shutil.rmtree(asked.folder / "trials")
    assert harness(*asked.words, cache=asked.cache).code == 0
    assert (asked.folder / "trials" / "sft@0" / "scores.json").exists()
