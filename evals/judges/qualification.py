"""Measures a judge on held-out labelled pairs and contrast responses, before anything it says is believed.

Robust: every kind of contrast response wins less than 20% against the own chosen one; each constant is
a kind, so the worst one counts. Able: the lower bound of its accuracy on labelled pairs is 0.6 or more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evals.judges.contrast import ANOTHER, OPENED, ContrastResponse, heldout_contrasts
from evals.judges.protocol import Judge, Question, ask_both_orders
from evals.statistics import share_interval
from evals.winrate import first_slot_rate, position_consistency, winner
from harness.errors import HarnessError
from harness.records import Contrast, JudgeCard, Pair, Score, Verdict

MOST_CONTRAST_WINS = 0.2
LEAST_ACCURACY = 0.6
CONTRAST_PAIRS = 64  # pairs that contrasts are made of at most: a share of 20% is then told from 10% either way


def qualify(judge: Judge, pairs: Sequence[Pair], *, seed: int, limit: int | None = None) -> JudgeCard:
    """The judge's card, measured on at most `limit` of the pairs, which it must never have been fitted on.

    The first CONTRAST_PAIRS of them cost 16 questions each (the pair, two responses of others, five constants, in both
    orders), the rest two.
    """
    measured = _draw(pairs, limit, seed)
    labelled = ask_both_orders(judge, [_question(pair, pair.chosen, pair.rejected) for pair in measured])
    if all(verdict.p_win is None for verdict in labelled):
        raise HarnessError(_unreadable(judge, labelled))
    made = heldout_contrasts(measured[:CONTRAST_PAIRS], donors=pairs, seed=seed)
    verdicts = ask_both_orders(judge, [_question(c.pair, c.text, c.pair.chosen) for c in made])
    accuracy = _outcome_share(labelled)
    contrasts = _contrast_wins(made, verdicts)
    failings = _contrast_failings(made, contrasts)
    able = accuracy.low >= LEAST_ACCURACY
    return JudgeCard(
        name=judge.name,
        description=judge.description,
        accuracy=accuracy,
        contrasts=contrasts,
        position_consistency=position_consistency(labelled),
        first_slot_rate=first_slot_rate(labelled),
        longer_rate=_longer_rate(measured, labelled),
        unscored=sum(verdict.p_win is None for verdict in (*labelled, *verdicts)),
        able=able,
        robust=not failings,
        reasons=(*(() if able else (_accuracy_failing(accuracy),)), *failings),
    )


def _draw(pairs: Sequence[Pair], limit: int | None, seed: int) -> list[Pair]:
    if not pairs:
        raise HarnessError("no held-out labelled pairs are left to qualify a judge on: use more data")
    if limit is None or limit >= len(pairs):
        return list(pairs)
    drawn = np.random.default_rng(seed).choice(len(pairs), size=limit, replace=False)
    return [pairs[row] for row in sorted(drawn)]


def _question(pair: Pair, first: str, second: str) -> Question:
    return Question(prompt_id=pair.prompt_id, question=pair.question, first=first, second=second, gold=pair.gold)


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
    measured = {contrast.name for contrast in contrasts}
    wanted = dict.fromkeys((ANOTHER, OPENED, *(contrast.kind for contrast in made)))
    often = [
        f"{_named(contrast.name)} beats the prompt's own chosen response on {contrast.win_rate.value:.0%} of "
        f"{contrast.win_rate.n} prompts, and {MOST_CONTRAST_WINS:.0%} is too often."
        for contrast in contrasts
        if contrast.win_rate.value >= MOST_CONTRAST_WINS
    ]
    return often + [f"{_named(kind)} could not be measured." for kind in wanted if kind not in measured]


def _named(kind: str) -> str:
    label, _, text = kind.partition(": ")
    return f"The constant response {text!r}" if text else f"{label[0].upper()}{label[1:]}"


def _accuracy_failing(accuracy: Score) -> str:
    return (
        f"It ranks {accuracy.value:.0%} of the labelled pairs of {accuracy.n} prompts right, with an interval from "
        f"{accuracy.low:.1%}, which has to begin at {LEAST_ACCURACY:.0%} or above."
    )


def _unreadable(judge: Judge, verdicts: Sequence[Verdict]) -> str:
    return (
        f"judge {judge.name!r} gave no readable verdict on {len(verdicts)} labelled pairs "
        f"({verdicts[0].problem}): try another model, or --judge probe"
    )
