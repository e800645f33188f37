"""What takes all trials of a bench at once: win rates at equal length or corrected for the judge's errors, and orders.

Everything here is computed from scores by prompt and judges' cards; no model is run.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

from evals.correction import JudgeErrors, corrected_win_rate
from evals.gold import CORRECTNESS_WEIGHT
from evals.judging import CHECK
from evals.length_control import Verdicts
from evals.pooling import ANCHOR
from evals.ranking import by_reward, by_utility, rank_agreement, rank_trials, rewards_from
from evals.statistics import mean_interval, standard_error
from harness.records import JointScores, JudgeCard, Ranking, Score, TrialScores, win_rate_by

LENGTH = "length_tokens"


def joint_scores(
    cards: Sequence[JudgeCard], scores: Mapping[str, TrialScores], anchor: TrialScores
) -> tuple[JointScores, ...]:
    """Trial → its length-controlled and its corrected win rate by each judge, where they can be had."""
    found: dict[str, dict[str, Score]] = {name: {} for name in scores}
    for metric, name, score in _controlled(cards, scores, anchor):
        found[name][metric] = score
    for card in cards:
        for name, trial in scores.items():
            if (corrected := _corrected(card, trial)) is not None:
                found[name][win_rate_by(card.name, "corrected")] = corrected
    return tuple(JointScores(trial=name, scores=of_trial) for name, of_trial in found.items())


def _controlled(
    cards: Sequence[JudgeCard], scores: Mapping[str, TrialScores], anchor: TrialScores
) -> Iterator[tuple[str, str, Score]]:
    """By every judge, and by the data's check: (metric, trial, controlled rate)."""
    theirs = anchor.per_prompt.get(LENGTH, {})
    metrics = {win_rate_by(card.name): win_rate_by(card.name, "controlled") for card in cards}
    for metric, name in {"gold_win_rate": "gold_win_rate_controlled", **metrics}.items():
        rows = [
            (p, trial, prompt, own[prompt], theirs[prompt])
            for trial, of_trial in scores.items()
            for prompt, p in of_trial.per_prompt.get(metric, {}).items()
            if prompt in (own := of_trial.per_prompt.get(LENGTH, {})) and prompt in theirs
        ]
        if rows:
            columns = [list(column) for column in zip(*rows, strict=True)]
            verdicts = Verdicts.of(*columns)
            yield from ((name, trial, score) for trial, score in verdicts.scores().items())


def _corrected(card: JudgeCard, trial: TrialScores) -> Score | None:
    values = list(trial.per_prompt.get(win_rate_by(card.name), {}).values())
    errors = judge_errors(card)
    if errors is None or len(values) < 2:
        return None
    mean = mean_interval(values, unit="share")
    return corrected_win_rate(mean.value, standard_error(mean), len(values), errors)


def judge_errors(card: JudgeCard) -> JudgeErrors | None:
    """What the card says of the judge's soft verdicts on labelled pairs; None where it was not measured."""
    q1, q0 = card.sensitivity, card.specificity
    e1, e0 = card.sensitivity_error, card.specificity_error
    if q1 is None or q0 is None or e1 is None or e0 is None or not (math.isfinite(e1) and math.isfinite(e0)):
        return None
    return JudgeErrors(
        sensitivity=q1.value, sensitivity_error=e1, specificity=q0.value, specificity_error=e0, pairs=min(q1.n, q0.n)
    )


def rankings(
    reward_models: Sequence[str], scores: Mapping[str, TrialScores], anchor: TrialScores
) -> tuple[Ranking, ...]:
    """Bradley–Terry over every two trials, by the data's check and by each judge that is a reward model.

    A reward model's P(beats the anchor) says the difference of two rewards, so that of any two trials follows from it.
    """
    check = _by_check(scores, anchor)
    judged = [order for judge in reward_models if (order := _by_reward_model(judge, scores)) is not None]
    if check is None:
        return tuple(judged)
    compared = (dataclasses.replace(order, agreement=rank_agreement(order, check)) for order in judged)
    return (check, *compared)


def _by_check(scores: Mapping[str, TrialScores], anchor: TrialScores) -> Ranking | None:
    named = {ANCHOR: anchor, **scores}
    if not all({"correct", "courtesy"} <= trial.per_prompt.keys() for trial in named.values()):
        return None
    utilities = {
        name: {
            prompt: CORRECTNESS_WEIGHT * correct + trial.per_prompt["courtesy"][prompt]
            for prompt, correct in trial.per_prompt["correct"].items()
        }
        for name, trial in named.items()
    }
    return rank_trials(CHECK, utilities, by_utility)


def _by_reward_model(judge: str, scores: Mapping[str, TrialScores]) -> Ranking | None:
    metric = win_rate_by(judge)
    if not scores or not all(metric in trial.per_prompt for trial in scores.values()):
        return None
    rewards = {name: rewards_from(trial.per_prompt[metric]) for name, trial in scores.items()}
    rewards[ANCHOR] = dict.fromkeys((prompt for found in rewards.values() for prompt in found), 0.0)
    return rank_trials(judge, rewards, by_reward)
