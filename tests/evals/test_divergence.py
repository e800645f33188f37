"""Law 5: the Rao-Blackwellised KL is the KL, found on a vocabulary small enough to go through every response."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import tiktoken
import torch

from evals.completions import complete, sample
from evals.divergence import measure_samples
from harness.records import Pair, Sample
from models.decoder import Decoder
from models.generation import Generated, generate
from models.language_model import LanguageModel
from models.logprobs import divergence
from models.packing import Row, pack
from models.tokens import Ranked, Tokens
from tests.tiny import LLAMA, decoder_of, text_pairs

SMALL = replace(LLAMA, vocabulary=5)
END, LIMIT, PROMPT = 4, 3, (1, 2)


def small_model(seed: int) -> LanguageModel:
    """Five tokens: a, b, c, d and the end."""
    encoding = tiktoken.Encoding(
        name="five", pat_str=".", mergeable_ranks={bytes([97 + n]): n for n in range(4)}, special_tokens={"<end>": END}
    )
    letters = Ranked(encoding=encoding, spelt={n: bytes([97 + n]) for n in range(4)})
    tokens = Tokens(speller=letters, end=END, special={"<end>": END})
    return LanguageModel(decoder=decoder_of(SMALL, seed=seed), tokens=tokens, dtype=torch.float32)


POLICY, ANCHOR = small_model(1), small_model(2)


def every_response(start: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """All responses of at most LIMIT tokens: ended, or cut at the limit."""
    if (start and start[-1] == END) or len(start) == LIMIT:
        yield start
        return
    for token in range(5):
        yield from every_response((*start, token))


def exact() -> tuple[float, float, float]:
    """Σ π(y) (log π(y) − log a(y)) over every response; its total probability; the RB terms' own expectation."""
    responses = list(every_response())
    batch = pack([Row(prompt=PROMPT, responses=tuple(responses))])
    kl_R, policy_R, anchor_R = (
        x.double() for x in divergence(POLICY.decoder, ANCHOR.decoder, batch, dtype=torch.float32)
    )
    chance_R = policy_R.exp()
    kl = (chance_R * (policy_R - anchor_R)).sum().item()
    return kl, chance_R.sum().item(), (chance_R * kl_R).sum().item()


def samples(count: int, seed: int = 0) -> tuple[Sample, ...]:
    prompts = [Pair(prompt_id=str(n), question="", prompt="bc", chosen="", rejected="") for n in range(count)]
    return measure_samples(POLICY, ANCHOR, prompts, sample(POLICY, prompts, limit=LIMIT, seed=seed))


def test_every_response_has_been_gone_through() -> None:
    """Their probabilities add up to one, ended and cut ones together."""
    assert exact()[1] == pytest.approx(1.0, abs=1e-5)


def test_the_expectation_of_the_estimate_is_the_kl() -> None:
    """Over every response, weighted with its probability: unbiased, without any sampling error."""
    kl, _, expected = exact()
    assert expected == pytest.approx(kl, rel=1e-4)


def test_the_mean_over_samples_is_the_kl() -> None:
    """Within 4 standard errors, on thousands of samples; so is the plain estimate, with a wider spread."""
    kl, found = exact()[0], samples(4000)
    for values in ([s.kl_nats for s in found], [s.k1_nats for s in found]):
        x = torch.tensor(values, dtype=torch.float64)
        assert abs(x.mean() - kl) < 4 * x.std() / math.sqrt(len(x))
    assert torch.tensor([s.kl_nats for s in found]).std() < torch.tensor([s.k1_nats for s in found]).std()


def test_no_sample_has_a_negative_kl() -> None:
    """Each is a sum of KLs."""
    assert all(s.kl_nats >= 0 for s in samples(500))


def test_a_policy_that_is_its_anchor_has_no_kl() -> None:
    """Exactly zero, in both estimates."""
    prompts = [Pair(prompt_id=str(n), question="", prompt="bc", chosen="", rejected="") for n in range(50)]
    for found in measure_samples(POLICY, POLICY, prompts, sample(POLICY, prompts, limit=LIMIT, seed=0)):
        assert (found.kl_nats, found.k1_nats) == (0, 0)


def test_a_samples_kl_does_not_depend_on_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one or all together."""
    together = samples(40)
    monkeypatch.setattr(POLICY.rooms.reading, "most", 1)
    for alone, other in zip(samples(40), together, strict=True):
        assert alone.kl_nats == pytest.approx(other.kl_nats, rel=1e-4, abs=1e-5)
        assert alone.text == other.text


def test_a_sample_says_whether_it_was_cut() -> None:
    """Its length counts the end token; its text does not show it."""
    for found in samples(200):
        assert found.truncated == (len(found.text) == LIMIT)
        assert found.tokens == len(found.text) + (not found.truncated)


def test_checkpoints_sample_with_the_same_draws() -> None:
    """The same seed writes the same for the same model: common random numbers over trials."""
    prompts = text_pairs(3)
    five = [replace(p, prompt="abc"[: n + 1]) for n, p in enumerate(prompts)]
    assert sample(POLICY, five, limit=5, seed=1) == sample(small_model(1), five, limit=5, seed=1)
    assert sample(POLICY, five, limit=5, seed=1) != sample(POLICY, five, limit=5, seed=2)


def test_completions_are_the_greedy_answers(tiny_model: tuple[Decoder, Tokens]) -> None:
    """Their texts, tokens and cuts, in the order of the prompts."""
    model = LanguageModel.of(*tiny_model, torch.float32)
    prompts = text_pairs(5)
    written: list[Generated] = generate(
        model.decoder,
        [model.tokens.encode(p.prompt) for p in prompts],
        end=model.tokens.end,
        limit=12,
        dtype=torch.float32,
    )
    for prompt, answer, found in zip(prompts, written, complete(model, prompts, limit=12), strict=True):
        assert (found.prompt_id, found.token_ids, found.truncated) == (
            prompt.prompt_id,
            answer.tokens,
            answer.truncated,
        )
        assert (found.text, found.tokens) == (model.tokens.decode(answer.tokens).strip(), len(answer.tokens))
