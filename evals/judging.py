"""What the judges say of completions against the anchor's, and how often they agree."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from evals.judges.protocol import Judge, Question, ask_both_orders
from evals.statistics import share_interval
from evals.winrate import winner
from harness.errors import HarnessError
from harness.records import Agreement, Completion, Pair, TrialScores, Verdict, win_rate_by

CHECK = "the data's check"


def judge_completions(
    judges: Sequence[Judge],
    prompts: Sequence[Pair],
    mine: Sequence[Completion],
    theirs: Sequence[Completion],
    *,
    chosen: bool = False,
) -> list[Verdict]:
    """Every judge's verdict on each prompt, both orders asked, against the anchor's response.

    With `chosen` against the data set's chosen response too. HarnessError where a judge is away.
    """
    questions = [Question.of(p, a.text, b.text) for p, a, b in zip(prompts, mine, theirs, strict=True)]
    if chosen:
        questions += [Question.of(p, a.text, p.chosen, against="chosen") for p, a in zip(prompts, mine, strict=True)]
    return [verdict for judge in judges for verdict in _ask(judge, questions)]


def _ask(judge: Judge, questions: Sequence[Question]) -> tuple[Verdict, ...]:
    """Both orders of every question; a judge that answers none is away, and the trial waits for it."""
    verdicts = ask_both_orders(judge, questions)
    if all(verdict.p_win is None for verdict in verdicts):
        problem = verdicts[0].problem
        raise HarnessError(f"judge {judge.name!r} gave no readable verdict ({problem}): mend it and run again")
    return verdicts


def agreements(judges: Sequence[str], scores: Mapping[str, TrialScores]) -> tuple[Agreement, ...]:
    """How often each two of the data's check and the judges name the same winner, over all trials and prompts.

    Where one of them ties there is nothing to agree on, so it does not count.
    """
    metrics = {CHECK: "gold_win_rate", **{judge: win_rate_by(judge) for judge in judges}}
    return tuple(
        Agreement(a=a, b=b, share=share_interval([same for _, same in found], clusters=[prompt for prompt, _ in found]))
        for a, b in itertools.combinations(metrics, 2)
        if (found := _both_decide(metrics[a], metrics[b], scores))
    )


def _both_decide(a: str, b: str, scores: Mapping[str, TrialScores]) -> list[tuple[str, float]]:
    """(prompt_id, 1 where both name the same winner, else 0), for each response on which both name one."""
    return [
        (prompt, float(winner(mine) == winner(theirs)))
        for trial in scores.values()
        for prompt, mine in trial.per_prompt.get(a, {}).items()
        if (theirs := trial.per_prompt.get(b, {}).get(prompt)) is not None
        if winner(mine) != 0.5 and winner(theirs) != 0.5
    ]
