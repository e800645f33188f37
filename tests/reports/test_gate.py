"""A gate's verdict, read by a person, a pull request and a CI server."""

from __future__ import annotations

import dataclasses
import io
from xml.etree import ElementTree

import pytest
from rich.console import Console

from harness.records import GateReport, GateRow
from reports.gate import gate_junit, gate_markdown, gate_sentence, power_words, print_gate

FINE = GateRow(
    recipe="dpo",
    against="dpo",
    metric="correct",
    unit="share",
    better="higher",
    margin=0.05,
    verdict="pass",
    before=0.7,
    now=0.71,
    drop=-0.01,
    low=-0.03,
    high=0.012,
    n=300,
    seeds=(1, 1),
    power=0.83,
)
WORSE = dataclasses.replace(FINE, metric="gold_win_rate", verdict="regression", now=0.6, drop=0.1, low=0.04, high=0.16)
UNSURE = dataclasses.replace(
    FINE, metric="kl_nats", unit="nats", better="lower", verdict="cannot tell", needed=900, margin=0.5
)
ABSENT = GateRow(
    recipe="<b>x</b>",
    against="dpo",
    metric="correct",
    unit="share",
    better="higher",
    margin=0.05,
    verdict="cannot tell",
    reason="it failed\x1b[31m, or was not measured",
)


def report(*rows: GateRow) -> GateReport:
    return GateReport(confidence=0.95, rows=rows)


def printed(found: GateReport, width: int = 120) -> str:
    out = io.StringIO()
    print_gate(found, Console(file=out, width=width))
    return out.getvalue()


def test_a_pass_says_how_sure_it_is_and_of_what() -> None:
    words = gate_sentence(report(FINE))
    assert words.startswith("No regression")
    assert "95% confidence over 1 test" in words
    assert "these checkpoints, not of the recipes" in words


def test_several_seeds_speak_of_the_recipes() -> None:
    assert "checkpoints" not in gate_sentence(report(dataclasses.replace(FINE, seeds=(2, 3))))


def test_a_regression_says_what_fell_by_how_much() -> None:
    assert "Gold win rate of dpo fell by 10 points (4 to 16)" in gate_sentence(report(FINE, WORSE, UNSURE))


def test_what_cannot_be_told_says_what_it_takes() -> None:
    assert "900 held-out prompts would settle it (this run: 300)" in gate_sentence(report(FINE, UNSURE))
    assert "or was not measured" in gate_sentence(report(ABSENT))


def test_power_is_said_in_words() -> None:
    assert power_words(FINE) == "a 5-point drop would be caught 83% of the time"
    assert power_words(UNSURE) == "a rise of 0.5 nats would be caught 83% of the time"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_window(width: int) -> None:
    assert max(map(len, printed(report(FINE, WORSE, UNSURE, ABSENT), width).splitlines())) <= width


@pytest.mark.parametrize("width", [60, 120])
def test_the_verdict_is_in_words_at_every_width(width: int) -> None:
    shown = " ".join(printed(report(FINE, WORSE, UNSURE), width).split())
    assert all(words in shown for words in ("✓ pass", "regression", "? cannot", "83% of the time"))


def test_no_escape_sequence_of_a_file_reaches_the_terminal() -> None:
    assert "\x1b" not in printed(report(ABSENT))


def test_junit_has_a_case_a_row_and_none_is_green_that_did_not_pass() -> None:
    suite = ElementTree.fromstring(gate_junit(report(FINE, WORSE, UNSURE, ABSENT)))
    assert {name: suite.get(name) for name in ("tests", "failures", "errors")} == {
        "tests": "4",
        "failures": "1",
        "errors": "2",
    }
    assert [[child.tag for child in case] for case in suite] == [[], ["failure"], ["error"], ["error"]]


def test_junit_stays_well_formed_whatever_a_name_holds() -> None:
    odd = dataclasses.replace(ABSENT, recipe="a\ufffe\uffff<b>&\x00")
    assert len(ElementTree.fromstring(gate_junit(report(odd)))) == 1


def test_the_comment_begins_with_the_verdict_and_no_name_is_markup() -> None:
    comment = gate_markdown(report(WORSE, ABSENT))
    assert comment.startswith("## ✗ Regression")
    assert "<b>" not in comment
    assert "| −10.0 points (−16.0 to −4.0) |" in comment
