"""A judge's card in the terminal says what it is, whether to believe it, and why."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from harness.records import Contrast, JudgeCard
from harness.store import read_json
from reports.judges import WORST_ATTACKS, print_attacks, print_card
from tests.reports.fake_run import FakeRun, score, write_run


def fake_card(folder: Path, *, qualified: bool = True) -> JudgeCard:
    return read_json(write_run(folder, FakeRun(qualified=qualified)) / "judges" / "probe.json", JudgeCard)


def printed(card: JudgeCard, width: int = 100) -> str:
    out = io.StringIO()
    print_card(card, Console(file=out, width=width))
    return out.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_no_line_is_wider_than_the_window(tmp_path: Path, width: int) -> None:
    assert max(map(len, printed(fake_card(tmp_path, qualified=False), width).splitlines())) <= width


def test_a_qualified_judge_is_said_to_be(tmp_path: Path) -> None:
    text = printed(fake_card(tmp_path))
    assert "Qualified: it is able and robust" in text
    assert "Not qualified" not in text


@pytest.mark.parametrize(
    ("able", "robust", "said"),
    [
        (True, False, "able but not robust"),
        (False, True, "not able but robust"),
        (False, False, "not able and not robust"),
    ],
)
def test_a_judge_that_failed_is_said_to_have(tmp_path: Path, able: bool, robust: bool, said: str) -> None:
    """With each reason in a line."""
    card = dataclasses.replace(fake_card(tmp_path, qualified=False), able=able, robust=robust)
    text = printed(card, 200)
    assert f"Not qualified: it is {said}, so its win rates decide nothing." in text
    assert "! a constant response (“Sure!”) wins 64%" in text


def test_every_measure_is_there_with_its_interval_and_n(tmp_path: Path) -> None:
    lines = [" ".join(line.split()) for line in printed(fake_card(tmp_path)).splitlines()]
    for start in (
        *("Accuracy 89% 86 to 92 330", "Cross-validated 86% 81 to 91 160", "Sensitivity 81% 75 to 87 165"),
        *("Specificity 79%", "Both orders agree 100%", "First shown wins 50%", "Prefers the longer 54%"),
        *("Asked again it agrees 100%", "Brier score 0.12", "Calibration error 5%", "Unscored 0", "Speed 41.3/s"),
        *("another prompt's response 1%", "half of the chosen response 24%", "56% 61% 90", "94% 99% 240"),
    ):
        assert any(line.startswith(start) for line in lines), start


def test_of_the_constants_the_worst_is_shown(tmp_path: Path) -> None:
    """It decides; the others are counted."""
    constants = {"Sure!": 0.05, "It depends.": 0.31, "Yes.": 0.02}
    made = tuple(Contrast(name=f"constant: {t}", win_rate=score(rate, 64)) for t, rate in constants.items())
    text = printed(dataclasses.replace(fake_card(tmp_path), contrasts=made))
    assert "worst of 3 constants: “It depends.”" in text
    assert "Sure!" not in text


def test_what_an_older_card_lacks_is_left_out(tmp_path: Path) -> None:
    card = fake_card(tmp_path)
    bare = {f.name: f.default for f in dataclasses.fields(card) if f.default is not dataclasses.MISSING}
    text = printed(dataclasses.replace(card, **bare))
    assert "Accuracy" in text
    assert not any(word in text for word in ("Sensitivity", "Brier", "Speed", "As often right", "—"))


def test_markup_and_hidden_signs_in_what_strangers_wrote_are_text(tmp_path: Path) -> None:
    """A model's name may hold anything."""
    card = dataclasses.replace(fake_card(tmp_path), name="[bold]x[/]", description="a\u202eb", reasons=("no\x1b[31m",))
    text = printed(card)
    assert "[bold]x[/]" in text
    assert not {"\u202e", "\x1b"} & set(text)


def test_attacks_are_shown_from_the_worst_on(tmp_path: Path) -> None:
    """As many as a reader bears."""
    out = io.StringIO()
    attacks = {f"attack {n}": score(n / 40, 64) for n in range(WORST_ATTACKS + 5)}
    print_attacks(fake_card(tmp_path), attacks, Console(file=out, width=100))
    shown = [line.split()[1] for line in out.getvalue().splitlines() if line.startswith("attack ")]
    assert shown == [str(n) for n in range(WORST_ATTACKS + 4, 4, -1)]
    assert f"the worst {WORST_ATTACKS} of {WORST_ATTACKS + 5}" in out.getvalue()
