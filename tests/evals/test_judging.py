"""Who agrees with whom, and what a judge that is away costs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from evals.judges.protocol import Opinion, Question
from evals.judging import CHECK, agreements, judge_completions
from harness.errors import HarnessError
from harness.records import Completion, Pair, TrialScores, win_rate_by

PAIR = Pair(prompt_id="p", question="Why?", prompt="Why?", chosen="So.", rejected="No.")


class Fixed:
    """Says the same of every question."""

    description = "a double"

    def __init__(self, name: str, p_first: float | None) -> None:
        self.name, self.p_first = name, p_first

    def p_first_wins(self, questions: Sequence[Question]) -> list[Opinion]:
        return [Opinion(p_first=self.p_first, problem=None if self.p_first else "mute") for _ in questions]


def completion(text: str) -> Completion:
    return Completion(prompt_id="p", text=text, tokens=2, truncated=False)


def trial(**by_metric: dict[str, float]) -> TrialScores:
    return TrialScores(
        recipe="r", seed=0, scores={}, per_prompt=by_metric, commonest_opening="", anchor_opening_share=0.0
    )


def scored(gold: dict[str, float], probe: dict[str, float]) -> TrialScores:
    return trial(**{"gold_win_rate": gold, win_rate_by("probe"): probe})


def test_every_judge_is_asked_of_every_prompt() -> None:
    """In the order of the judges."""
    judges = [Fixed("a", 0.9), Fixed("b", 0.5)]
    found = judge_completions(judges, [PAIR], [completion("mine")], [completion("theirs")])
    assert [(v.judge, v.prompt_id) for v in found] == [("a", "p"), ("b", "p")]


def test_a_judge_that_answers_nothing_is_away() -> None:
    """A trial without its verdicts is not done, and says why."""
    with pytest.raises(HarnessError, match=r"judge 'a' gave no readable verdict \(mute\): mend it"):
        judge_completions([Fixed("a", None)], [PAIR], [completion("mine")], [completion("theirs")])


def test_agreement_counts_where_both_name_a_winner() -> None:
    """Of three prompts the truth ties on one; on the other two the judge is right once."""
    scores = {"dpo": scored({"p": 1.0, "q": 0.0, "r": 0.5}, {"p": 0.7, "q": 0.8, "r": 0.9})}
    (found,) = agreements(["probe"], scores)
    assert (found.a, found.b, found.share.value, found.share.n) == (CHECK, "probe", 0.5, 2)


def test_agreement_is_over_all_trials_and_its_n_is_the_prompts() -> None:
    """The same prompt answered by two trials is one cluster."""
    one = scored({"p": 1.0, "q": 1.0}, {"p": 0.9, "q": 0.9})
    two = scored({"p": 1.0, "q": 1.0}, {"p": 0.1, "q": 0.9})
    (found,) = agreements(["probe"], {"a": one, "b": two})
    assert (found.share.value, found.share.n) == (0.75, 2)


def test_who_never_met_does_not_agree() -> None:
    """No shared verdict, no number."""
    assert agreements(["probe"], {"dpo": scored({"p": 0.5}, {"p": 0.9})}) == ()


def test_two_judges_agree_without_a_truth() -> None:
    """Where the data knows none."""
    values = {win_rate_by("a"): {"p": 0.9, "q": 0.2}, win_rate_by("b"): {"p": 0.6, "q": 0.1}}
    (found,) = agreements(["a", "b"], {"dpo": trial(**values)})
    assert (found.a, found.b, found.share.value) == ("a", "b", 1.0)
