"""The whole bench, on a tiny model: from what was asked to the report, whole again after any interruption."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from evals import divergence, rewards
from harness import bench, resolution, way
from harness.progress import Watch
from harness.recipes.registry import choose
from harness.records import SCHEMA, TrainStep
from harness.store import read_jsonl
from harness.training import reference, train
from harness.training.footprint import Footprint
from models import generation, packing
from models.packing import Row
from reports import build
from tests.harness.door import Finished, harness, install_stranger, write_sums

CORE = [choice.name for choice in choose(["core"])]
BUDGET = 4e9
TRIAL_FILES = {"train.jsonl", "ledger.json", "completions.jsonl", "samples.jsonl", "pairs.jsonl", "verdicts.jsonl"}


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run's folder, the cache it used, and how the command ended."""

    folder: Path
    cache: Path
    ended: Finished

    @property
    def report(self) -> dict[str, Any]:
        """report.json without what differs from one run to the next."""
        report: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return {name: value for name, value in report.items() if name != "timing"}

    @property
    def resolved(self) -> dict[str, Any]:
        """What bench.toml was resolved to."""
        tables: dict[str, Any] = tomllib.loads((self.folder / "bench.toml").read_text())["resolved"]
        return tables

    def trials(self, recipe: str) -> list[dict[str, Any]]:
        return [trial for trial in self.report["trials"] if trial["recipe"] == recipe]

    def times(self) -> dict[str, int]:
        """When each file that costs work was written: checkpoints, logs, completions, verdicts, scores."""
        roots = (self.folder / "anchor", self.folder / "trials", self.folder / "judges", self.cache / "nodes")
        files = [f for root in roots for f in root.rglob("*") if f.is_file() and f.suffix != ".lock"]
        return {f.as_posix(): f.stat().st_mtime_ns for f in files}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where benches of one test run: a folder, a cache, and the flags that they have in common."""

    root: Path
    flags: dict[str, object]

    def run(self, *, name: str = "run", cache: str = "cache", **flags: object) -> Run:
        """`harness run` with the common flags and these over them."""
        given = {"out": self.root / name, **self.flags, **flags}
        judges = given.pop("judge", "rule:gold")
        words: list[object] = [part for judge in str(judges).split() for part in ("--judge", judge)]
        for flag, value in given.items():
            words += [f"--{flag.replace('_', '-')}", value]
        ended = harness("run", *words, cache=self.root / cache)
        return Run(folder=Path(str(given["out"])), cache=self.root / cache, ended=ended)

    def config(self, path: Path, *, name: str, cache: str) -> Run:
        """`harness run --config PATH` and nothing else but where to."""
        ended = harness("run", "--config", path, "--out", self.root / name, cache=self.root / cache)
        return Run(folder=self.root / name, cache=self.root / cache, ended=ended)


def small(root: Path, model: Path) -> Place:
    """Benches of 48 pairs and 6 held-out prompts: a second each."""
    data = write_sums(root / "sums.jsonl", 80)
    flags = {"model": model, "data": data, "budget": "48pairs", "eval_prompts": 6, "max_new_tokens": 6}
    return Place(root=root, flags={**flags, "recipes": "sft,dpo"})


@pytest.fixture
def place(tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Drawing takes most of a small run's time, and `core` and tests/reports do it: here figures are empty."""
    monkeypatch.setattr(build, "svg", lambda figure: b"<svg></svg>")
    monkeypatch.setattr(build, "png", lambda figure: b"")
    return small(tmp_path, tiny_model_folder)


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Run:
    """The seven recipes on one budget in FLOPs, judged by the truth, a probe and length."""
    root = tmp_path_factory.mktemp("core")
    judges = f"rule:gold probe:{tiny_model_folder} rule:length"
    flags = {"recipes": "all", "budget": f"{BUDGET / 1e9:g}GFLOP", "eval_prompts": 12}
    return small(root, tiny_model_folder).run(judge=judges, **flags)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Run:
    """The small bench that others are interrupted in."""
    return small(tmp_path_factory.mktemp("whole"), tiny_model_folder).run(judge=f"probe:{tiny_model_folder}")


# A run and its report.


def test_all_recipes_run_to_a_report(core: Run) -> None:
    """Seven trials, in the order of the group."""
    assert (core.ended.code, [trial["recipe"] for trial in core.report["trials"]]) == (0, CORE)


def test_the_run_ends_with_its_answer_and_the_reports_path(core: Run) -> None:
    """What was asked is answered on the terminal too."""
    lines = core.ended.out.splitlines()
    assert " ".join(core.ended.out.split()).startswith(core.report["answer"][:60])
    assert lines[-1].endswith(str(core.folder / "report.md"))


def test_a_piped_run_says_plainly_where_it_is(core: Run) -> None:
    """One line a trial at least, no control characters."""
    assert "\x1b" not in core.ended.err
    assert all(f"{number}/8 {name}@0: " in core.ended.err for number, name in enumerate(CORE, 2))


def test_the_folder_is_as_the_design_says(core: Run) -> None:
    """Every file where other programs look for it."""
    figures = {f"figures/{name}.{kind}" for name in ("frontier", "training") for kind in ("svg", "png")}
    reports = {"bench.toml", "report.json", "report.md", "report.html", "comparisons.json", "agreements.json"}
    anchor = {"anchor/completions.jsonl", "anchor/pairs.jsonl"}
    trials = {f"trials/{name}@0/{file}" for name in CORE for file in (*TRIAL_FILES, "scores.json")}
    found = {path.relative_to(core.folder).as_posix() for path in core.folder.rglob("*") if path.is_file()}
    assert figures | reports | anchor | trials | {"judges/rule_gold.json"} <= found


def test_a_folder_holds_no_litter(core: Run) -> None:
    """No temporary file is left; what is hidden is the lock alone."""
    assert [path.name for path in core.folder.rglob(".*") if path.name != ".lock"] == []


def test_scores_are_the_last_file_of_a_trial(core: Run) -> None:
    """Their being there means done."""
    folder = core.folder / "trials" / "dpo-beta0.1@0"
    assert max(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns).name == "scores.json"


def test_the_report_is_of_schema_1(core: Run) -> None:
    """The keys that the issue names."""
    assert (SCHEMA, core.report["schema"]) == (1, 1)
    assert {"bench", "trials", "judge", "answer", "warnings"} <= set(core.report)
    assert {"name", "accuracy", "robust", "qualified"} <= set(core.report["judge"])
    assert {"value", "low", "high", "n"} <= set(core.report["judge"]["accuracy"])
    assert all({"recipe", "seed", "scores", "ledger"} <= set(trial) for trial in core.report["trials"])


def test_every_score_has_its_interval_n_and_unit(core: Run) -> None:
    """And its value lies in it."""
    scores = [score for trial in core.report["trials"] for score in trial["scores"].values()]
    assert scores
    assert all(set(score) == {"value", "low", "high", "n", "unit"} for score in scores)
    assert all(score["low"] <= score["value"] <= score["high"] and score["n"] > 0 for score in scores)


WANTED_SCORES = (
    *("reward_accuracy", "reward_margin_nats", "ranking_accuracy", "chosen_shift_nats", "kl_nats"),
    *("gold_win_rate", "win_rate[rule:gold]", "win_rate[rule:length]", "length_tokens", "truncated"),
    *("repetition", "opening_concentration", "correct"),
)


@pytest.mark.parametrize("name", WANTED_SCORES)
def test_every_trial_has_every_score(core: Run, name: str) -> None:
    """What the issue asks for, for all recipes alike."""
    assert [trial["recipe"] for trial in core.report["trials"] if name not in trial["scores"]] == []


def test_the_win_rate_by_the_truth_is_the_gold_win_rate(core: Run) -> None:
    """Two roads, through verdicts and through the checker, to one number."""
    for trial in core.report["trials"]:
        scores = trial["scores"]
        assert scores["win_rate[rule:gold]"]["value"] == pytest.approx(scores["gold_win_rate"]["value"])


def test_all_trials_spend_the_same_flops(core: Run) -> None:
    """At most 1% of the budget is unspent, and nothing is overspent."""
    spent = {trial["recipe"]: trial["ledger"]["flops"] / BUDGET for trial in core.report["trials"]}
    assert {name: share for name, share in spent.items() if not 0.99 <= share <= 1} == {}


def test_sft_is_one_stage_and_dpo_two(core: Run) -> None:
    """The anchor has 40% of the budget, and SFT on its own all of it."""
    shares = [[s["budget_flops"] / BUDGET for s in t["ledger"]["stages"]] for t in core.report["trials"]]
    assert shares == [[1.0], *(pytest.approx([0.4, 0.6]) for _ in CORE[1:])]


def test_what_recipes_share_is_trained_once(core: Run) -> None:
    """One anchor, seven ends and one reference pass lie in the cache; what sharing saved is shown apart."""
    assert sum(path.is_dir() for path in (core.cache / "nodes").iterdir()) == 9
    assert [trial["ledger"]["shared_flops"] > 0 for trial in core.report["trials"]] == [False] + 6 * [True]


def test_every_judge_has_its_card(core: Run, tiny_model_folder: Path) -> None:
    """In the order they were asked for; the first one decides."""
    names = ["rule:gold", f"probe:{tiny_model_folder}", "rule:length"]
    assert [card["name"] for card in core.report["judges"]] == names
    assert core.report["judge"]["name"] == "rule:gold"


def test_every_judge_judges_every_held_out_prompt(core: Run) -> None:
    """Twelve prompts, three judges, two opponents, one line each, whether it could say or not."""
    lines = (core.folder / "trials" / "sft@0" / "verdicts.jsonl").read_text().splitlines()
    verdicts = [json.loads(line) for line in lines]
    assert len(lines) == len({(v["judge"], v["prompt_id"], v["against"]) for v in verdicts}) == 72


def test_every_pair_of_trials_is_compared(core: Run) -> None:
    """Seven recipes are 21 pairs on KL; on the win rate, which decides, the anchor is one of eight: 28."""
    metrics = [comparison["metric"] for comparison in core.report["comparisons"]]
    assert (metrics.count("gold_win_rate"), metrics.count("kl_nats")) == (28, 21)


def test_every_trial_has_its_joint_scores(core: Run, tiny_model_folder: Path) -> None:
    """At equal length and against the data's own responses, by every judge; corrected, where its card says how."""
    for kind in ("controlled", "chosen", "corrected"):
        for judge in (f"probe:{tiny_model_folder}", "rule:length"):
            name = f"win_rate_{kind}[{judge}]"
            assert [trial["recipe"] for trial in core.report["trials"] if name not in trial["scores"]] == [], name


def test_trials_are_ranked_by_the_check_and_by_the_probe(core: Run, tiny_model_folder: Path) -> None:
    """The anchor is 0 in both orders, and the second says how like the first it is."""
    check, probe = core.report["rankings"]
    assert [check["judge"], probe["judge"]] == ["the data's check", f"probe:{tiny_model_folder}"]
    assert set(check["strengths"]) == {"anchor", *CORE}
    assert check["strengths"]["anchor"]["value"] == 0
    assert (check["agreement"], probe["agreement"] is None or -1 <= probe["agreement"] <= 1) == (None, True)


# Several seeds, and enough prompts.


def test_several_seeds_of_a_recipe_are_compared_as_one(place: Place) -> None:
    report = place.run(seeds=2).report
    assert [recipe["recipe"] for recipe in report["recipes"]] == ["sft", "dpo-beta0.1"]
    assert {(c["a"], c["b"], c["seeds"]) for c in report["comparisons"] if c["metric"] == "kl_nats"} == {
        ("sft", "dpo-beta0.1", 2)
    }
    assert "2 seeds of each recipe were trained, and every interval covers seeds and prompts alike" in report["answer"]


def test_precision_adds_prompts_until_there_are_no_more(place: Place) -> None:
    """Looks are planned: each at twice as many prompts as the last. What was answered is kept."""
    run = place.run(precision="1pp")
    assert "no more to ask" in run.ended.err
    looks = json.loads((run.folder / "looks.json").read_text())
    assert [look["prompts"] for look in looks] == [6, 12]
    trial = run.folder / "trials" / "sft@0"
    lines = {name: len((trial / f"{name}.jsonl").read_text().splitlines()) for name in ("completions", "samples")}
    assert lines == {"completions": 12, "samples": 6}
    assert run.report["trials"][0]["scores"]["gold_win_rate"]["n"] == 12
    before = run.times()
    assert place.run(precision="1pp").times() == before


def test_the_widened_run_has_the_scores_of_a_wide_one(place: Place) -> None:
    """Twelve prompts in two looks are the twelve prompts of one."""
    widened, wide = place.run(precision="1pp"), place.run(name="wide", eval_prompts=12)
    for mine, theirs in zip(widened.report["trials"], wide.report["trials"], strict=True):
        assert mine["scores"]["gold_win_rate"] == theirs["scores"]["gold_win_rate"]


def test_a_run_interrupted_while_it_adds_prompts_goes_on_to_the_same_report(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first trial has answered twelve prompts and the second six: the last look that was written down is six."""
    with monkeypatch.context() as patch:
        patch.setattr(bench, "judge_completions", after(3, bench.judge_completions))
        assert place.run(precision="1pp").ended.code == 130
    looks = json.loads((place.root / "run" / "looks.json").read_text())
    assert [look["prompts"] for look in looks] == [6]
    assert place.run(precision="1pp").report == place.run(name="whole", cache="other", precision="1pp").report


def test_precision_that_is_reached_asks_no_more(place: Place) -> None:
    """All prompts agree, so the other 30% that three of ten could be are what is not known."""
    run = place.run(precision="30pp", eval_prompts=10)
    assert ": enough" in run.ended.err
    assert [look["prompts"] for look in json.loads((run.folder / "looks.json").read_text())] == [10]


@pytest.mark.parametrize("precision", ["3", "0pp", "80pp", "pp", "3%"])
def test_a_precision_that_is_none_is_one_line(place: Place, precision: str) -> None:
    run = place.run(precision=precision)
    assert (run.ended.code, run.ended.err.count("\n")) == (2, 1)
    assert f"--precision {precision!r} is no number of points: write 3pp" in run.ended.err
    assert not run.folder.exists()


# Running again.


def test_finished_trials_are_not_computed_again(core: Run, tiny_model_folder: Path) -> None:
    """The same command ends at once with the same report, and writes nothing that costs work."""
    before, report = core.times(), core.report
    judges = f"rule:gold probe:{tiny_model_folder} rule:length"
    flags = {"recipes": "all", "budget": f"{BUDGET / 1e9:g}GFLOP", "eval_prompts": 12, "max_new_tokens": 6}
    data = core.folder.parent / "sums.jsonl"
    place = Place(root=core.folder.parent, flags={**flags, "model": tiny_model_folder, "data": data})
    again = place.run(judge=judges)
    assert (again.ended.code, again.times(), again.report) == (0, before, report)


def test_the_bench_file_with_an_empty_cache_gives_the_same_report(uninterrupted: Run, tmp_path: Path) -> None:
    """All that a run hangs on is in bench.toml."""
    place = Place(root=tmp_path, flags={})
    again = place.config(uninterrupted.folder / "bench.toml", name="again", cache="empty")
    assert (again.ended.code, again.report) == (0, uninterrupted.report)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_bench_begun_in_one_dtype_is_run_again_in_it(
    place: Place, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    """Whatever the machine that runs it again is fastest in."""
    monkeypatch.setattr(resolution, "choose_dtype", lambda device: getattr(torch, dtype))
    first = place.run(recipes="dpo")
    other = {"float32": torch.bfloat16, "bfloat16": torch.float32}[dtype]
    monkeypatch.setattr(resolution, "choose_dtype", lambda device: other)
    again = place.config(first.folder / "bench.toml", name="again", cache="empty")
    assert (first.ended.code, first.resolved["dtype"], again.report) == (0, dtype, first.report)


def test_the_dtype_can_be_asked_for(place: Place) -> None:
    """It changes rounding, and nothing but rounding."""
    runs = [place.run(name=dtype, dtype=dtype, recipes="sft") for dtype in ("float32", "bfloat16")]
    assert [run.resolved["dtype"] for run in runs] == ["float32", "bfloat16"]
    whole, half = (run.trials("sft")[0]["scores"]["chosen_perplexity"]["value"] for run in runs)
    assert half != whole
    assert half == pytest.approx(whole, rel=0.02)


def test_a_bench_begun_in_seconds_is_run_again_in_its_flops(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time is turned into FLOPs once: neither a continued run nor its bench.toml calibrates again."""
    first = place.run(budget="0.5s", recipes="sft")
    assert (first.ended.code, "calibrating" in first.ended.err) == (0, True)
    again, copied = place.run(budget="0.5s", recipes="sft"), first.folder / "bench.toml"
    other = place.config(copied, name="other", cache="empty")
    assert [run.ended.err.count("calibrating") for run in (again, other)] == [0, 0]
    assert again.report == other.report == first.report


def completions(run: Run) -> dict[str, str]:
    """What each checkpoint wrote."""
    return {path.parent.name: path.read_text() for path in run.folder.rglob("completions.jsonl")}


def test_a_run_that_gets_less_memory_gives_the_same_but_for_rounding(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Micro-batches of one row, answers one by one: the same completions, nearly the same losses; and it says so."""
    place.flags["dtype"] = "float32"  # in bfloat16 rounding may decide a token
    first = place.run(memory="64GB")
    monkeypatch.setattr(Footprint, "training", lambda self, tokens, longest: 10**9 * tokens // longest)
    monkeypatch.setattr(Footprint, "reading", lambda self, tokens, longest: 10**9 * tokens // longest)
    monkeypatch.setattr(Footprint, "writing", lambda self, answers, longest: 10**9 * answers)
    second = place.run(memory="1GB", name="less", cache="less")
    assert (first.ended.code, second.ended.code) == (0, 0)
    assert "to fit into 1.0 GB of memory, a micro-batch holds" in second.ended.err
    assert first.resolved["micro_batch_tokens"] == 2048 > second.resolved["micro_batch_tokens"]
    assert completions(first) == completions(second)
    logs = [read_jsonl(next(run.folder.glob("trials/dpo*/train.jsonl")), TrainStep) for run in (first, second)]
    losses = [[step.loss for step in log] for log in logs]
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5)
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)  # AdamW's first steps make much of rounding
    memory = [json.loads((run.folder / "record.json").read_text())["memory"] for run in (first, second)]
    assert memory[0] == "64GB, micro-batches of at most 2,048 tokens"
    assert memory[1].startswith("1GB, micro-batches of at most ")
    assert "| Memory | 64GB, micro-batches" in (first.folder / "report.md").read_text()


def test_a_run_is_continued_with_other_memory(place: Place) -> None:
    """Nothing is trained or measured again, and its bench file says what it was last given."""
    first = place.run(recipes="sft")
    before = first.times()
    again = place.run(recipes="sft", memory="32GB")
    assert (again.ended.code, again.times()) == (0, before)
    assert tomllib.loads((first.folder / "bench.toml").read_text())["asked"]["memory"] == "32GB"


def test_a_bench_that_runs_out_of_memory_goes_on(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """In training, in reading and in writing; said once each, kept for all trials, and to the same completions."""
    place.flags["dtype"] = "float32"  # in bfloat16 rounding may decide a token
    whole = place.run()
    real_pack, real_rows = packing.pack, generation._Rows.__init__

    def scarce(rows: Sequence[Row], **settings: Any) -> packing.Packed:
        if len(rows) > 9 and rows[0].responses:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real_pack(rows, **settings)

    def scarce_rows(self: Any, decoder: Any, prompts: list[Any], *more: Any) -> None:
        if len(prompts) > 4:
            raise MemoryError
        real_rows(self, decoder, prompts, *more)

    for module in (train, reference, rewards, divergence):
        monkeypatch.setattr(module, "pack", scarce)
    monkeypatch.setattr(generation._Rows, "__init__", scarce_rows)
    scarcely = place.run(name="scarce", cache="scarce")
    assert (whole.ended.code, scarcely.ended.code) == (0, 0), scarcely.ended.err
    told = [line for line in scarcely.ended.err.splitlines() if "out of memory: " in line]
    assert [line.count("writing of") for line in told].count(1) == 1
    assert len(told) <= 5
    assert completions(whole) == completions(scarcely)


def test_a_budget_in_seconds_is_kept_in_flops(place: Place) -> None:
    """Seconds times the measured speed, which stands beside it."""
    resolved = place.run(budget="0.5s", recipes="sft").resolved
    assert resolved["budget_flops"] == pytest.approx(0.5 * resolved["flops_per_second"], rel=1e-6)


def raise_interrupt(*args: object, **settings: object) -> Any:
    raise KeyboardInterrupt


def after(calls: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """The real function until it was called so often, then a Ctrl-C."""
    counted = iter(range(calls))
    return lambda *args, **settings: (real if next(counted, None) is not None else raise_interrupt)(*args, **settings)


INTERRUPTS = {
    "the anchor's training": (Watch, "step", 1),
    "the anchor's completions": (bench, "complete", 0),
    "the judge's fitting": (bench.Probe, "fit", 0),
    "the judge's qualification": (bench, "qualify", 0),
    "a trial's training": (Watch, "step", 3),
    "a trial's way": (way, "observe", 1),
    "the scores of its way": (bench, "score_waypoint", 0),
    "a trial's completions": (bench, "complete", 1),
    "a trial's samples": (bench, "measure_samples", 0),
    "a trial's log-probs": (bench, "measure_pairs", 1),
    "a trial's verdicts": (bench, "judge_completions", 0),
    "a trial's scores": (bench, "score_trial", 1),
    "the comparisons": (bench, "conclude", 0),
    "the report": (bench, "build_report", 0),
}


@pytest.mark.parametrize("where", INTERRUPTS)
def test_an_interrupted_run_is_continued_to_the_same_report(
    place: Place, uninterrupted: Run, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Wherever Ctrl-C comes: exit 130 and one line, then the same command gives what an unbroken run gives."""
    data = uninterrupted.folder.parent / "sums.jsonl"
    owner, name, calls = INTERRUPTS[where]
    judge = f"probe:{tiny_model_folder}"
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, after(calls, getattr(owner, name)))
        stopped = place.run(judge=judge, data=data)
    assert (stopped.ended.code, stopped.ended.err.splitlines()[-1][:12]) == (130, "interrupted:")
    continued = place.run(judge=judge, data=data)
    assert (continued.ended.code, continued.report) == (0, uninterrupted.report)


def test_a_real_interrupt_ends_cleanly(place: Place) -> None:
    """SIGINT to a process of its own in the midst of training: exit 130, no traceback, and no half of a node."""
    given = {"out": place.root / "run", **place.flags, "judge": "rule:gold", "budget": "100000pairs", "recipes": "sft"}
    words = [str(part) for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
    environment = {**os.environ, "PREFBENCH_CACHE": str(place.root / "cache")}
    command = [sys.executable, "-m", "harness", "run", *words]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    nodes = place.root / "cache" / "nodes"
    while process.poll() is None and not any(nodes.glob(".making-*/node")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, said.splitlines()[-1][:12], "Traceback" in said) == (130, "interrupted:", False)
    assert [path.name for path in nodes.iterdir() if path.is_dir()] == []


def test_a_second_run_in_one_folder_is_refused(place: Place) -> None:
    """Two writers would mix their records."""
    folder = place.root / "run"
    folder.mkdir()
    with FileLock(folder / ".lock"):
        ended = place.run().ended
    assert (ended.code, f"another run is at work in {folder}" in ended.err) == (2, True)
    assert [path.name for path in folder.iterdir()] == [".lock"]


@pytest.mark.parametrize("changed", ["data", "model"])
def test_a_bench_is_not_continued_on_other_contents(place: Place, tiny_model_folder: Path, changed: str) -> None:
    """The same path with other bytes in it is another bench."""
    model = place.root / "model"
    shutil.copytree(tiny_model_folder, model)
    first = place.run(model=model, recipes="sft")
    path = {"data": place.root / "sums.jsonl", "model": model / "tokenizer_config.json"}[changed]
    path.write_text(path.read_text() + "\n")
    again = place.run(model=model, recipes="sft").ended
    assert (first.ended.code, again.code, len(again.err.splitlines())) == (0, 2, 1)
    assert f"{changed} " in again.err
    assert "is not what this bench was made with" in again.err


# A stranger's recipe.


def test_a_strangers_recipe_is_compared_like_our_own(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed beside us, named on the command line, in the report: nothing of ours knows of it."""
    install_stranger(place.root / "site", monkeypatch)
    run = place.run(recipes="strange,sft")
    mine, theirs = run.trials("sft")[0], run.trials("strange")[0]
    assert run.ended.code == 0
    assert theirs["scores"]["kl_nats"] == mine["scores"]["kl_nats"]


def test_all_means_strangers_recipes_too(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """After our own."""
    install_stranger(place.root / "site", monkeypatch)
    assert [choice.name for choice in choose(["all"])] == [*CORE, "strange"]


FAULTS = {
    "RuntimeError": "raise RuntimeError('no such kernel')",
    "AttributeError": "return logps.policy_chosn_B",
    "NameError": "return undefined",
    "FileNotFoundError": "raise FileNotFoundError('their table')",
    "ModuleNotFoundError": "import a_package_that_nobody_has",
    "AssertionError": "return logps.policy_chosen_B.mean()",
    "diverged": "return logps.policy_chosen_B * float('nan')",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_recipe_that_fails_does_not_cost_the_others(
    place: Place, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Exit 3; the report has the other trial and says which failed and why."""
    install_stranger(place.root / "site", monkeypatch, loss=FAULTS[fault])
    run = place.run(recipes="strange,sft", budget="32pairs")
    assert (run.ended.code, [trial["recipe"] for trial in run.report["trials"]]) == (3, ["sft"])
    assert fault in run.report["bench"]["failed"]["strange@0"]


def test_a_failed_recipes_author_gets_its_traceback(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file of its trial, which the message names; it goes when the trial succeeds."""
    install_stranger(place.root / "site", monkeypatch, loss="return logps.policy_chosn_B")
    failed = place.run(recipes="strange,sft", budget="32pairs")
    path = failed.folder / "trials" / "strange@0" / "error.txt"
    assert "trials/strange@0/error.txt" in failed.report["bench"]["failed"]["strange@0"]
    assert "strangers.py" in path.read_text()
    monkeypatch.delitem(sys.modules, "strangers")
    install_stranger(place.root / "mended", monkeypatch)
    place.run(recipes="strange,sft", budget="32pairs")
    assert not path.exists()


def test_a_judge_that_is_another_is_refused(
    place: Place, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same name with other weights behind it gives other verdicts: neither continued nor reproduced with it."""
    judge = place.root / "judge"
    shutil.copytree(tiny_model_folder, judge)
    first = place.run(recipes="sft", judge=f"probe:{judge}")
    (judge / "tokenizer_config.json").write_text((judge / "tokenizer_config.json").read_text() + "\n")
    config = place.config(first.folder / "bench.toml", name="other", cache="cache")
    for ended in (place.run(recipes="sft", judge=f"probe:{judge}").ended, config.ended):
        assert (ended.code, len(ended.err.splitlines())) == (2, 1)
        assert "is not what this bench was made with" in ended.err


def test_a_probe_is_fitted_once(place: Place, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A continued run takes up its head."""
    judge = f"probe:{tiny_model_folder}"
    with monkeypatch.context() as patch:
        patch.setattr(bench, "judge_completions", raise_interrupt)
        place.run(recipes="sft", judge=judge)
    monkeypatch.setattr(bench.Probe, "fit", raise_interrupt)
    assert place.run(recipes="sft", judge=judge).ended.code == 0


@pytest.mark.parametrize("budget", ["24pairs", "25pairs", "41pairs"])
def test_a_budget_in_pairs_is_never_overspent(place: Place, budget: str) -> None:
    """Stages get whole pairs, so a log ends at 100% and no learning rate falls below zero."""
    run = place.run(recipes="dpo", budget=budget)
    lines = [json.loads(line) for line in (run.folder / "trials/dpo-beta0.1@0/train.jsonl").read_text().splitlines()]
    assert max(line["spent"] for line in lines) == pytest.approx(1.0)
    assert min(line["learning_rate"] for line in lines) > 0


def test_a_failed_trial_is_tried_again_by_the_next_run(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once its author mended it, the run is whole: exit 0, and no failure is reported."""
    install_stranger(place.root / "site", monkeypatch, loss="raise RuntimeError('not yet')")
    failed = place.run(recipes="strange,sft", budget="32pairs")
    monkeypatch.delitem(sys.modules, "strangers")
    install_stranger(place.root / "mended", monkeypatch)
    mended = place.run(recipes="strange,sft", budget="32pairs")
    assert (failed.ended.code, mended.ended.code, mended.report["bench"]["failed"]) == (3, 0, {})


def test_a_run_whose_only_trial_fails_is_reported(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 3, a report, no traceback."""
    install_stranger(place.root / "site", monkeypatch, loss="raise RuntimeError('no such kernel')")
    run = place.run(recipes="strange", budget="32pairs")
    assert (run.ended.code, run.report["trials"]) == (3, [])
    assert "no such kernel" in (run.folder / "report.md").read_text()


# Seeds, judges and budgets.


def test_seeds_are_trials_of_their_own(place: Place) -> None:
    """Two recipes with two seeds are four trials, each with another checkpoint, on one anchor."""
    run = place.run(seeds=2)
    trials = [(trial["recipe"], trial["seed"]) for trial in run.report["trials"]]
    stages = [stage["digest"] for trial in run.report["trials"] for stage in trial["ledger"]["stages"]]
    assert sorted(trials) == [("dpo-beta0.1", 0), ("dpo-beta0.1", 1), ("sft", 0), ("sft", 1)]
    assert (len(stages), len(set(stages))) == (6, 5)


def test_another_first_seed_is_another_draw_on_the_same_anchor(place: Place) -> None:
    """So a re-run with other luck can be held against a baseline: its own checkpoints, one ruler."""
    here, there = place.run(name="here"), place.run(name="there", first_seed=5)
    (first,), (other,) = here.trials("dpo-beta0.1"), there.trials("dpo-beta0.1")
    digests = [[stage["digest"] for stage in trial["ledger"]["stages"]] for trial in (first, other)]
    assert other["seed"] == 5
    assert digests[0][0] == digests[1][0]
    assert digests[0][1] != digests[1][1]


def test_seeds_answer_the_same_prompts(place: Place) -> None:
    """So that they are crossed with prompts."""
    run = place.run(seeds=2, recipes="sft")
    asked = [
        [json.loads(line)["prompt_id"] for line in path.read_text().splitlines()]
        for path in sorted(run.folder.glob("trials/*/completions.jsonl"))
    ]
    assert len(asked) == 2
    assert asked[0] == asked[1]


def test_a_judge_given_twice_is_asked_once(place: Place) -> None:
    """Its verdicts would count double."""
    run = place.run(judge="rule:length rule:length", recipes="sft")
    verdicts = (run.folder / "trials" / "sft@0" / "verdicts.jsonl").read_text().splitlines()
    assert len(verdicts) == 12  # six prompts, against the anchor's response and the chosen one


@pytest.mark.parametrize(("budget", "pairs"), [("40pairs", 40), ("0.5epochs", 28)])
def test_a_budget_in_pairs_is_consumed_to_the_pair(place: Place, budget: str, pairs: int) -> None:
    """By every recipe, anchor included; 56 pairs are an epoch."""
    run = place.run(budget=budget)
    consumed = [sum(stage["pairs"] for stage in trial["ledger"]["stages"]) for trial in run.report["trials"]]
    assert (run.report["bench"]["rows"]["train"], consumed) == (56, [pairs, pairs])


def test_a_step_has_as_many_pairs_as_asked_for(place: Place) -> None:
    """40 pairs, 5 at a time, are 8 steps."""
    (trial,) = place.run(budget="40pairs", batch_pairs=5, recipes="sft").trials("sft")
    assert [stage["steps"] for stage in trial["ledger"]["stages"]] == [8]


def test_a_flag_beside_a_config_overrules_it(place: Place) -> None:
    """It is another bench then, in a folder of its own."""
    first = place.run(recipes="sft", budget="32pairs")
    config = first.folder / "bench.toml"
    out = place.root / "other"
    ended = harness("run", "--config", config, "--budget", "48pairs", "--out", out, cache=place.root / "cache")
    assert ended.code == 0
    asked = tomllib.loads((out / "bench.toml").read_text())
    assert (asked["asked"]["budget"], asked["asked"]["recipes"], asked["resolved"]["budget_pairs"]) == (
        *("48pairs", ["sft"]),
        48,
    )


def test_the_training_log_has_a_line_a_step(place: Place) -> None:
    """Of both stages, in the field's names."""
    run = place.run(recipes="dpo")
    lines = [json.loads(line) for line in (run.folder / "trials/dpo-beta0.1@0/train.jsonl").read_text().splitlines()]
    steps = [stage["steps"] for stage in run.report["trials"][0]["ledger"]["stages"]]
    assert [sum(line["stage"] == number for line in lines) for number in (0, 1)] == steps
    assert [line["rewards/margins"] is None for line in lines] == steps[0] * [True] + steps[1] * [False]
    assert set(lines[0]) >= {"loss", "grad_norm", "learning_rate", "num_tokens", "rewards/accuracies"}
    assert len(lines[0]) == len(TrainStep.__dataclass_fields__)


def test_scores_made_by_other_code_are_made_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an older version measured, of trials or judges, never passes for this one; nor is it lost."""
    first = place.run(recipes="sft")
    monkeypatch.setattr("harness.bench.measuring_digest", lambda: "another")
    again = place.run(recipes="sft")
    assert "sft@0 was made by other code" in again.ended.err
    assert "judges was made by other code" in again.ended.err
    assert again.report == first.report
    assert {path.name for path in (first.folder / "replaced").iterdir()} == {"anchor", "judges", "sft@0"}
    assert (first.folder / "replaced" / "sft@0" / "scores.json").exists()


@pytest.mark.parametrize(
    "name",
    [
        *(f"trials/sft@0/{name}" for name in ("train.jsonl", "samples.jsonl", "verdicts.jsonl", "ledger.json")),
        *("trials/sft@0/waypoints.jsonl", "paths.json"),
        *("anchor/completions.jsonl", "anchor/train.jsonl", "judges/rule_gold.json", "comparisons.json", "record.json"),
    ],
)
def test_a_lost_file_is_made_again(place: Place, name: str) -> None:
    """By the same command, to the same report."""
    first = place.run(recipes="sft,dpo")
    (first.folder / name).unlink()
    again = place.run(recipes="sft,dpo")
    assert (again.ended.code, again.report) == (0, first.report)
    assert (first.folder / name).exists()


# On the way.


def waypoints(run: Run, trial: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.folder / "trials" / trial / "waypoints.jsonl").read_text().splitlines()]


def test_a_trial_is_scored_on_its_way(core: Run) -> None:
    """DPO begins at the anchor, where nothing is won yet; SFT does not, so its way begins at its first checkpoint."""
    mine, theirs = waypoints(core, "dpo-beta0.1@0"), waypoints(core, "sft@0")
    assert [round(4 * point["spent"]) for point in mine] == [0, 1, 2, 3]
    assert [round(4 * point["spent"]) for point in theirs] == [1, 2, 3]
    assert {name: score["value"] for name, score in mine[0]["scores"].items()} == {
        name: 0.0 if name == "kl_nats" else 0.5 for name in mine[1]["scores"]
    }
    assert {"kl_nats", "reward_accuracy", "gold_win_rate", "win_rate[rule:length]"} <= set(theirs[0]["scores"])


def test_no_weights_of_the_way_are_left(core: Run) -> None:
    """One checkpoint a stage lies in the cache, as before; what was seen lies beside each that was looked at."""
    assert len(list(core.cache.rglob("*.safetensors"))) == 8
    assert len(list(core.cache.rglob("way-*.jsonl"))) == 7


def test_another_folder_finds_what_was_seen_on_the_way(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """With other judges too: nothing is trained or looked at again."""
    first = place.run(name="first", recipes="dpo")
    monkeypatch.setattr(way, "observe", raise_interrupt)
    second = place.run(name="second", recipes="dpo", judge="rule:length")
    assert second.ended.code == 0
    (mine, theirs) = (waypoints(run, "dpo-beta0.1@0")[1]["scores"] for run in (first, second))
    assert "win_rate[rule:length]" in theirs
    assert all(mine[name] == theirs[name] for name in ("kl_nats", "reward_accuracy", "gold_win_rate"))


def test_what_the_cache_lost_of_the_way_is_made_again(place: Place) -> None:
    """The stage is trained once more, to the same waypoints, and its checkpoint stays the same file."""
    first = place.run(name="first", recipes="dpo")
    (seen,) = first.cache.rglob("way-*.jsonl")
    seen.unlink()
    checkpoint = seen.with_name("checkpoint.safetensors")
    before = checkpoint.stat().st_mtime_ns
    second = place.run(name="second", recipes="dpo")
    assert waypoints(second, "dpo-beta0.1@0") == waypoints(first, "dpo-beta0.1@0")
    assert checkpoint.stat().st_mtime_ns == before


def test_a_run_without_waypoints_is_still_reported(place: Place) -> None:
    """It was made before there were any."""
    run = place.run(recipes="sft,dpo")
    for path in (*run.folder.glob("trials/*/waypoints.jsonl"), run.folder / "paths.json"):
        path.unlink()
    ended = harness("report", run.folder, cache=run.cache)
    assert (ended.code, run.report["paths"], len(run.report["trials"])) == (0, [], 2)


def test_a_report_without_its_judges_card_is_refused(place: Place) -> None:
    """Else it would be silent about the judge."""
    run = place.run(recipes="sft")
    (run.folder / "judges" / "rule_gold.json").unlink()
    ended = harness("report", run.folder, cache=run.cache)
    assert (ended.code, "has no card of judge 'rule:gold'" in ended.err) == (2, True)


def test_a_row_without_gold_is_said_to_switch_the_check_off(place: Place) -> None:
    """It decides what the answer rests on."""
    path = place.root / "sums.jsonl"
    first, *rest = path.read_text().splitlines()
    row = {name: value for name, value in json.loads(first).items() if name != "gold"}
    path.write_text("\n".join([json.dumps(row), *rest]))
    run = place.run(recipes="sft")
    assert "1 of 80 rows have no readable 'gold'" in " ".join(run.report["warnings"])


def test_a_recipe_that_exits_costs_no_other_trial(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor the run its report."""
    install_stranger(place.root / "site", monkeypatch, loss="raise SystemExit(7)")
    run = place.run(recipes="strange,sft", budget="32pairs")
    assert (run.ended.code, [trial["recipe"] for trial in run.report["trials"]]) == (3, ["sft"])
