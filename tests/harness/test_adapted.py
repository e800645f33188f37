"""A bench of a model that transformers computes is the bench of that model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from models.sources import ModelSource
from reports import build
from tests.harness.door import Finished, harness, write_sums

Ended = tuple[Finished, dict[str, Any]]


def run(root: Path, model: str, *more: object) -> Ended:
    """A small bench of a model, judged by a probe on it; and its report."""
    data = write_sums(root / "sums.jsonl", 80)
    out = root / "runs" / model.partition(":")[0].strip("/").replace("/", "-")
    flags = ["--recipes", "sft,dpo,dpo-soft-reference", "--budget", "48pairs", "--eval-prompts", 8]
    flags += ["--max-new-tokens", 6, "--dtype", "float32", "--judge", f"probe:{model}", "--judge", "rule:gold"]
    with pytest.MonkeyPatch.context() as patch:  # drawing takes most of a small run's time
        patch.setattr(build, "svg", lambda figure: b"<svg></svg>")
        patch.setattr(build, "png", lambda figure: b"")
        ended = harness("run", "--model", model, "--data", data, "--out", out, *flags, *more, cache=root / "cache")
    report = out / "report.json"
    return ended, json.loads(report.read_text()) if report.exists() else {}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs and their cache lie."""
    return tmp_path_factory.mktemp("adapted")


@pytest.fixture(scope="module")
def adapted(root: Path, tiny_model_folder: Path) -> Ended:
    """The bench of the tiny model as transformers computes it."""
    return run(root, f"transformers:{tiny_model_folder}")


def scores(report: dict[str, Any]) -> dict[tuple[str, str, str], float | None]:
    """Value, interval and n of every trial's every score."""
    return {
        (trial["recipe"], name.replace("transformers:", ""), part): score[part]
        for trial in report["trials"]
        for name, score in trial["scores"].items()
        for part in ("value", "low", "high", "n")
    }


def test_scores_are_those_of_the_native_path(adapted: Ended, root: Path, tiny_model_folder: Path) -> None:
    """Training with references frozen and moving, generation, KL, a probe's verdicts: within 0.001 everywhere.

    Both runs share a cache, and neither takes the other's checkpoints.
    """
    (native, expected), (ended, found) = run(root, str(tiny_model_folder)), adapted
    assert (native.code, ended.code) == (0, 0), ended.err
    assert len(scores(expected)) > 100
    assert scores(found) == pytest.approx(scores(expected), abs=1e-3)
    assert found["bench"]["model"] == f"transformers:{tiny_model_folder.name}"


def test_the_run_goes_on_with_the_same_model(adapted: Ended, root: Path, tiny_model_folder: Path) -> None:
    """A second time it reads its checkpoints from the cache, and the report is the same."""
    again, report = run(root, f"transformers:{tiny_model_folder}")
    assert (again.code, report) == (0, adapted[1])


def test_an_adapter_on_it_is_refused_in_one_line(tiny_model_folder: Path, tmp_path: Path) -> None:
    """LoRA lies beside our own matrices."""
    ended, report = run(tmp_path, f"transformers:{tiny_model_folder}", "--adapter", "lora:r=4")
    assert (ended.code, report) == (2, {})
    (line,) = ended.err.strip().splitlines()
    assert (
        f"transformers computes 'transformers:{tiny_model_folder}': leave --adapter out, or give such a model" in line
    )


def test_a_trial_of_it_is_exported(adapted: Ended, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a folder that transformers loads; GGUF, which only our own families are written as, is refused at once."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    report = adapted[1]
    run_folder = next((root / "runs").glob("transformers*"))
    trial = report["trials"][-1]["recipe"]
    ended = harness("export", run_folder, trial, "--to", "hf", root / "exported", cache=root / "cache")
    assert ended.code == 0, ended.err
    assert AutoModelForCausalLM.from_pretrained(root / "exported").config.model_type == "llama"
    assert AutoTokenizer.from_pretrained(root / "exported").encode("3 plus 4")
    monkeypatch.setattr(ModelSource, "load", lambda source: pytest.fail("the model was read"))
    refused = harness("export", run_folder, trial, "--to", "gguf", root / "exported.gguf", cache=root / "cache")
    assert refused.code == 2
    assert "GGUF is written for gemma, gpt2, llama" in (line := refused.err.splitlines()[-1]), refused.err
    assert line.endswith("alone: --to hf")
    assert not (root / "exported.gguf").exists()
