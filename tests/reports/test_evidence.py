"""The evidence in the page is whole, cut only where it has to be, and safe to show."""

from __future__ import annotations

import base64
import json
import random
import string
import zlib
from typing import Any

from reports.evidence import ROOM, evidence, packed_evidence
from tests.reports.conftest import Loaded
from tests.reports.fake_run import CORE, Character, FakeRun
from tests.reports.hostile import HOSTILE


def unpacked(packed: str) -> Any:
    return json.loads(zlib.decompress(base64.b64decode(packed), wbits=-15))


def test_packed_evidence_is_the_evidence(loaded: Loaded) -> None:
    run = loaded(FakeRun())
    assert unpacked(packed_evidence(run)) == evidence(run, 4_000)


def test_every_verdict_of_every_trial_is_there_in_both_orders(loaded: Loaded) -> None:
    run = loaded(FakeRun(judges=("probe", "rule:length")))
    found = evidence(run, 4_000)
    assert found["judges"] == ["the data's check", "probe", "rule:length"]
    for side, trial in zip(found["sides"][2:], run.trials, strict=True):
        said = [v for v in trial.verdicts if v.judge == "rule:length"]
        assert side["wins"][2] == [[round(v.p_first or 0, 4), round(v.p_second or 0, 4)] for v in said]


def test_every_text_stands_beside_its_prompt(loaded: Loaded) -> None:
    run = loaded(FakeRun())
    found = evidence(run, 4_000)
    assert found["questions"] == [prompt.question for prompt in run.prompts]
    assert found["sides"][1]["texts"] == [completion.text for completion in run.anchor_completions]
    assert found["sides"][3]["texts"] == [completion.text for completion in run.trials[1].completions]


def test_the_browser_opens_with_the_best_trial(loaded: Loaded) -> None:
    assert evidence(loaded(FakeRun()), 4_000)["best"] == "dpo-beta0.1"


def test_a_run_without_judge_or_checker_has_no_one_who_says(loaded: Loaded) -> None:
    found = evidence(loaded(FakeRun(characters=(Character(recipe="sft", gold=None),), judges=())), 4_000)
    assert found["judges"] == []
    assert found["sides"][2]["wins"] == []


def test_hidden_characters_are_shown_by_number(loaded: Loaded) -> None:
    characters = tuple(Character(recipe=f"r{i}", text=text) for i, text in enumerate(HOSTILE))
    texts = json.dumps(evidence(loaded(FakeRun(characters=characters)), 4_000), ensure_ascii=False)
    assert "\u202e" not in texts
    assert "\x1b" not in texts
    assert "u{202e}" in texts


def test_texts_are_cut_shorter_where_the_page_would_grow_too_large(loaded: Loaded) -> None:
    """Noise does not compress: 30 long responses to 128 prompts would be 11 MB."""
    draw = random.Random(0)
    noise = ["".join(draw.choices(string.ascii_letters, k=6_000)) for _ in range(4)]
    characters = tuple(Character(recipe=f"r{i}", text=noise[i % 4]) for i in range(4))
    run = loaded(FakeRun(characters=characters, prompts=128))
    short = unpacked(packed_evidence(run))
    assert len(packed_evidence(run)) <= ROOM
    assert "more characters" in short["sides"][2]["texts"][0]


def test_the_cut_says_how_much_is_left_out(loaded: Loaded) -> None:
    run = loaded(FakeRun(characters=(*CORE[:1], Character(recipe="long", text="word " * 1_000))))
    assert evidence(run, 500)["sides"][3]["texts"][0].endswith("(4,500 more characters)")
