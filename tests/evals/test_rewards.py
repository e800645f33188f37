"""Margins, accuracies and shifts of held-out pairs against the anchor."""

from __future__ import annotations

import math

import pytest
import torch

from evals.rewards import measure_pairs, prompt_means, reward_scores
from harness.records import PairLogp
from models.decoder import Decoder
from models.language_model import LanguageModel
from models.room import Room, Rooms
from models.tokens import Tokens
from tests.tiny import logits_of, text_pairs


def logp(
    number: int, chosen: float, rejected: float, *, prompt: str = "", tokens: tuple[int, int] = (4, 2)
) -> PairLogp:
    return PairLogp(
        pair=number,
        prompt_id=prompt or f"p{number}",
        chosen_logp=chosen,
        rejected_logp=rejected,
        chosen_tokens=tokens[0],
        rejected_tokens=tokens[1],
    )


ANCHOR = [logp(0, -10, -12), logp(1, -10, -12), logp(2, -10, -12), logp(3, -10, -12)]
# Margins 3, −1, 0 and −2; the chosen shifts are 1, −1, −5 and 0.
POLICY = [logp(0, -9, -14), logp(1, -11, -12), logp(2, -15, -17), logp(3, -10, -10)]


def values(policy: list[PairLogp], anchor: list[PairLogp]) -> dict[str, float]:
    return {name: score.value for name, score in reward_scores(policy, anchor)[0].items()}


@pytest.mark.parametrize(
    ("metric", "wanted"),
    [
        ("reward_accuracy", (1 + 0 + 0.5 + 0) / 4),
        ("reward_margin_nats", (3 - 1 + 0 - 2) / 4),
        ("chosen_shift_nats", (1 - 1 - 5 + 0) / 4),
        ("rejected_shift_nats", (-2 + 0 - 5 + 2) / 4),
        ("ranking_accuracy", 1.0),  # a tie is ranked right, as published: ≥
        ("ranking_accuracy_per_token", 1.0),
        ("chosen_perplexity", math.exp((9 + 11 + 15 + 10) / 4 / 4)),
    ],
)
def test_a_metric_is_what_is_found_by_hand(metric: str, wanted: float) -> None:
    """Four pairs, worked out on paper."""
    assert values(POLICY, ANCHOR)[metric] == pytest.approx(wanted)


def test_ranking_a_token_need_not_be_ranking_in_all() -> None:
    """A long chosen response loses by its sum and wins by its mean."""
    found = values([logp(0, -10, -8, tokens=(10, 2)), logp(1, -10, -8, tokens=(10, 2))], ANCHOR[:2])
    assert (found["ranking_accuracy"], found["ranking_accuracy_per_token"]) == (0.0, 1.0)


def test_a_policy_that_is_its_anchor_has_half_of_the_pairs_right() -> None:
    """All ties: half, not nothing, and a margin and shifts of exactly zero."""
    found = values(ANCHOR, ANCHOR)
    assert found["reward_accuracy"] == 0.5
    assert [found[f"{m}_nats"] for m in ("reward_margin", "chosen_shift", "rejected_shift")] == [0, 0, 0]


def test_every_score_has_its_interval_n_and_unit() -> None:
    """Around its value, over the pairs."""
    for name, score in reward_scores(POLICY, ANCHOR)[0].items():
        assert score.low <= score.value <= score.high, name
        assert (score.n, bool(score.unit)) == (4, True), name


def test_the_cluster_is_the_prompt() -> None:
    """The same pair eight times over is no more certain than twice two prompts."""
    anchor = [logp(n, -10, -12, prompt=f"p{n % 2}") for n in range(8)]
    policy = [logp(n, -9 - n % 2, -12, prompt=f"p{n % 2}") for n in range(8)]
    two = reward_scores(policy[:2], anchor[:2])[0]["chosen_shift_nats"]
    eight = reward_scores(policy, anchor)[0]["chosen_shift_nats"]
    assert eight.high - eight.low == pytest.approx(two.high - two.low)


def test_means_by_prompt_are_kept_for_paired_comparisons() -> None:
    """A prompt with two pairs counts once, with their mean."""
    assert prompt_means(["a", "b", "a"], [1.0, 5.0, 2.0]) == {"a": 1.5, "b": 5.0}
    per_prompt = reward_scores(POLICY, ANCHOR)[1]
    assert per_prompt["reward_margin_nats"] == {"p0": 3, "p1": -1, "p2": 0, "p3": -2}


def test_policy_and_anchor_have_to_be_of_the_same_pairs() -> None:
    """A missing line is an error, not a shift of all others."""
    with pytest.raises(ValueError, match="shorter"):
        reward_scores(POLICY, ANCHOR[:3])


def test_log_probs_are_sums_over_the_response_and_its_end(tiny_model: tuple[Decoder, Tokens]) -> None:
    """By the definition, token by token from the logits."""
    decoder, tokens = tiny_model
    pairs = text_pairs(6)
    for pair, found in zip(pairs, measure_pairs(LanguageModel.of(decoder, tokens, torch.float32), pairs), strict=True):
        prompt = tokens.encode(pair.prompt)
        for text, logp_found, count in (
            (pair.chosen, found.chosen_logp, found.chosen_tokens),
            (pair.rejected, found.rejected_logp, found.rejected_tokens),
        ):
            response = (*tokens.encode(text), tokens.end)
            logps_NV = logits_of(decoder, prompt + response[:-1])[len(prompt) - 1 :].log_softmax(-1)
            wanted = logps_NV.gather(1, torch.tensor(response)[:, None]).sum().item()
            assert logp_found == pytest.approx(wanted, rel=1e-5)
            assert count == len(response)


def test_pairs_come_back_in_their_order(tiny_model: tuple[Decoder, Tokens]) -> None:
    """However they were batched by length."""
    pairs = text_pairs(9)
    found = measure_pairs(LanguageModel.of(*tiny_model, torch.float32, Rooms(reading=Room(150))), pairs)
    assert [(f.pair, f.prompt_id) for f in found] == [(n, p.prompt_id) for n, p in enumerate(pairs)]
