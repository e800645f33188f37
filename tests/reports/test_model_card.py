"""An exported checkpoint's card: its scores and how sure they are, what made it, how to use it."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from harness.records import RunRecord
from reports.glossary import term
from reports.load import load_run
from reports.model_card import Exported, model_card
from reports.numbers import score_cell
from reports.sides import find_side
from tests.reports.fake_run import CORE, FakeRun, write_run
from tests.reports.hostile import HOSTILE

HF = Exported(form="hf", dtype="float32", name="small-dpo", before="### Instruction:\n", after="\n\n### Response:\n")


@pytest.fixture
def run(tmp_path: Path) -> RunRecord:
    return load_run(write_run(tmp_path / "run", FakeRun(characters=CORE[:3])))


def card(run: RunRecord, trial: str = "dpo-beta0.1", exported: Exported = HF) -> str:
    return model_card(run, find_side(run, trial), exported)


def header(text: str) -> dict[str, object]:
    """The Hub's metadata: a line a key, in JSON, which is YAML too."""
    lines = text.split("---\n")[1].splitlines()
    return {key: json.loads(value) for key, value in (line.split(": ", 1) for line in lines)}


def rows(text: str) -> list[list[str]]:
    return [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in text.splitlines() if line.startswith("| ")]


def test_every_score_stands_with_its_interval_and_n(run: RunRecord) -> None:
    found = rows(card(run))
    (trial,) = (t for t in run.trials if t.recipe == "dpo-beta0.1")
    for score in trial.scores.scores.values():
        cell = score_cell(score)
        assert any([cell.value, cell.interval, f"{cell.n:,}"] == row[1:4] for row in found)


def test_every_score_says_what_it_means(run: RunRecord) -> None:
    """In words, and not in those of its own name."""
    (trial,) = (t for t in run.trials if t.recipe == "dpo-beta0.1")
    names = [*trial.scores.scores, "unscored[probe]", "unscored[openai:http://localhost#m[1]]"]
    assert [name for name in names if term(name).meaning == name.replace("_", " ")] == []


def test_the_deciding_metric_comes_first(run: RunRecord) -> None:
    """The one that the run's answer rests on."""
    scores = [row for row in rows(card(run)) if len(row) == 5]
    assert scores[2][0] == "Gold win rate"  # after the titles and their line


def test_what_made_it_is_pinned(run: RunRecord) -> None:
    """The bench's digest, the model's and the data's; recipe, knobs, seed, budget; the command that makes it again."""
    run = dataclasses.replace(
        run, bench=dataclasses.replace(run.bench, digest="d" * 64, recipe_knobs={"dpo-beta0.1": {"beta": "0.1"}})
    )
    facts = {row[0]: row[1] for row in rows(card(run)) if len(row) == 2}
    assert facts["Bench digest"] == "d" * 64
    assert run.bench.model_digest in facts["Base model"]
    assert run.bench.data_digest in facts["Data"]
    assert facts["Recipe"].startswith("dpo-beta0.1")
    assert (facts["Knobs"], facts["Seed"]) == ("beta=0.1", "1")
    assert facts["Budget"].startswith(run.bench.budget)
    assert facts["Made again by"] == run.bench.command


@pytest.mark.parametrize(("qualified", "said"), [(True, "Qualified: it is able and robust"), (False, "Not qualified")])
def test_each_judge_is_said_to_be_qualified_or_not(tmp_path: Path, qualified: bool, said: str) -> None:
    """Beside how often it ranks labelled pairs rightly."""
    run = load_run(write_run(tmp_path / "run", FakeRun(characters=CORE[:2], qualified=qualified)))
    (line,) = (line for line in card(run, "sft").splitlines() if line.startswith("- probe"))
    assert said in line
    assert "of labelled pairs rightly" in line


@pytest.mark.parametrize(
    ("form", "library", "words"),
    [
        ("hf", "transformers", ["AutoModelForCausalLM.from_pretrained", "vllm serve .", "--to gguf"]),
        ("peft", "peft", ["AutoPeftModelForCausalLM.from_pretrained"]),
        ("gguf", "gguf", ["ollama create small-dpo -f Modelfile", "llama-server -m small-dpo-F16.gguf"]),
    ],
)
def test_each_form_says_how_to_use_it(run: RunRecord, form: str, library: str, words: list[str]) -> None:
    """And what the model wants to read."""
    text = card(run, exported=dataclasses.replace(HF, form=form))
    assert header(text)["library_name"] == library
    assert all(word in text for word in [*words, "### Instruction:\nWhat is 3 plus 4?\n\n### Response:\n"])


def test_the_embedded_models_licence_is_known(run: RunRecord) -> None:
    """SmolLM2-135M-Instruct is Apache-2.0; of any other model the card says where to look."""
    known = dataclasses.replace(run, bench=dataclasses.replace(run.bench, model="smollm2-135m"))
    assert header(card(known))["license"] == "apache-2.0"
    assert header(card(known))["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    other = dataclasses.replace(run, bench=dataclasses.replace(run.bench, model=f"org/name@{'a' * 40}"))
    assert header(card(other))["base_model"] == "org/name"
    assert "license" not in header(card(other))
    assert "see where it came from" in card(other)


def test_the_anchor_has_a_card_too(run: RunRecord) -> None:
    text = card(run, "anchor")
    assert "an SFT checkpoint that all trials of its bench are scored against" in text
    assert "| Recipe | the anchor" in text


@pytest.mark.parametrize(
    ("same", "said"), [(True, "its log is the run's, to the last digit"), (False, "scores of the one that was lost")]
)
def test_a_checkpoint_that_was_trained_again_is_said_to_be(run: RunRecord, same: bool, said: str) -> None:
    assert said in card(run, exported=dataclasses.replace(HF, retrained=True, same_log=same))
    assert "trained again" not in card(run)


def test_a_checkpoint_of_another_log_is_said_to_be_another(run: RunRecord) -> None:
    """Whoever trained it: another run may have put it into the cache before this export."""
    assert "scores of the one that was lost" in card(run, exported=dataclasses.replace(HF, same_log=False))


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_a_stranger_wrote_is_markup(run: RunRecord, text: str) -> None:
    """Names of models, data and recipes come from files, and templates from models."""
    bench = dataclasses.replace(run.bench, model=text, data=text, model_note=text, template=text)
    written = card(dataclasses.replace(run, bench=bench), exported=dataclasses.replace(HF, before=f"{text}\n"))
    outside = re.sub(r"(?ms)^(`{3,})\w*\n.*?^\1$", "", written)
    assert not any(mark in outside for mark in ("<script", "<img", "</", "\u202e", "\x1b", "\n# A heading of"))
    assert not re.search(r"(?<!\\)\]\(", outside)
    assert header(written)["pipeline_tag"] == "text-generation"
    assert {len(row) for row in rows(outside)} == {1, 2, 5}  # an empty title, facts, scores


def test_same_records_same_bytes(run: RunRecord) -> None:
    assert card(run) == card(run)
