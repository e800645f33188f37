"""No completion can end a run: whatever a policy writes is judged, scored and reported, or its trial says why not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from evals.judges.attacks import ATTACKS, VERY_LONG, Attack
from harness import bench
from harness.records import Completion, Pair
from models.language_model import LanguageModel
from reports import build
from tests.harness.door import Finished, gold_of, harness
from tests.ollama_server import OllamaServer, serve
from tests.tiny import text_pairs

# The tiny model's tokens are bytes and its context 2,048, so what is long in words does not fit.
SHORT = [attack for attack in ATTACKS if attack.kind != "long"]


def write_rows(path: Path, held_out: int) -> Path:
    """Sums, with so many prompts to be answered."""
    pairs = list({pair.question: pair for pair in text_pairs(4 * held_out + 200)}.values())[: held_out + 64]
    splits = [*("test" for _ in range(held_out)), *("judge" for _ in range(16)), *("train" for _ in range(48))]
    rows = [
        {"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected, "gold": gold_of(p.question), "split": split}
        for p, split in zip(pairs, splits, strict=True)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def answering(attacks: Sequence[Attack], honest: Any) -> Any:
    """The anchor answers as ever; every trial after it with the attacks, read back from tokens as any answer is."""
    called: list[int] = []

    def complete(model: LanguageModel, prompts: Sequence[Pair], *, limit: int) -> tuple[Completion, ...]:
        called.append(len(prompts))
        if len(called) == 1:
            written: tuple[Completion, ...] = honest(model, prompts, limit=limit)
            return written
        return tuple(attacked(model, p, a) for p, a in zip(prompts, attacks, strict=True))

    return complete


def attacked(model: LanguageModel, prompt: Pair, attack: Attack) -> Completion:
    ids = model.tokens.encode(attack.response_to(prompt.question)[:999_000])
    text = model.tokens.decode(ids).strip()
    return Completion(prompt_id=prompt.prompt_id, text=text, tokens=len(ids) + 1, truncated=False, token_ids=ids)


@pytest.fixture
def run(tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A bench whose trial's completions are the attacks."""
    monkeypatch.setattr(build, "svg", lambda figure: b"<svg></svg>")
    monkeypatch.setattr(build, "png", lambda figure: b"")

    def start(attacks: Sequence[Attack], *judges: str) -> Finished:
        monkeypatch.setattr(bench, "complete", answering(attacks, bench.complete))
        data = write_rows(tmp_path / "sums.jsonl", len(attacks))
        asked = [word for judge in judges for word in ("--judge", judge)]
        flags = ("--recipes", "dpo-beta0.1", "--budget", "48pairs", "--max-new-tokens", 6, "--data", data)
        return harness(
            *("run", "--model", tiny_model_folder, "--eval-prompts", len(attacks), "--out", tmp_path / "run"),
            *(*flags, *asked),
            cache=tmp_path / "cache",
        )

    return start


def scores(folder: Path) -> dict[str, Any]:
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = report["trials"][0]["scores"]
    return found


def a_little_a(prompt: str) -> dict[str, float]:
    """A judge without much of an opinion."""
    return {"A": 0.55, "B": 0.45}


def test_a_trial_that_writes_only_attacks_is_scored_and_reported(
    run: Any, tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the truth, by a probe and by a chat model on a server, with no verdict missing."""
    with serve(OllamaServer(answer=a_little_a)) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        judges = ("rule:gold", f"probe:{tiny_model_folder}", "ollama:llama3.2")
        ended = run(SHORT, *judges)
    assert (ended.code, ended.err.count("failed")) == (0, 0)
    found = scores(tmp_path / "run")
    assert [(found[f"win_rate[{judge}]"]["n"], found[f"unscored[{judge}]"]["value"]) for judge in judges] == [
        (len(SHORT), 0.0)
    ] * 3
    assert (tmp_path / "run" / "report.html").exists()


def test_megabytes_are_scored_by_a_chat_model(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is shown of them is bounded."""
    with serve(OllamaServer(answer=a_little_a)) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        ended = run(VERY_LONG, "ollama:llama3.2")
    assert (ended.code, scores(tmp_path / "run")["win_rate[ollama:llama3.2]"]["n"]) == (0, len(VERY_LONG))
    assert max(len(request["messages"][1]["content"].encode()) for request in server.requests) < 8_000


def test_megabytes_that_the_probe_cannot_read_cost_one_trial(run: Any, tmp_path: Path, tiny_model_folder: Path) -> None:
    """The run ends with a report that says why the trial has no scores."""
    ended = run(VERY_LONG, f"probe:{tiny_model_folder}")
    report = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert (ended.code, "reads at most 2,048 tokens" in ended.err) == (3, True)
    assert "dpo-beta0.1" in report
    assert (tmp_path / "run" / "report.html").exists()
