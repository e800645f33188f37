"""What follows from the scores of all trials together; no model is run, so it is drawn anew with every trial added."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evals.comparison import compare_trials
from evals.joint import joint_scores, rankings
from evals.judging import agreements
from evals.pooling import by_recipe, pool_recipes
from harness.records import Agreement, Comparison, JointScores, JudgeCard, Ranking, TrialScores

_JOINT = re.compile(r"win_rate_(controlled|corrected)\[|gold_win_rate_controlled$")


@dataclass(frozen=True, kw_only=True)
class Conclusions:
    """Everything about a bench that is not about one trial."""

    comparisons: tuple[Comparison, ...]
    agreements: tuple[Agreement, ...]
    joint: tuple[JointScores, ...]
    recipes: tuple[TrialScores, ...]  # empty with one seed: then a trial is all that is known of its recipe
    rankings: tuple[Ranking, ...]


def conclude(cards: Sequence[JudgeCard], scores: Mapping[str, TrialScores], anchor: TrialScores | None) -> Conclusions:
    """From judges' cards and trials' scores. `anchor` holds the anchor's own, None in runs that did not keep them."""
    judges = [card.name for card in cards]
    joint = joint_scores(cards, scores, anchor) if anchor is not None else ()
    whole = with_joint(scores, joint)
    seeds = by_recipe(list(whole.values()))
    several = any(len(trials) > 1 for trials in seeds.values())
    return Conclusions(
        comparisons=tuple(compare_trials(judges, scores)),
        agreements=agreements(judges, scores),
        joint=joint,
        recipes=pool_recipes(seeds) if several else (),
        rankings=rankings(reward_models(judges), scores, anchor) if anchor is not None else (),
    )


def with_joint(scores: Mapping[str, TrialScores], joint: Sequence[JointScores]) -> dict[str, TrialScores]:
    """Each trial's scores with those that it has in common with the others."""
    more = {found.trial: found.scores for found in joint}
    return {
        name: dataclasses.replace(trial, scores=trial.scores | more.get(name, {})) for name, trial in scores.items()
    }


def without_joint(scores: TrialScores) -> TrialScores:
    """The trial's scores without those that hang on which other trials there were."""
    own = {metric: score for metric, score in scores.scores.items() if not _JOINT.match(metric)}
    return dataclasses.replace(scores, scores=own)


def reward_models(judges: Sequence[str]) -> list[str]:
    """The judges whose probabilities are differences of rewards: what they said tells any two responses apart."""
    return [judge for judge in judges if judge.partition(":")[0] == "probe"]
