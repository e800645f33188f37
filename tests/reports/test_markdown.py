"""report.md opens with the answer, fits into a comment, and shows what models wrote as text only."""

from __future__ import annotations

import dataclasses

import pytest
from markdown_it import MarkdownIt

from reports.markdown import LIMIT_BYTES, fenced, inline, markdown
from reports.story import page
from tests.reports.conftest import Loaded
from tests.reports.fake_run import CORE, OPENING, Character, FakeRun
from tests.reports.hostile import HOSTILE, MEGABYTE

RENDERER = MarkdownIt("commonmark", {"html": True}).enable("table")


def test_it_opens_with_the_answer_and_holds_the_table_and_the_figures(loaded: Loaded) -> None:
    text = markdown(page(loaded(FakeRun())))
    assert text.index("dpo-beta0.1 scores highest") < text.index("## Scores") < text.index("| **dpo-beta0.1** |")
    assert "(figures/frontier.png)" in text
    assert "(figures/training.png)" in text
    assert "python -m harness run --config" in text


def test_the_extremes_of_beta_are_contrasted_on_kl(loaded: Loaded) -> None:
    text = markdown(page(loaded(FakeRun())))
    assert "| dpo-beta0.05 | dpo-beta0.5 | KL, nats | +6.50 nats" in text


@pytest.mark.parametrize("text", HOSTILE)
def test_a_response_renders_as_one_block_of_code_and_nothing_else(text: str) -> None:
    tokens = RENDERER.parse(fenced(text, 500))
    assert [token.type for token in tokens] == ["fence"]


@pytest.mark.parametrize("text", HOSTILE)
def test_inline_text_renders_as_text_and_nothing_else(text: str) -> None:
    html = RENDERER.render(f"- {inline(text)}").replace("<!-- -->", "")
    for tag in ("<ul>", "</ul>", "<li>", "</li>"):
        html = html.replace(tag, "")
    assert "<" not in html


def test_hostile_completions_and_prompts_open_no_html_of_their_own(loaded: Loaded) -> None:
    characters = tuple(Character(recipe=f"r{i}", text=text) for i, text in enumerate(HOSTILE))
    fake = FakeRun(characters=characters, questions=dict(enumerate(HOSTILE)))
    html = RENDERER.render(markdown(page(loaded(fake))))
    for tag in ("<script", "<img src=x", "</template", "<b>", 'javascript:alert(1)"'):
        assert tag not in html
    assert html.count("<details>") == html.count("</details>")


def test_direction_overrides_are_shown_by_number() -> None:
    assert "\u202e" not in fenced("a \u202e b", 100)
    assert "\\u{202e}" in fenced("a \u202e b", 100)


def test_a_megabyte_of_text_is_cut_and_the_cut_is_said(loaded: Loaded) -> None:
    text = markdown(page(loaded(FakeRun(characters=(Character(recipe="long", text=MEGABYTE),), prompts=4))))
    assert len(text.encode()) <= LIMIT_BYTES
    assert "999,500 more characters" in text


@pytest.mark.parametrize("trials", [30, 60])
def test_many_trials_with_wide_text_still_fit_into_sixty_kilobytes(loaded: Loaded, trials: int) -> None:
    wide = tuple(Character(recipe=f"recipe-{i}", text="😀" * 600) for i in range(trials))
    assert len(markdown(page(loaded(FakeRun(characters=wide, prompts=20)))).encode()) <= LIMIT_BYTES


def test_the_gaming_sentence_survives_escaping(loaded: Loaded) -> None:
    gamer = dataclasses.replace(CORE[2], judged=0.98, length_ratio=1.5, opening=OPENING, opening_share=0.8)
    text = markdown(page(loaded(FakeRun(characters=(CORE[0], gamer)))))
    assert "read that as style, not substance" in text.partition("## Before you believe it")[0]


@pytest.mark.parametrize("name", ["kl_nats", "reward_accuracy", "gold_win_rate", "win_rate[probe]", "correct"])
def test_a_missing_score_is_a_gap_and_not_a_crash(loaded: Loaded, name: str) -> None:
    assert markdown(page(loaded(FakeRun(drop=(name,)))))


def test_a_run_without_finished_trials_has_a_report(loaded: Loaded) -> None:
    text = markdown(page(loaded(FakeRun(characters=(), judges=(), failed={"sft@1": "no <memory>"}))))
    assert "nothing to compare" in text
    assert "no &lt;memory&gt;" in text
