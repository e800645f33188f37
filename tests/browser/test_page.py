"""What a reader does on the page, done in a real browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import Opened
from tests.reports.fake_run import CORE

PAGES = ["example_page", "fake_page"]  # of a real run on the real model, and of a made-up one
PHONE = {"width": 390, "height": 844}


def main_table(page: Page) -> Locator:
    return page.locator("table", has=page.locator("caption", has_text="Scores of every trial"))


def first_column(table: Locator) -> list[str]:
    names = table.locator("tbody tr:visible th").all_inner_texts()
    return [name.strip() for name in names]


def numbers(table: Locator, column: int) -> list[float]:
    cells = table.locator(f"tbody tr td:nth-child({column})").all_inner_texts()
    return [float(found[0].replace("−", "-")) for cell in cells if (found := re.findall(r"[−\d.]+", cell))]


def point(page: Page, trial: str) -> Locator:
    """The trial's point on the frontier."""
    return page.get_by_role("button", name=re.compile(f"^{re.escape(trial)}: "))


def choose(page: Page, field: str, label: str) -> None:
    page.locator(f"[data-field={field}]").select_option(label=label)


def listed(page: Page) -> int:
    return int(page.locator("[data-part=count]").inner_text().split()[0])


@pytest.fixture(params=PAGES)
def page_path(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


def test_a_click_on_a_title_sorts_by_it_and_a_second_click_turns_it_round(opened: Opened, page_path: Path) -> None:
    """Numbers begin with the largest."""
    table = main_table(opened(page_path))
    title = table.get_by_role("columnheader", name="KL, nats")
    column = 1 + table.locator("thead th").all_inner_texts().index(title.inner_text())
    title.get_by_role("button").click()
    assert numbers(table, column) == sorted(numbers(table, column), reverse=True)
    assert title.get_attribute("aria-sort") == "descending"
    title.get_by_role("button").click()
    assert numbers(table, column) == sorted(numbers(table, column))
    assert title.get_attribute("aria-sort") == "ascending"


def test_names_sort_from_a_to_z(opened: Opened, fake_page: Path) -> None:
    table = main_table(opened(fake_page))
    table.get_by_role("button", name="Recipe").click()
    assert first_column(table) == sorted(character.recipe for character in CORE)


def test_the_filter_leaves_the_named_recipes_in_every_table(opened: Opened, page_path: Path) -> None:
    page = opened(page_path)
    page.get_by_label("Show only recipes with").fill("sft, beta0.3")
    assert set(first_column(main_table(page))) == {"sft", "dpo-beta0.3"}
    cost = page.locator("table", has=page.locator("caption", has_text="What was spent"))
    assert set(first_column(cost)) == {"sft", "dpo-beta0.3"}
    expect(page.locator("#filtered")).to_have_text("2 of 7 trials")
    page.get_by_label("Show only recipes with").fill("")
    assert len(first_column(main_table(page))) == 7


def test_a_point_of_the_frontier_tells_its_trial(opened: Opened, page_path: Path) -> None:
    """Hover: recipe, what it is, and its scores with intervals and n."""
    page = opened(page_path)
    point(page, "dpo-beta0.3").hover()
    tip = page.locator("#tip")
    expect(tip).to_be_visible()
    expect(tip).to_contain_text("dpo-beta0.3")
    assert re.search(r"KL, nats.*\(.* to .*\).*n = \d+", tip.inner_text(), re.DOTALL)
    page.mouse.move(0, 0)
    expect(tip).to_be_hidden()


def test_the_page_of_a_run_just_made_tells_the_knobs(opened: Opened, tiny_page: Path) -> None:
    """The whole way, from training to the page, on the tiny model."""
    page = opened(tiny_page)
    point(page, "dpo-soft-reference").focus()
    expect(page.locator("#tip")).to_contain_text("beta 0.1, reference soft")


@pytest.mark.parametrize("by", ["mouse", "keyboard"])
def test_a_point_of_the_frontier_opens_its_responses(opened: Opened, page_path: Path, by: str) -> None:
    page = opened(page_path)
    if by == "mouse":
        point(page, "dpo-beta0.3").click()
    else:
        point(page, "dpo-beta0.3").focus()
        page.keyboard.press("Enter")
    detail = page.locator("[data-part=detail]")
    assert detail.locator("article h4").all_inner_texts() == ["dpo-beta0.3", "anchor"]
    expect(detail).to_be_in_viewport()


def test_any_verdict_is_three_clicks_away(opened: Opened, fake_page: Path) -> None:
    """A point of the frontier, a prompt: both orders and the data's check stand there."""
    page = opened(fake_page)
    point(page, "dpo-beta0.3").click()
    page.locator("[data-part=list] button").nth(7).click()
    rows = page.locator("[data-part=detail] tbody tr").all_inner_texts()
    assert [row.split("\t")[:2] for row in rows] == [
        ["dpo-beta0.3", "the data's check"],
        ["dpo-beta0.3", "probe"],
        ["dpo-beta0.3", "rule:length"],
    ]
    assert re.search(r"\d+%\t\d+%\t(wins|loses|ties), \d+%", rows[1])


def test_a_cell_of_the_matrix_opens_both_of_its_trials(opened: Opened, fake_page: Path) -> None:
    page = opened(fake_page)
    page.get_by_role("button", name="dpo-beta0.1 minus sft").click()
    assert page.locator("[data-part=detail] h4").all_inner_texts() == ["dpo-beta0.1", "sft"]


def test_the_matrix_marks_what_is_told_apart_in_more_than_colour(opened: Opened, fake_page: Path) -> None:
    page = opened(fake_page)
    assert "▲" in page.get_by_role("button", name="dpo-beta0.1 minus sft").inner_text()
    assert "▼" in page.get_by_role("button", name="sft minus dpo-beta0.1").inner_text()
    assert "▲" not in page.get_by_role("button", name="dpo-beta0.1 minus dpo-beta0.3").inner_text()


def test_search_finds_words_of_prompts_and_responses(opened: Opened, fake_page: Path) -> None:
    page = opened(fake_page)
    assert listed(page) == 128
    page.get_by_label("Search").fill("convert 77 KILOMETRES")
    assert listed(page) == 1
    expect(page.locator("[data-part=detail] .question")).to_have_text(
        "Could you convert 77 kilometres to metres for me?"
    )
    page.get_by_label("Search").fill("nothing like this")
    assert listed(page) == 0
    expect(page.locator("[data-part=detail]")).to_contain_text("No prompt matches")


@pytest.mark.parametrize(
    "shown",
    [
        "the two differ in outcome",
        "the two wrote different text",
        "a judge is wrong (by the data's check)",
        "a judge names another winner in the other order",
        "left beats the anchor",
        "cut off at the length limit",
    ],
)
def test_every_filter_leaves_some_prompts_and_not_all(opened: Opened, fake_page: Path, shown: str) -> None:
    page = opened(fake_page)
    choose(page, "shown", shown)
    assert 0 < listed(page) < 128


def test_a_wrong_judge_is_shown_with_what_the_check_says(opened: Opened, fake_page: Path) -> None:
    page = opened(fake_page)
    choose(page, "shown", "a judge is wrong (by the data's check)")
    for i in range(5):
        page.locator("[data-part=list] button").nth(i).click()
        said = [
            row.split("\t")[-1].split(",")[0] for row in page.locator("[data-part=detail] tbody tr").all_inner_texts()
        ]
        assert {"wins", "loses"} <= {word.strip() for word in said}


def test_the_longest_change_comes_first(opened: Opened, fake_page: Path) -> None:
    page = opened(fake_page)
    choose(page, "order", "longest change in length")
    changes = []
    for i in range(6):
        page.locator("[data-part=list] button").nth(i).click()
        left, right = (
            int(re.findall(r"(\d+) tokens", n)[0]) for n in page.locator("article .note:visible").all_inner_texts()
        )
        changes.append(abs(left - right))
    assert changes == sorted(changes, reverse=True)
    assert changes[0] > 0


def test_another_order_begins_at_its_top(opened: Opened, fake_page: Path) -> None:
    """Other trials keep the prompt, and it stays in view."""
    page = opened(fake_page)
    page.locator("[data-part=list] button").nth(40).click()
    shown = page.locator("[data-part=detail] .question").inner_text()
    choose(page, "left", "sft")
    assert page.locator("[data-part=detail] .question").inner_text() == shown
    expect(page.locator("[data-part=list] [aria-current]")).to_be_in_viewport()
    choose(page, "order", "left's clearest win first")
    assert page.locator("[data-part=list] button").first.get_attribute("aria-current") == "true"


def test_words_that_differ_are_marked_on_both_sides(opened: Opened, fake_page: Path) -> None:
    page = opened(fake_page)
    choose(page, "shown", "the two wrote different text")
    left, right = page.locator("[data-part=detail] .response").all()
    kept = [
        re.sub(
            r"\s+",
            " ",
            side.evaluate(
                "e => [...e.childNodes].filter(n => n.nodeName !== 'MARK').map(n => n.textContent).join(' ')"
            ),
        ).strip()
        for side in (left, right)
    ]
    assert page.locator("[data-part=detail] mark").count() > 0
    assert kept[0] == kept[1]


def test_the_address_names_what_is_shown_and_opens_it_again(opened: Opened, fake_page: Path) -> None:
    page = opened(fake_page)
    choose(page, "left", "dpo-beta0.5")
    page.locator("[data-part=list] button").nth(9).click()
    fragment = page.evaluate("location.hash")
    again = opened(fake_page, fragment)
    detail = "[data-part=detail]"
    assert again.locator(detail).inner_text() == page.locator(detail).inner_text()
    assert again.locator(f"{detail} h4").first.inner_text() == "dpo-beta0.5"


def test_arrow_keys_walk_through_the_prompts(opened: Opened, fake_page: Path) -> None:
    page = opened(fake_page)
    page.locator("[data-part=list] button").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator("[data-part=detail] .question")).to_contain_text("5 kilometres")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_rule_of_accessibility_is_broken(opened: Opened, page_path: Path, scheme: str) -> None:
    """axe-core: names, roles, contrast, structure; folded parts are unfolded."""
    page = opened(page_path, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((folded) => (folded.open = true))")
    found = Axe().run(page).response["violations"]
    assert [(rule["id"], [node["target"] for node in rule["nodes"]][:3]) for rule in found] == []


def test_dark_mode_turns_page_and_figures_dark(opened: Opened, page_path: Path) -> None:
    def luminance(colour: str) -> float:
        return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3

    page = opened(page_path, color_scheme="dark")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    ink = page.evaluate("getComputedStyle(document.querySelector('#figure-frontier svg')).color")
    drawn = page.evaluate("getComputedStyle(document.querySelector('#figure-frontier svg path')).fill")
    assert luminance(paper) < 60 < 180 < luminance(ink)
    assert luminance(drawn) < 60


@pytest.mark.parametrize("viewport", [PHONE, {"width": 1280, "height": 900}])
def test_the_page_is_never_wider_than_the_window(opened: Opened, page_path: Path, viewport: dict[str, int]) -> None:
    """Wide tables scroll inside it."""
    page = opened(page_path, viewport=viewport)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


def test_on_paper_everything_folded_is_open(opened: Opened, page_path: Path) -> None:
    page = opened(page_path)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("details:not([open])").count() == 0
    expect(page.locator("nav")).to_be_hidden()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0


def test_without_script_the_answer_tables_and_samples_are_there(chromium: Browser, page_path: Path) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_path.resolve().as_uri())
    expect(page.locator(".answer p").first).to_be_visible()
    assert len(first_column(main_table(page))) == 7
    page.locator("details.sample summary").first.click()
    expect(page.locator("details.sample .response").first).to_be_visible()
    expect(page.locator("#browser")).to_be_hidden()
    context.close()
