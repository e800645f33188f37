"""Measures a judge on held-out labelled pairs and contrast responses, before anything it says is believed.

Robust: each constant, another prompt's response and an opener on one wins less than 20% against the own chosen one;
each constant is a kind, so the worst one counts. Able: the lower bound of its accuracy on labelled pairs is 0.6 or
more, on 20 prompts or more. (By Wilson, 6 prompts that are all right have that bound, and 16 without one win are the
least to show that a contrast wins less than 20%: 20 is the round number above both.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from evals.judges.calibration import brier, calibration_error, reliability
from evals.judges.contrast import ANOTHER, OPENED, REPEATED, TRUNCATED, ContrastResponse, heldout_contrasts
from evals.judges.protocol import Judge, Question, ask_both_orders
from evals.judges.rates import error_rates
from evals.judges.repeating import ask_again
from evals.statistics import share_interval
from evals.winrate import first_slot_rate, position_consistency, winner
from harness.errors import HarnessError
from harness.records import Contrast, JudgeCard, Pair, Score, Verdict

MOST_CONTRAST_WINS = 0.2
LEAST_ACCURACY = 0.6
LEAST_PROMPTS = 20
CONTRAST_PAIRS = 64  # pairs that contrasts are made of at most: a share of 20% is then told from 10% either way

# Kinds that fail no judge, since a half may hold the answer and a repeat does: what they beat, and what to mind.
_CAUTIONS = {
    TRUNCATED: ("the whole one", "responses that break off"),
    REPEATED: ("it said once", "responses that say everything again"),
}


def qualify(
    judge: Judge,
    pairs: Sequence[Pair],
    *,
    seed: int,
    limit: int | None = None,
    tell: Callable[[str], None] = lambda part: None,
    clock: Callable[[], float] = time.perf_counter,
) -> JudgeCard:
    """The judge's card, measured on at most `limit` of the pairs, which it must never have been fitted on.

    The first CONTRAST_PAIRS of them cost 20 questions each (the pair, two responses of others, five constants, a half
    and a repeat, in both orders), the rest two, and the first few two more, asked again. `tell` hears of each part.
    """
    measured = _draw(pairs, limit, seed)
    questions = [Question.of(pair, pair.chosen, pair.rejected) for pair in measured]
    tell(f"{len(questions)} labelled pairs")
    labelled = ask_both_orders(judge, questions)
    if all(verdict.p_win is None for verdict in labelled):
        raise HarnessError(_unreadable(judge, labelled))
    made = heldout_contrasts(measured[:CONTRAST_PAIRS], donors=pairs, seed=seed)
    tell(f"{len(made)} responses that should lose")
    verdicts = ask_both_orders(judge, [Question.of(c.pair, c.text, c.pair.chosen) for c in made])
    tell("some of the pairs again")
    again = ask_again(judge, questions, labelled, clock=clock)
    accuracy, rates = _outcome_share(labelled), error_rates(labelled, seed=seed)
    contrasts = _contrast_wins(made, verdicts)
    failings, unable = _contrast_failings(made, contrasts), _accuracy_failings(accuracy)
    bins = reliability(labelled)
    return JudgeCard(
        name=judge.name,
        description=judge.description,
        accuracy=accuracy,
        contrasts=contrasts,
        position_consistency=position_consistency(labelled),
        first_slot_rate=first_slot_rate(labelled),
        longer_rate=_longer_rate(measured, labelled),
        unscored=sum(verdict.p_win is None for verdict in (*labelled, *verdicts)),
        able=not unable,
        robust=not failings,
        reasons=(*unable, *failings),
        cautions=tuple(_contrast_cautions(contrasts)),
        sensitivity=rates.sensitivity and rates.sensitivity.score,
        specificity=rates.specificity and rates.specificity.score,
        sensitivity_error=rates.sensitivity and rates.sensitivity.error,
        specificity_error=rates.specificity and rates.specificity.error,
        brier=brier(labelled),
        reliability=bins,
        calibration_error=calibration_error(bins),
        self_agreement=again.agreement,
        cross_validated=getattr(judge, "cross_validated", None),  # of judges that are fitted
        verdicts_per_second=again.verdicts_per_second,
    )


def _draw(pairs: Sequence[Pair], limit: int | None, seed: int) -> list[Pair]:
    if not pairs:
        raise HarnessError("no held-out labelled pairs are left to qualify a judge on: use more data")
    if limit is None or limit >= len(pairs):
        return list(pairs)
    drawn = np.random.default_rng(seed).choice(len(pairs), size=limit, replace=False)
    return [pairs[row] for row in sorted(drawn)]


def _outcome_share(verdicts: Sequence[Verdict]) -> Score:
    """Share of scored verdicts won, ties half."""
    return _clustered_share([(v.prompt_id, winner(v.p_win)) for v in verdicts if v.p_win is not None])


def _longer_rate(pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> Score:
    """Share of pairs whose longer response it prefers; a tie of the judge or in length is half."""
    scored = [
        (pair.prompt_id, _preference_for_longer(pair, verdict.p_win))
        for pair, verdict in zip(pairs, verdicts, strict=True)
        if verdict.p_win is not None
    ]
    return _clustered_share(scored)


def _preference_for_longer(pair: Pair, p_chosen_wins: float) -> float:
    if len(pair.chosen) == len(pair.rejected):
        return 0.5
    return winner(p_chosen_wins if len(pair.chosen) > len(pair.rejected) else 1 - p_chosen_wins)


def _clustered_share(values: Sequence[tuple[str, float]]) -> Score:
    return share_interval([value for _, value in values], clusters=[prompt for prompt, _ in values])


def _contrast_wins(made: Sequence[ContrastResponse], verdicts: Sequence[Verdict]) -> tuple[Contrast, ...]:
    """Win rate of each kind with at least one readable verdict."""
    by_kind: dict[str, list[Verdict]] = {}
    for contrast, verdict in zip(made, verdicts, strict=True):
        if verdict.p_win is not None:
            by_kind.setdefault(contrast.kind, []).append(verdict)
    return tuple(Contrast(name=kind, win_rate=_outcome_share(found)) for kind, found in by_kind.items())


def _contrast_failings(made: Sequence[ContrastResponse], contrasts: Sequence[Contrast]) -> list[str]:
    """One sentence for each kind that wins too often or could not be measured."""
    deciding = [contrast for contrast in contrasts if contrast.name not in _CAUTIONS]
    wanted = dict.fromkeys((ANOTHER, OPENED, *(contrast.kind for contrast in made if contrast.kind not in _CAUTIONS)))
    own, limit = "the prompt's own chosen response", f"{MOST_CONTRAST_WINS:.0%}"
    often = [f"{_winning(c, own)}, and {limit} is too often." for c in deciding if _wins_often(c)]
    measured = {contrast.name for contrast in deciding}
    return often + [f"{_named(kind)} could not be measured." for kind in wanted if kind not in measured]


def _contrast_cautions(contrasts: Sequence[Contrast]) -> list[str]:
    """One sentence for each kind that wins often and fails nobody."""
    often = [contrast for contrast in contrasts if contrast.name in _CAUTIONS and _wins_often(contrast)]
    told = [(_winning(contrast, _CAUTIONS[contrast.name][0]), _CAUTIONS[contrast.name][1]) for contrast in often]
    return [f"{winning}, ties half: that fails no judge, but mind {minded}." for winning, minded in told]


def _wins_often(contrast: Contrast) -> bool:
    return contrast.win_rate.value >= MOST_CONTRAST_WINS


def _winning(contrast: Contrast, rival: str) -> str:
    rate, prompts = contrast.win_rate.value, contrast.win_rate.n
    return f"{_named(contrast.name)} beats {rival} on {rate:.0%} of {prompts} prompts"


def _named(kind: str) -> str:
    label, _, text = kind.partition(": ")
    return f"The constant response {text!r}" if text else f"{label[0].upper()}{label[1:]}"


def _accuracy_failings(accuracy: Score) -> list[str]:
    """Why it is not able, at most in two sentences."""
    failings = []
    if accuracy.n < LEAST_PROMPTS:
        failings.append(f"It was measured on {accuracy.n} prompts, and fewer than {LEAST_PROMPTS} show too little.")
    if accuracy.low < LEAST_ACCURACY:
        failings.append(
            f"It ranks {accuracy.value:.0%} of the labelled pairs of {accuracy.n} prompts right, with an interval from "
            f"{accuracy.low:.1%}, which has to begin at {LEAST_ACCURACY:.0%} or above."
        )
    return failings


def _unreadable(judge: Judge, verdicts: Sequence[Verdict]) -> str:
    return (
        f"judge {judge.name!r} gave no readable verdict on {len(verdicts)} labelled pairs "
        f"({verdicts[0].problem}): try another model, or --judge probe"
    )
