"""gate.toml in, rules out; what is wrong with it in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.records import GateRule
from harness.rules import Rules, default_rules, read_rules

SHARES = ("correct", "win_rate[probe]", "reward_accuracy")
UNITS = {**dict.fromkeys(SHARES, "share"), "kl_nats": "nats", "length_tokens": "tokens"}
RECIPES = ("sft", "dpo-beta0.1")


def read(folder: Path, text: str) -> Rules:
    path = folder / "gate.toml"
    path.write_text(text)
    return read_rules(path, UNITS, RECIPES)


def test_a_rule_has_a_margin_and_a_direction(tmp_path: Path) -> None:
    rules = read(tmp_path, '[[rule]]\nmetric = "kl_nats"\nmargin = 0.5\nrecipes = ["dpo-*"]\n')
    assert rules.confidence == 0.95
    assert rules.rules == (GateRule(metric="kl_nats", margin=0.5, better="lower", recipes=("dpo-*",)),)


@pytest.mark.parametrize("margin", ["0.05", '"5pp"', '" 5.0 pp "'])
def test_points_may_be_written_as_such(tmp_path: Path, margin: str) -> None:
    assert read(tmp_path, f'[[rule]]\nmetric = "correct"\nmargin = {margin}\n').rules[0].margin == 0.05


@pytest.mark.parametrize("metric", ["correct", "win_rate[probe]", "reward_accuracy"])
def test_winning_and_being_right_are_better_high(tmp_path: Path, metric: str) -> None:
    assert read(tmp_path, f'[[rule]]\nmetric = "{metric}"\nmargin = 0.1\n').rules[0].better == "higher"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "rule: field required"),
        ("rule = []", "rule"),
        ('[[rule]]\nmetric = "corect"\nmargin = 0.1', "did you mean 'correct'?"),
        ('[[rule]]\nmetric = "correct"\nmargin = 0', "greater than 0"),
        ('[[rule]]\nmetric = "correct"\nmargin = "much"', "'much'"),
        ('[[rule]]\nmetric = "correct"', "margin: field required"),
        ('[[rule]]\nmetric = "correct"\nmargin = 0.1\nbetter = "up"', "'up'"),
        ('[[rule]]\nmetric = "correct"\nmargin = 0.1\nmargins = 2', "margins"),
        ('[[rule]]\nmetric = "length_tokens"\nmargin = 5', 'better = "higher" or "lower"'),
        ('confidence = 95\n[[rule]]\nmetric = "correct"\nmargin = 0.1', "less than or equal to 0.9999"),
        ("[[rule", "cannot be read"),
        ('[[rule]]\nmetric = "correct"\nmargin = 5', '500 points: write "5pp"'),
        ('[[rule]]\nmetric = "kl_nats"\nmargin = "5pp"', "a number, in nats"),
        ('[[rule]]\nmetric = "correct"\nmargin = 0.1\nrecipes = ["dop-*"]', "these are: sft, dpo-beta0.1"),
        ('confidence = 0.1\n[[rule]]\nmetric = "correct"\nmargin = 0.1', "0.5"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(HarnessError) as refused:
        read(tmp_path, text)
    assert words in str(refused.value)
    assert "gate.toml" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_says_what_it_should_be(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"gate\.toml with a"):
        read_rules(tmp_path / "none.toml", UNITS, RECIPES)


def test_by_default_the_deciding_metric_correctness_and_reward_accuracy_may_fall_by_five_points() -> None:
    rules = default_rules("win_rate[probe]", UNITS).rules
    assert [(rule.metric, rule.margin) for rule in rules] == [
        ("win_rate[probe]", 0.05),
        ("correct", 0.05),
        ("reward_accuracy", 0.05),
    ]
