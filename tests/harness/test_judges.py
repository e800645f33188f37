"""Judges on servers in whole benches: faults end no run, nothing is asked twice, and mistakes cost no training."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from reports import build
from tests.harness.door import Finished, harness, write_sums
from tests.ollama_server import OllamaServer, now_and_then, serve

EXIT_DONE, EXIT_MENDABLE = 0, 2
PROMPTS = 8


def prefers_true_sums(prompt_text: str) -> Mapping[str, float]:
    """Chosen responses explain themselves, and rejected ones do not care."""
    a, b = (prompt_text.index(f"RESPONSE {label}") for label in "AB")
    return {"A": 0.2, "B": 0.8} if "whatever" in prompt_text[a:b] else {"A": 0.7, "B": 0.3}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OllamaServer]:
    """One reply in ten fails, is cut off or is no JSON."""
    faults = now_and_then(seed=4, kinds=("refused", "cut", "malformed"))
    with serve(OllamaServer(answer=prefers_true_sums, fault=faults)) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        yield server


class Door:
    """`harness run` with the tiny model and a file of sums."""

    def __init__(self, root: Path, model: Path) -> None:
        self.root, self.model = root, model
        self.data = write_sums(root / "sums.jsonl", 80)

    def run(self, judge: str, name: str = "run") -> Finished:
        given = {"model": self.model, "data": self.data, "out": self.root / name, "judge": judge, "recipes": "sft"}
        given |= {"budget": "48pairs", "eval-prompts": PROMPTS, "max-new-tokens": 6}
        return harness("run", *(w for k, v in given.items() for w in (f"--{k}", v)), cache=self.root / "cache")

    def verdicts(self, name: str = "run") -> list[dict[str, object]]:
        (trial,) = (self.root / name / "trials").iterdir()
        return [json.loads(line) for line in (trial / "verdicts.jsonl").read_text().splitlines()]


@pytest.fixture
def door(tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Door:
    """Without figures: drawing takes most of a small run's time."""
    monkeypatch.setattr(build, "svg", lambda figure: b"<svg></svg>")
    monkeypatch.setattr(build, "png", lambda figure: b"")
    return Door(tmp_path, tiny_model_folder)


def test_a_tenth_of_all_replies_failing_loses_no_verdict_and_ends_no_run(door: Door, server: OllamaServer) -> None:
    """The run is finished, and every held-out prompt has its verdict from both orders."""
    ended = door.run(f"openai:{server.url}#llama3.2:latest")
    assert (ended.code, ended.err.count("Traceback")) == (EXIT_DONE, 0)
    verdicts = door.verdicts()
    assert len({v["prompt_id"] for v in verdicts}) == PROMPTS
    assert all(v["p_first"] is not None and v["p_second"] is not None for v in verdicts)


def test_what_was_asked_before_is_not_asked_again(door: Door, server: OllamaServer) -> None:
    """The same bench in another folder asks only to see whether the judge says the same twice."""
    door.run("ollama:llama3.2", "first")
    asked = len(server.requests)
    door.run("ollama:llama3.2", "second")
    assert door.verdicts("first") == door.verdicts("second")
    assert len(server.requests) - asked < asked / 2


def test_a_verdict_that_never_comes_is_counted(door: Door, server: OllamaServer) -> None:
    """The others stand, and the judge's card says how many are missing."""

    def fault(number: int) -> str | None:
        return "missing" if "plus 1" in server.requests[number]["messages"][1]["content"] else None

    server.fault = fault
    given = {"model": door.model, "data": door.data, "pairs": 40, "judge": "ollama:llama3.2"}
    words = [word for name, value in given.items() for word in (f"--{name}", value)]
    ended = harness("judge", *words, "--out", door.root / "card.json", cache=door.root / "cache")
    (judge,) = json.loads((door.root / "card.json").read_text())["judges"]
    assert ended.code != EXIT_MENDABLE
    assert 0 < judge["unscored"] < len(server.requests) / 2


@pytest.mark.parametrize(
    ("judge", "words"),
    [
        ("lm:smollm", ["no model", "smollm2-135m"]),
        ("lm:no/such.gguf", ["no model"]),
        ("openai:llama3", ["names no model", "openai:BASE_URL#MODEL"]),
        ("openai:http://127.0.0.1:9#m", ["no server answers at http://127.0.0.1:9/v1", "--judge probe"]),
        ("openai:ftp://x#m", ["judge address 'ftp://x' is none"]),
        ("rule:lenght", ["did you mean 'rule:length'"]),
        ("ollama", ["names no model", "ollama:MODEL"]),
    ],
)
def test_a_mistyped_judge_costs_no_training(judge: str, words: list[str], door: Door) -> None:
    """One line, and nothing is written."""
    ended = door.run(judge)
    assert (ended.code, ended.out, (door.root / "run").exists()) == (EXIT_MENDABLE, "", False)
    assert len(ended.err.strip().splitlines()) == 1
    assert all(word in ended.err for word in words), ended.err


def test_a_model_that_names_no_letter_is_one_line(door: Door) -> None:
    """The tiny random model would say anything but A or B."""
    ended = harness("judge", "--judge", f"lm:{door.model}", "--model", door.model, "--data", door.data, cache=door.root)
    assert ended.code == EXIT_MENDABLE
    assert "gave no readable verdict" in ended.err
    assert "the labels A and B together have probability" in ended.err


def test_help_needs_neither_torch_nor_a_client() -> None:
    """It answers at once."""
    seen = "import sys, harness.cli; print([m for m in ('torch', 'httpx', 'ollama', 'evals') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True).stdout == "[]\n"
