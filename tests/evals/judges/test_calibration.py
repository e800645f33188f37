"""Brier's score, reliability and calibration error of judges whose sureness is known."""

from __future__ import annotations

import numpy as np
import pytest

from evals.judges.calibration import brier, calibration_error, reliability
from harness.records import ReliabilityBin, Verdict


def verdicts(*chosen_wins: float | None) -> list[Verdict]:
    """A verdict a prompt, with this probability that the chosen response wins."""
    return [Verdict(judge="double", prompt_id=f"p{n}", p_first=p, p_second=p) for n, p in enumerate(chosen_wins)]


def test_who_knows_nothing_and_says_so_has_a_quarter() -> None:
    assert brier(verdicts(*[0.5] * 10)).value == 0.25


def test_a_brier_score_is_the_mean_squared_error_of_scored_verdicts() -> None:
    """(0.1² + 0.6²) / 2; the unscored one is left out."""
    found = brier(verdicts(0.9, 0.4, None))
    assert (found.value, found.n) == (pytest.approx(0.185), 2)


def test_verdicts_of_like_sureness_stand_in_one_bin() -> None:
    """Right at 0.9 and wrong at 0.9 are as sure as each other; a tie is half right."""
    assert reliability(verdicts(0.9, 0.1, 0.5, None)) == (
        ReliabilityBin(predicted=0.5, observed=0.5, n=1),
        ReliabilityBin(predicted=0.9, observed=0.5, n=2),
    )


@pytest.mark.parametrize(("p", "bins"), [(0.6, 2), (0.59, 1), (1.0, 2)])
def test_bins_begin_at_tenths(p: float, bins: int) -> None:
    """0.6 begins a bin though its floating-point distance from ½ is below a tenth, and 1 ends the last."""
    assert len(reliability(verdicts(0.55, p))) == bins


def test_sureness_beyond_its_rights_is_the_calibration_error() -> None:
    """Half right at 0.9 is wrong by 0.4; with as many verdicts that are honest, by 0.2 on average."""
    sure = reliability(verdicts(0.9, 0.1))
    assert calibration_error(sure) == pytest.approx(0.4)
    assert calibration_error(reliability(verdicts(0.9, 0.1, 0.5, 0.5))) == pytest.approx(0.2)


def test_an_honest_judge_has_next_to_no_calibration_error() -> None:
    """Right as often as it says, over many verdicts."""
    generator = np.random.default_rng(0)
    sure = generator.uniform(0.5, 1, size=20_000)
    right = generator.uniform(size=20_000) < sure
    assert calibration_error(reliability(verdicts(*np.where(right, sure, 1 - sure).tolist()))) < 0.01
