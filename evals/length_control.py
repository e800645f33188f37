"""Win rates as they would be at equal length, fitted jointly over all trials of a bench.

    logit p_mi = θ_m + (φ + φ_m)·tanh(Δlen_mi / sd_m(Δlen)) + δ_i,  m the trial, i the prompt,

by minimising the summed binary cross-entropy on the verdicts as probabilities + 0.1·Σδ² (how hard the prompt is) +
20·Σφ_m² (how far a trial's length effect lies from the pooled φ). The controlled rate of m is its mean prediction with
Δlen = 0. After length-controlled AlpacaEval (arXiv:2404.04475); fitted trial by trial and without difficulty, as there,
it lay further from the published rates than no control at all, so it is joint here.

Shapes: E entries (verdicts) · M trials · I prompts · K = 2M + 1 coefficients that prompts share.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from harness.records import Score

Values = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

DIFFICULTY_PENALTY = 0.1
DEPARTURE_PENALTY = 20.0
RESAMPLES = 400
STEPS = 60  # of Newton's method, at most; five to eight are usual
LONGEST_STEP = 3.0  # in logits: where a trial wins everything its θ has no end
CLOSE = 1e-8  # gradient per verdict at which the fit is done


def length_controlled(
    p_win: Sequence[float],
    trial: Sequence[str],
    prompt: Sequence[str],
    length_trial: Sequence[float],
    length_baseline: Sequence[float],
) -> dict[str, float]:
    """Trial → its length-controlled win rate, from flat arrays with one entry a verdict; lengths in any one unit.

    A trial whose length difference is the same everywhere has nothing to control for: its raw rate is given.
    """
    return Verdicts.of(p_win, trial, prompt, length_trial, length_baseline).rates()


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """All verdicts of a bench against one opponent, ready to fit."""

    trials: tuple[str, ...]
    p_E: Values
    trial_E: Places
    prompt_E: Places
    length_E: Values  # tanh of the length difference in units of the trial's own spread; 0 where it has none
    prompts: int

    @classmethod
    def of(
        cls,
        p_win: Sequence[float],
        trial: Sequence[str],
        prompt: Sequence[str],
        length_trial: Sequence[float],
        length_baseline: Sequence[float],
    ) -> Verdicts:
        """From flat arrays of equal lengths; ValueError where they differ, or a p is none."""
        p_E = np.asarray(p_win, dtype=np.float64)
        sizes = {len(column) for column in (p_E, trial, prompt, length_trial, length_baseline)}
        if sizes == {0} or len(sizes) > 1:
            raise ValueError(f"one entry a verdict in every array, and at least one: got lengths {sorted(sizes)}")
        if not ((p_E >= 0) & (p_E <= 1)).all():
            raise ValueError("a verdict's probability lies in [0, 1]")
        names = tuple(dict.fromkeys(trial))
        place = {name: m for m, name in enumerate(names)}
        trial_E = np.array([place[t] for t in trial], dtype=np.intp)
        places, prompt_E = np.unique(np.asarray(prompt, dtype=object), return_inverse=True)
        gap_E = np.asarray(length_trial, dtype=np.float64) - np.asarray(length_baseline, dtype=np.float64)
        return cls(
            trials=names,
            p_E=p_E,
            trial_E=trial_E,
            prompt_E=prompt_E.astype(np.intp),
            length_E=_spread_lengths(gap_E, trial_E, len(names)),
            prompts=len(places),
        )

    @functools.cached_property
    def constant(self) -> frozenset[str]:
        """Trials whose length difference never varies: nothing is controlled there."""
        return frozenset(name for m, name in enumerate(self.trials) if not self.length_E[self.trial_E == m].any())

    @functools.cached_property
    def design(self) -> Values:
        """What each verdict's logit takes of the coefficients that prompts share, (E, K): the same in every refit."""
        entries, count = len(self.p_E), len(self.trials)
        design_EK = np.zeros((entries, 2 * count + 1))
        rows = np.arange(entries)
        design_EK[rows, self.trial_E] = 1.0
        design_EK[:, count] = self.length_E
        design_EK[rows, count + 1 + self.trial_E] = self.length_E
        return design_EK

    def rates(self) -> dict[str, float]:
        """Trial → its controlled win rate."""
        return dict(zip(self.trials, self._rates(np.ones(self.prompts), None)[0].tolist(), strict=True))

    def scores(self, *, seed: int = 0, resamples: int = RESAMPLES) -> Mapping[str, Score]:
        """Trial → its controlled rate, with a percentile interval over resampled prompts, each fitted again."""
        rates_M, fit = self._rates(np.ones(self.prompts), None)
        generator = np.random.default_rng(seed)
        shares = np.full(self.prompts, 1 / self.prompts)
        drawn_RM = np.stack(
            [self._rates(generator.multinomial(self.prompts, shares).astype(float), fit)[0] for _ in range(resamples)]
        )
        low_M, high_M = np.nanquantile(drawn_RM, (0.025, 0.975), axis=0)
        counts_M = np.bincount(self.trial_E, minlength=len(self.trials))
        return {
            name: Score(
                value=float(rates_M[m]),
                low=float(min(low_M[m], rates_M[m])),
                high=float(max(high_M[m], rates_M[m])),
                n=int(counts_M[m]),
                unit="share",
            )
            for m, name in enumerate(self.trials)
        }

    def _rates(self, weights_I: Values, start: _Fit | None) -> tuple[Values, _Fit]:
        """Each trial's controlled rate with prompts weighted so, and the fit behind it."""
        fit = _fit(self, weights_I, start or _Fit.zero(len(self.trials), self.prompts))
        count = len(self.trials)
        weights_E = weights_I[self.prompt_E]
        flat_E = expit(fit.shared_K[self.trial_E] + fit.difficulty_I[self.prompt_E])
        total_M = np.bincount(self.trial_E, weights=weights_E, minlength=count)
        with np.errstate(invalid="ignore", divide="ignore"):
            controlled_M = np.bincount(self.trial_E, weights=weights_E * flat_E, minlength=count) / total_M
            raw_M = np.bincount(self.trial_E, weights=weights_E * self.p_E, minlength=count) / total_M
        constant_M = np.array([name in self.constant for name in self.trials])
        return np.where(constant_M, raw_M, controlled_M), fit


@dataclass(frozen=True, kw_only=True)
class _Fit:
    shared_K: Values  # θ of each trial, φ, then φ_m of each trial
    difficulty_I: Values

    @classmethod
    def zero(cls, trials: int, prompts: int) -> _Fit:
        return cls(shared_K=np.zeros(2 * trials + 1), difficulty_I=np.zeros(prompts))


def _spread_lengths(gap_E: Values, trial_E: Places, trials: int) -> Values:
    spread_M = np.array([gap_E[trial_E == m].std() for m in range(trials)])
    spread_E = spread_M[trial_E]
    lengths_E: Values = np.tanh(np.divide(gap_E, spread_E, out=np.zeros_like(gap_E), where=spread_E > 1e-12))
    return lengths_E


def _fit(verdicts: Verdicts, weights_I: Values, fit: _Fit) -> _Fit:
    """Newton's method; each prompt's difficulty is eliminated from the linear system, since prompts do not meet."""
    weights_E = weights_I[verdicts.prompt_E]
    design_EK = verdicts.design
    penalty_K = np.concatenate(
        (np.zeros(len(verdicts.trials) + 1), np.full(len(verdicts.trials), 2 * DEPARTURE_PENALTY))
    )
    for _ in range(STEPS):
        p_E = expit(design_EK @ fit.shared_K + fit.difficulty_I[verdicts.prompt_E])
        residual_E, curve_E = weights_E * (p_E - verdicts.p_E), weights_E * p_E * (1 - p_E)
        slope_K = design_EK.T @ residual_E + penalty_K * fit.shared_K
        slope_I = _by_prompt(verdicts, residual_E) + 2 * DIFFICULTY_PENALTY * weights_I * fit.difficulty_I
        if max(np.abs(slope_K).max(), np.abs(slope_I).max()) < CLOSE * len(verdicts.p_E):
            break
        curve_I = _by_prompt(verdicts, curve_E) + 2 * DIFFICULTY_PENALTY * weights_I + 1e-12
        curve_KK = (design_EK * curve_E[:, None]).T @ design_EK + np.diag(penalty_K + 1e-9)
        mixed_IK = np.zeros((verdicts.prompts, len(slope_K)))
        np.add.at(mixed_IK, verdicts.prompt_E, design_EK * curve_E[:, None])
        reduced_KK = curve_KK - mixed_IK.T @ (mixed_IK / curve_I[:, None])
        step_K = np.linalg.solve(reduced_KK, slope_K - mixed_IK.T @ (slope_I / curve_I))
        step_I = (slope_I - mixed_IK @ step_K) / curve_I
        short = min(1.0, LONGEST_STEP / max(np.abs(step_K).max(), np.abs(step_I).max(), 1e-300))
        fit = _Fit(shared_K=fit.shared_K - short * step_K, difficulty_I=fit.difficulty_I - short * step_I)
    return fit


def _by_prompt(verdicts: Verdicts, values_E: Values) -> Values:
    return np.bincount(verdicts.prompt_E, weights=values_E, minlength=verdicts.prompts).astype(np.float64)
