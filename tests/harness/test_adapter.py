"""A bench with an adapter, from the command line to the report; and what of it can be wrong."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from harness.records import BenchRecord
from harness.store import read_json, write_json
from reports import build
from tests.harness.door import Finished, harness, write_sums

BUDGET = 1e9  # FLOPs
SPEC = "lora:r=4:alpha=32:target=all-linear:lr=10"


def bench(root: Path, model: Path, *more: object) -> Finished:
    """A small bench of the tiny model, judged by the truth."""
    data = root / "sums.jsonl"
    flags = ["--recipes", "sft,dpo,dpo-soft-reference,dpo-hard-reference", "--budget", f"{BUDGET / 1e9:g}GFLOP"]
    flags += ["--model", str(model), "--data", str(data if data.exists() else write_sums(data, 80))]
    flags += ["--eval-prompts", "8", "--dtype", "float32", "--max-new-tokens", "6"]
    flags += ["--judge", "rule:gold", "--out", str(root / "run")]
    with pytest.MonkeyPatch.context() as patch:  # drawing takes most of a small run's time
        patch.setattr(build, "svg", lambda figure: b"<svg></svg>")
        patch.setattr(build, "png", lambda figure: b"")
        return harness("run", *flags, *more, cache=root / "cache")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    """Where a bench with an adapter was run."""
    place = tmp_path_factory.mktemp("adapter")
    ended = bench(place, tiny_model_folder, "--adapter", "lora:r=4")
    assert ended.code == 0, ended.err
    return place


def report(root: Path) -> Any:
    return json.loads((root / "run" / "report.json").read_text())


def test_every_trial_spends_its_budget(root: Path) -> None:
    """FLOPs by the adapter's own formula, at most 1% unspent and nothing overspent."""
    spent = [sum(kinds(stage) for stage in trial["ledger"]["stages"]) for trial in report(root)["trials"]]
    assert len(spent) == 4
    assert all(0.99 * BUDGET <= flops <= BUDGET for flops in spent)


def kinds(stage: dict[str, Any]) -> float:
    return float(sum(stage[f"{kind}_flops"] for kind in ("policy", "reference", "update", "refresh")))


def test_the_adapter_is_recorded(root: Path) -> None:
    """As asked in bench.toml, every setting said in the record and the report."""
    assert tomllib.loads((root / "run" / "bench.toml").read_text())["asked"]["adapter"] == "lora:r=4"
    assert report(root)["bench"]["adapter"] == SPEC
    assert SPEC in (root / "run" / "report.md").read_text()


def test_a_learning_rate_is_told_as_the_adapter_raised_it(root: Path) -> None:
    """In the record, from which card, loggers and report have it."""
    record = read_json(root / "run" / "record.json", BenchRecord)
    rates = {knobs["learning_rate"] for knobs in record.recipe_knobs.values()}
    assert rates
    assert all(rate.endswith(" × 10 (adapter)") for rate in rates)


def test_checkpoints_in_the_cache_are_adapters(root: Path) -> None:
    """And nothing else: five stages, the anchor and one of each recipe."""
    names = [set(load_file(path)) for path in (root / "cache" / "nodes").glob("*/*.safetensors")]
    assert len(names) == 5
    assert all(".adapter." in name for found in names for name in found)


def test_training_was_not_in_vain(root: Path) -> None:
    """Policies went away from the anchor: KL above zero, log-probs moved."""
    for trial in report(root)["trials"]:
        assert trial["scores"]["kl_nats"]["value"] > 0, trial["recipe"]


def test_the_run_goes_on_from_what_is_there(root: Path, tiny_model_folder: Path) -> None:
    """A trial's records lost, it is measured again on the checkpoint in the cache: the same report to the byte."""
    before = (root / "run" / "report.json").read_bytes()
    scores = root / "run" / "trials" / "dpo-soft-reference@0" / "scores.json"
    for name in ("scores.json", "completions.jsonl", "pairs.jsonl", "samples.jsonl"):
        (scores.parent / name).unlink()
    steps = {path: path.stat().st_mtime_ns for path in (root / "cache" / "nodes").glob("*/*.safetensors")}
    ended = bench(root, tiny_model_folder, "--adapter", "lora:r=4")
    assert (ended.code, (root / "run" / "report.json").read_bytes()) == (0, before)
    assert {path: path.stat().st_mtime_ns for path in steps} == steps


def test_bench_toml_makes_the_same_run(root: Path) -> None:
    """Adapter and all: the same scores."""
    config = root / "run" / "bench.toml"
    again = harness("run", "--config", config, "--out", root / "again", cache=root / "cache")
    scores = [
        read_json(root / run / "trials" / "dpo-hard-reference@0" / "scores.json", dict) for run in ("run", "again")
    ]
    assert (again.code, scores[0]) == (0, scores[1])


def test_another_adapter_is_another_bench(root: Path, tiny_model_folder: Path) -> None:
    """Its folder is not gone on with."""
    ended = bench(root, tiny_model_folder, "--adapter", "lora:r=8")
    assert ended.code == 2
    assert "holds another bench, with adapter lora:r=4 instead of lora:r=8" in ended.err.replace("\n", " ")


def test_runs_with_other_adapters_make_no_joint_report(root: Path) -> None:
    """Their anchors are not the same; the line says why."""
    other = root / "other"
    shutil.copytree(root / "run", other, dirs_exist_ok=True)
    record = json.loads((other / "record.json").read_text())
    write_json(other / "record.json", record | {"adapter": ""})
    ended = harness("report", root / "run", other, "--out", root / "joint", cache=root / "cache")
    assert ended.code == 2
    assert "their adapters differ" in ended.err.replace("\n", " ")


BAD = {
    "lorra:r=4": "no adapter named 'lorra'",
    "lora:rank=4": "did you mean 'r'",
    "lora:r=0": "r=0 is not above 0",
    "lora:r=4:target=q_prj": "did you mean 'q_proj'",
    "lora:r=4:target=c_attn": "is not in a llama model",
    "lora:r=4000": "is no low rank in a model of width",
    " ": "no adapter named ''",
}


@pytest.mark.parametrize("spec", BAD)
def test_a_bad_adapter_is_one_line_and_nothing_is_written(spec: str, tmp_path: Path, tiny_model_folder: Path) -> None:
    """Exit 2: what it is, and what to write instead."""
    ended = bench(tmp_path, tiny_model_folder, "--adapter", spec)
    assert (ended.code, ended.out) == (2, "")
    assert BAD[spec] in ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
