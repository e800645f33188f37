"""Simulated benches whose truth is known: R recipes by S seeds by P prompts of outcomes 0 or 1.

A prompt is hard or easy for all (a latent normal that they share), each seed has a rate of its own about its recipe's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

Values = npt.NDArray[np.float64]

SHARED = 0.5  # of an outcome's latent variance: what all find hard or easy
ROOM = 0.005  # that a seed's rate keeps from 0 and 1


class World(NamedTuple):
    """What is simulated."""

    prompts: int
    rate: float
    seeds: int = 1
    noise: float = 0.0  # sd of a seed's own rate
    recipes: int = 7


def draw_bench(world: World, generator: np.random.Generator, shift: float = 0.0) -> Values:
    """Outcomes, (R, S, P); the first recipe's rate lies `shift` above the others'."""
    means_R = np.full(world.recipes, world.rate)
    means_R[0] += shift
    noise_RS = world.noise * generator.standard_normal((world.recipes, world.seeds))
    reach_R = np.minimum(means_R, 1 - means_R) - ROOM  # a seed's noise is cut alike on both sides: the mean stays
    rates_RS = means_R[:, None] + np.clip(noise_RS, -reach_R[:, None], reach_R[:, None])
    prompt_P = generator.standard_normal(world.prompts)
    own_RSP = generator.standard_normal((world.recipes, world.seeds, world.prompts))
    latent_RSP = np.sqrt(SHARED) * prompt_P + np.sqrt(1 - SHARED) * own_RSP
    return (latent_RSP < stats.norm.ppf(rates_RS)[:, :, None]).astype(np.float64)


def three_errors(share: float, count: int) -> float:
    """Three standard errors of a simulated share."""
    return 3 * float(np.sqrt(max(share, 0.01) * (1 - min(share, 0.99)) / count))
