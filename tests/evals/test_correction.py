"""The corrected win rate is the true one, with an interval that holds it; too weak a judge is said to be so."""

from __future__ import annotations

import numpy as np
import pytest

from evals.correction import JudgeErrors, corrected_win_rate, too_weak
from harness.records import Score

Floats = np.ndarray


def verdicts(better: Floats, accuracy: float, generator: np.random.Generator) -> Floats:
    """Soft verdicts of a judge that is right so often, and no surer when it is."""
    sure = generator.beta(4.0, 1.5, len(better))
    sure = np.maximum(sure, 1 - sure)
    right = generator.random(len(better)) < accuracy
    return np.where(better == right, sure, 1 - sure)


def corrected(true: float, accuracy: float, generator: np.random.Generator, n: int = 300, pairs: int = 300) -> Score:
    """A trial that truly wins so often, judged, and corrected by what the judge did on labelled pairs."""
    said = verdicts(generator.random(n) < true, accuracy, generator)
    a_better = generator.random(pairs) < 0.5
    labelled = verdicts(a_better, accuracy, generator)
    q1, q0 = labelled[a_better], 1 - labelled[~a_better]
    errors = JudgeErrors(
        sensitivity=q1.mean(),
        sensitivity_error=q1.std(ddof=1) / len(q1) ** 0.5,
        specificity=q0.mean(),
        specificity_error=q0.std(ddof=1) / len(q0) ** 0.5,
        pairs=min(len(q1), len(q0)),
    )
    return corrected_win_rate(said.mean(), said.std(ddof=1) / n**0.5, n, errors)


@pytest.mark.parametrize("accuracy", [0.75, 0.9])
@pytest.mark.parametrize("true", [0.3, 0.5, 0.9])
def test_the_true_win_rate_comes_back(true: float, accuracy: float) -> None:
    generator = np.random.default_rng(0)
    found = [corrected(true, accuracy, generator) for _ in range(800)]
    assert np.mean([score.value for score in found]) == pytest.approx(true, abs=0.015)
    assert 0.925 <= np.mean([score.low <= true <= score.high for score in found]) <= 0.985


@pytest.mark.parametrize("true", [0.3, 0.7, 0.9])
def test_the_interval_holds_for_a_poor_judge_too(true: float) -> None:
    generator = np.random.default_rng(0)
    found = [corrected(true, 0.6, generator) for _ in range(400)]
    assert np.mean([score.low <= true <= score.high for score in found]) >= 0.93
    assert np.mean([too_weak(score) for score in found]) > 0.7


@pytest.mark.slow
@pytest.mark.parametrize("accuracy", [0.6, 0.75, 0.9])
def test_intervals_cover_at_every_accuracy(accuracy: float) -> None:
    """2,000 benches a setting."""
    for true in (0.3, 0.5, 0.7, 0.9, 0.98):
        for n, pairs in ((128, 128), (300, 300), (100, 1_000)):
            generator = np.random.default_rng(0)
            found = [corrected(true, accuracy, generator, n, pairs) for _ in range(2_000)]
            covered = float(np.mean([score.low <= true <= score.high for score in found]))
            mean, weak = np.mean([s.value for s in found]), np.mean([too_weak(s) for s in found])
            print(f"{accuracy} {true} n {n} pairs {pairs}: {covered:.1%}, mean {mean:.3f}, too weak {weak:.0%}")
            assert covered >= 0.925


def test_a_perfect_judge_needs_no_correction() -> None:
    errors = JudgeErrors(sensitivity=1.0, sensitivity_error=0.0, specificity=1.0, specificity_error=0.0, pairs=100)
    found = corrected_win_rate(0.6, 0.05, 100, errors)
    assert found.value == pytest.approx(0.6)
    assert (found.low, found.high) == pytest.approx((0.6 - 1.984 * 0.05, 0.6 + 1.984 * 0.05), abs=1e-3)


def test_a_coin_says_nothing() -> None:
    errors = JudgeErrors(sensitivity=0.5, sensitivity_error=0.02, specificity=0.5, specificity_error=0.02, pairs=100)
    found = corrected_win_rate(0.7, 0.05, 100, errors)
    assert (found.low, found.high) == (0.0, 1.0)
    assert too_weak(found)
