"""report.html stands alone, and nothing that a model wrote becomes part of its markup."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from reports.curves import curves
from reports.evidence import packed_evidence
from reports.figures import svg
from reports.frontier import frontier
from reports.html import html
from reports.story import page
from tests.reports.conftest import Loaded
from tests.reports.fake_run import Character, FakeRun
from tests.reports.hostile import HOSTILE, MEGABYTE


class Tags(HTMLParser):
    """Collects every tag, attribute and piece of text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def rendered(loaded: Loaded, fake: FakeRun) -> str:
    run = loaded(fake)
    return html(page(run), {"frontier": svg(frontier(run)), "training": svg(curves(run))}, packed_evidence(run))


def parsed(text: str) -> Tags:
    tags = Tags()
    tags.feed(text)
    return tags


def test_hostile_completions_and_prompts_are_text(loaded: Loaded) -> None:
    characters = tuple(Character(recipe=f"r{i}", text=text) for i, text in enumerate(HOSTILE))
    text = rendered(loaded, FakeRun(characters=characters, questions=dict(enumerate(HOSTILE))))
    tags = parsed(text)
    assert not {"img", "template", "b", "iframe", "object"} & set(tags.tags)
    assert tags.tags.count("script") == 2  # the evidence, and ours
    assert not [name for name, _ in tags.attributes if name.startswith("on")]
    assert "<script>alert('pwned')</script>" in tags.text
    assert "{{ 7 * 7 }}" in tags.text
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00]", text)


def test_it_fetches_nothing(loaded: Loaded) -> None:
    tags = parsed(rendered(loaded, FakeRun()))
    outside = [value for name, value in tags.attributes if name in ("src", "href", "xlink:href", "action")]
    assert all(value and value.startswith("#") for value in outside)
    assert ("http-equiv", "Content-Security-Policy") in tags.attributes


def test_no_script_but_ours_may_run(loaded: Loaded) -> None:
    """The policy names the digest of the one script; another, or one that was changed, is refused by the browser."""
    text = rendered(loaded, FakeRun())
    script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert len(script) == 1
    assert f"script-src 'sha256-{digest}'" in text
    assert "unsafe-inline'; script" in text  # styles alone may stand in the page
    assert "innerHTML" not in script[0]


def test_the_evidence_stands_in_the_page_as_base64(loaded: Loaded) -> None:
    """No letter of it can be markup."""
    found = re.search(r'id="evidence">(.*?)</script>', rendered(loaded, FakeRun()), re.DOTALL)
    assert found
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", found[1])


def test_numbers_carry_what_they_are_sorted_by(loaded: Loaded) -> None:
    """A table sorts by the value, not by how it is written."""
    run = loaded(FakeRun())
    orders = [float(value) for name, value in parsed(rendered(loaded, FakeRun())).attributes if name == "data-order"]
    assert all(trial.scores.scores["kl_nats"].value in orders for trial in run.trials)


def test_ids_of_the_two_figures_do_not_meet(loaded: Loaded) -> None:
    found = [value for name, value in parsed(rendered(loaded, FakeRun())).attributes if name == "id"]
    assert found
    assert len(found) == len(set(found))


def test_every_reference_inside_a_figure_finds_its_id(loaded: Loaded) -> None:
    text = rendered(loaded, FakeRun())
    ids = {value for name, value in parsed(text).attributes if name == "id"}
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', text)) <= ids


def test_a_megabyte_in_every_response_leaves_a_page_that_opens(loaded: Loaded) -> None:
    long = FakeRun(characters=(Character(recipe="long", text=MEGABYTE),), prompts=8)
    assert len(rendered(loaded, long)) < 3_000_000


@pytest.mark.parametrize(
    "words", ["Which recipe?", "Can the judge be believed?", "What a win rate hides", "Provenance"]
)
def test_every_part_of_the_report_is_there(loaded: Loaded, words: str) -> None:
    assert words in parsed(rendered(loaded, FakeRun())).text
