"""From what a checkpoint left behind to its scores: known evidence, known numbers; what is missing stays missing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from evals.score import Evidence, score_trial
from harness.records import Completion, Gold, PairLogp, Sample, Score, TrialScores, Verdict
from models.tokens import DIGITS_PATTERN, byte_level, printable_bytes

END = 256
VOCABULARY = {char: byte for byte, char in printable_bytes().items()} | {"<|end|>": END}
TOKENS = byte_level(VOCABULARY, pattern=DIGITS_PATTERN, end=END, special={"<|end|>": END})
PROMPTS = ("p0", "p1", "p2", "p3")
GOLDS = {prompt: Gold(kind="number", answers=("4",)) for prompt in PROMPTS}


def completion(prompt: str, text: str) -> Completion:
    ids = (*TOKENS.encode(text), END)
    return Completion(prompt_id=prompt, text=text, tokens=len(ids), truncated=False, token_ids=ids)


def logp(row: int, chosen: float, rejected: float, prompt: str | None = None) -> PairLogp:
    return PairLogp(
        pair=row,
        prompt_id=prompt or PROMPTS[row],
        chosen_logp=chosen,
        rejected_logp=rejected,
        chosen_tokens=5,
        rejected_tokens=10,
    )


def sampled(prompt: str, kl: float, *, truncated: bool = False) -> Sample:
    return Sample(prompt_id=prompt, text="", tokens=2, truncated=truncated, kl_nats=kl, k1_nats=kl - 0.5)


def verdict(prompt: str, p_first: float | None, p_second: float | None, judge: str = "probe") -> Verdict:
    return Verdict(judge=judge, prompt_id=prompt, p_first=p_first, p_second=p_second)


ANCHOR = Evidence(
    completions=tuple(completion(p, text) for p, text in zip(PROMPTS, ("It is 4.", "It is 4.", "5", "5"), strict=True)),
    samples=(),
    pairs=tuple(logp(row, -10.0, -10.0) for row in range(4)),
)
POLICY = Evidence(
    completions=tuple(completion(p, text) for p, text in zip(PROMPTS, ("It is 4.", "5", "It is 4.", "6"), strict=True)),
    samples=tuple(sampled(p, kl, truncated=kl > 3) for p, kl in zip(PROMPTS, (1.0, 2.0, 3.0, 4.0), strict=True)),
    pairs=(logp(0, -8.0, -10.0), logp(1, -11.0, -10.0), logp(2, -9.0, -9.0), logp(3, -10.0, -13.0)),
    verdicts=tuple(
        verdict(p, *both) for p, both in zip(PROMPTS, ((0.9, 0.7), (0.9, 0.1), (0.2, 0.4), (None, 0.9)), strict=True)
    ),
)


def scored(policy: Evidence = POLICY, golds: dict[str, Gold] | None = None) -> TrialScores:
    return score_trial("dpo", 3, policy, ANCHOR, GOLDS if golds is None else golds, TOKENS)


def changed(**parts: Sequence[object]) -> Evidence:
    return dataclasses.replace(POLICY, **{name: tuple(part) for name, part in parts.items()})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "n", "unit"),
    [
        ("reward_accuracy", 0.625, 4, "share"),  # margins 2, −1, 0, 3: the tie is half
        ("reward_margin_nats", 1.0, 4, "nats"),
        ("chosen_shift_nats", 0.5, 4, "nats"),
        ("rejected_shift_nats", -0.5, 4, "nats"),
        ("ranking_accuracy", 0.75, 4, "share"),  # −9 ≥ −9 counts, as in the paper
        ("kl_nats", 2.5, 4, "nats"),
        ("kl_per_token_nats", 1.25, 4, "nats/token"),
        ("k1_nats", 2.0, 4, "nats"),
        ("samples_truncated", 0.25, 4, "share"),
        ("win_rate[probe]", (0.8 + 0.5 + 0.3) / 3, 3, "share"),
        ("win_rate_strict[probe]", (1 + 0.5 + 0) / 3, 3, "share"),  # orders that disagree tie
        ("unscored[probe]", 0.25, 4, "share"),
        ("gold_win_rate", (0.5 + 0 + 1 + 0.5) / 4, 4, "share"),
        ("correct", 0.5, 4, "share"),
        ("correct_change", 0.0, 4, "share"),
        ("length_tokens", (9 + 2 + 9 + 2) / 4, 4, "tokens"),
        ("length_ratio", 1.0, 4, "ratio"),
        ("opening_concentration", 0.5, 4, "share"),
        ("truncated", 0.0, 4, "share"),
    ],
)
def test_known_evidence_gives_known_scores(name: str, value: float, n: int, unit: str) -> None:
    """Worked out by hand."""
    score = scored().scores[name]
    assert (score.value, score.n, score.unit) == (pytest.approx(value), n, unit)


def test_every_score_lies_in_its_interval() -> None:
    """Low, value, high."""
    scores: list[Score] = list(scored().scores.values())
    assert [score for score in scores if not score.low <= score.value <= score.high] == []


def test_the_anchor_against_itself_has_changed_nothing() -> None:
    """Law 1: accuracy ½, margin 0, gold win rate ½, length ratio 1."""
    scores = scored(ANCHOR).scores
    names = ("reward_accuracy", "reward_margin_nats", "gold_win_rate", "correct_change", "length_ratio")
    assert [scores[name].value for name in names] == [0.5, 0.0, 0.5, 0.0, 1.0]


def test_policy_against_anchor_is_no_symmetric_question() -> None:
    """Changing places turns the margin round."""
    reverse = score_trial("dpo", 0, ANCHOR, POLICY, GOLDS, TOKENS).scores
    assert reverse["reward_margin_nats"].value == -scored().scores["reward_margin_nats"].value


def test_without_samples_there_is_no_kl() -> None:
    """It is not zero: it was not measured."""
    assert not {"kl_nats", "k1_nats", "kl_per_token_nats"} & set(scored(changed(samples=())).scores)


def test_without_gold_nothing_is_called_correct() -> None:
    """Nor is there a gold win rate."""
    assert not {"gold_win_rate", "correct", "correct_change", "courtesy"} & set(scored(golds={}).scores)


def test_without_verdicts_there_is_no_win_rate() -> None:
    """No judge, no number."""
    assert [name for name in scored(changed(verdicts=())).scores if "[" in name] == []


def test_a_judge_that_said_nothing_has_no_win_rate() -> None:
    """Its unscored share says so."""
    scores = scored(changed(verdicts=[verdict(p, None, None) for p in PROMPTS])).scores
    assert {name: score.value for name, score in scores.items() if "[" in name} == {"unscored[probe]": 1.0}


def test_an_unscored_verdict_is_no_loss() -> None:
    """The win rate is that of the others, as if it had not been asked."""
    others = changed(verdicts=POLICY.verdicts[:3])
    assert scored().scores["win_rate[probe]"] == scored(others).scores["win_rate[probe]"]


def test_an_unscored_prompt_is_in_no_comparison() -> None:
    """Missing, in what paired comparisons read."""
    assert set(scored().per_prompt["win_rate[probe]"]) == {"p0", "p1", "p2"}


def test_judges_are_scored_apart() -> None:
    """One's verdicts do not mix with another's."""
    against = [verdict(p, 0.0, 0.0, judge="ollama:x") for p in PROMPTS]
    scores = scored(changed(verdicts=[*against, *POLICY.verdicts])).scores
    assert scores["win_rate[ollama:x]"].value == 0.0
    assert scores["win_rate[probe]"] == scored().scores["win_rate[probe]"]


def test_pairs_of_one_prompt_are_one_cluster() -> None:
    """The same four pairs on two prompts: n is 2."""
    pairs = [logp(p.pair, p.chosen_logp, p.rejected_logp, f"p{p.pair // 2}") for p in POLICY.pairs]
    anchor = dataclasses.replace(ANCHOR, pairs=tuple(logp(row, -10.0, -10.0, f"p{row // 2}") for row in range(4)))
    scores = score_trial("dpo", 0, changed(pairs=pairs), anchor, GOLDS, TOKENS).scores
    assert (scores["reward_accuracy"].value, scores["reward_accuracy"].n) == (0.625, 2)


def test_paired_comparisons_get_a_value_a_prompt() -> None:
    """Each metric that can be compared, by prompt."""
    per_prompt = scored().per_prompt
    assert per_prompt["gold_win_rate"] == {"p0": 0.5, "p1": 0.0, "p2": 1.0, "p3": 0.5}
    assert per_prompt["kl_nats"] == {"p0": 1.0, "p1": 2.0, "p2": 3.0, "p3": 4.0}
    assert per_prompt["reward_accuracy"] == {"p0": 1.0, "p1": 0.0, "p2": 0.5, "p3": 1.0}


def test_the_commonest_opening_is_given_in_words() -> None:
    """Four tokens, here bytes."""
    assert scored().commonest_opening == "It i"


@pytest.mark.parametrize(("text", "share"), [("5", 0.5), ("I'd be happy: 4.", 0.0)])
def test_how_often_the_anchor_opens_so_is_kept(text: str, share: float) -> None:
    """An opening that the anchor did not have is a mark of gaming."""
    completions = [completion(p, text) for p in PROMPTS]
    assert scored(changed(completions=completions)).anchor_opening_share == share


def test_a_trial_keeps_its_name_and_seed() -> None:
    """As it was asked for."""
    assert (scored().recipe, scored().seed) == ("dpo", 3)
