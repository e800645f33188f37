"""Nothing that a model or a data set wrote is ever executed, wherever on the page it is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import Opened
from tests.reports.hostile import HOSTILE


@pytest.mark.parametrize("place", range(len(HOSTILE) + 1))
def test_a_hostile_completion_is_shown_as_text(opened: Opened, hostile_page: Path, place: int) -> None:
    """Every prompt beside every response; `opened` fails on a dialog, a complaint or a request."""
    page = opened(hostile_page, f"#prompt={min(place, len(HOSTILE) - 1)}&left=r{place}&right=anchor")
    shown = page.locator("[data-part=detail] .response").first.inner_text()
    if place < len(HOSTILE) and HOSTILE[place].isascii() and HOSTILE[place].isprintable() and HOSTILE[place]:
        assert shown == HOSTILE[place]
    assert page.locator("[data-part=detail] :is(script, img, iframe, template, a, b)").count() == 0
    assert page.evaluate("document.scripts.length") == 2


def test_names_of_hostile_runs_do_not_steer_the_page(opened: Opened, hostile_page: Path) -> None:
    page = opened(hostile_page, "#prompt=0&left=<img src=x onerror=alert(1)>&right=javascript:alert(1)")
    expect(page.locator("[data-part=detail]")).to_be_visible()
    assert page.locator("[data-part=detail] img").count() == 0


def test_a_handler_that_got_in_could_not_run(chromium: Browser, hostile_page: Path) -> None:
    """The page's policy is the second wall: markup put in by force stays dead."""
    page = chromium.new_page()
    page.goto(hostile_page.resolve().as_uri())
    refused = page.evaluate(
        """() => new Promise((resolve) => {
            document.addEventListener("securitypolicyviolation", (event) => resolve(event.violatedDirective));
            const made = document.createElement("div");
            made.innerHTML = "<button onclick='window.pwned = true'>x</button>";
            document.body.append(made);
            made.firstChild.click();
            setTimeout(() => resolve("nothing was refused"), 1000);
        })"""
    )
    assert refused.startswith("script-src")
    assert page.evaluate("window.pwned === undefined")
    page.close()


def test_a_megabyte_leaves_a_page_that_opens(opened: Opened, hostile_page: Path) -> None:
    assert hostile_page.stat().st_size < 3_000_000
    page = opened(hostile_page, f"#prompt=1&left=r{len(HOSTILE)}&right=anchor")
    expect(page.locator("[data-part=detail] .response").first).to_contain_text("more characters")
