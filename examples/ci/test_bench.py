"""The same gate from a team's own tests: pytest --bench runs/pr --bench-baseline bench/baseline.json"""

from harness.pytest_plugin import Bench, assert_no_regression


def test_it_is_no_worse_than_the_baseline(bench: Bench) -> None:
    assert_no_regression(bench, rules="bench/gate.toml")


def test_it_learned_to_prefer_the_chosen_response(bench: Bench) -> None:
    assert bench["dpo-beta0.1"]["reward_accuracy"].low > 0.5
