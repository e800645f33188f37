"""Generation writes what the model says, however its rows are batched."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from models import generation
from models.architecture import Architecture
from models.decoder import Decoder
from models.generation import Generated, generate
from models.weights import load_folder_weights
from tests.tiny import GPT2, LLAMA, decoder_of, logits_of

PROMPTS = [(3, 1, 4), (3, 1, 4, 1, 5, 9), (2,), (3, 1), (3, 1, 4, 1), (7, 7, 7, 7, 7, 7, 7), (2, 2)]
NEVER = -1  # an end token that no row writes


def written(decoder: Decoder, prompts: list[tuple[int, ...]] = PROMPTS, **asked: int) -> list[Generated]:
    settings = {"end": 0, "limit": 20} | asked
    return generate(decoder, prompts, dtype=torch.float32, **settings)  # type: ignore[arg-type]  # all are ints


def greedy_by_hand(decoder: Decoder, prompt: tuple[int, ...], limit: int, end: int) -> tuple[int, ...]:
    """Reading everything again for each token: slow, without a cache, and plainly right."""
    answer: list[int] = []
    while len(answer) < limit and end not in answer:
        answer.append(int(logits_of(decoder, prompt + tuple(answer))[-1].argmax()))
    return tuple(answer)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (
            LlamaForCausalLM,
            LlamaConfig(
                vocab_size=31,
                hidden_size=32,
                intermediate_size=40,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                initializer_range=0.3,
                eos_token_id=0,
                pad_token_id=30,
            ),
        ),
        (
            GPT2LMHeadModel,
            GPT2Config(
                vocab_size=31, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3, eos_token_id=0, pad_token_id=30
            ),
        ),
    ],
    ids=["llama", "gpt2"],
)
def test_greedy_answers_are_those_of_transformers(
    kind: type[PreTrainedModel], config: LlamaConfig | GPT2Config, tmp_path: Path
) -> None:
    """Token for token, where transformers is asked prompt by prompt."""
    torch.manual_seed(3)
    theirs = kind(config).eval()
    theirs.save_pretrained(tmp_path)
    wanted = [
        theirs.generate(  # type: ignore[operator]  # PreTrainedModel has it by a mixin
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), do_sample=False, max_new_tokens=20
        )[0, len(prompt) :].tolist()
        for prompt in PROMPTS
    ]
    assert [list(g.tokens) for g in written(load_folder_weights(tmp_path))] == wanted


@pytest.mark.parametrize("architecture", [LLAMA, GPT2], ids=lambda a: a.family)
def test_the_cache_changes_nothing(architecture: Architecture) -> None:
    """With it, in batches, the answers are those of reading everything anew for each token."""
    decoder = decoder_of(architecture)
    wanted = [greedy_by_hand(decoder, p, 20, end=0) for p in PROMPTS]
    assert [g.tokens for g in written(decoder)] == wanted


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("asked", [{}, {"seed": 5}], ids=["greedy", "sampled"])
def test_answers_do_not_depend_on_the_batch(asked: dict[str, int], batch: int) -> None:
    """Any batch size gives the same tokens, in the order of the prompts."""
    decoder = decoder_of(scale=0.2)
    assert written(decoder, batch=batch, **asked) == written(decoder, batch=64, **asked)


def test_rows_that_end_early_leave_the_others_as_they_were() -> None:
    """Half of the rows finish on different steps and are dropped; every row still says what it says alone."""
    decoder = decoder_of(scale=0.2)
    prompts = [tuple(range(i, i + j)) for i in range(1, 7) for j in range(1, 5)]
    together = written(decoder, prompts, seed=1, limit=40)
    assert len({len(g.tokens) for g in together}) > 5, "rows of this test have to end at different times"
    assert written(decoder, prompts, seed=1, limit=40, batch=1) == together


def test_finished_rows_are_dropped_in_few_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Multiples of eight, each of them met, or what is written would be computed to the end for all."""
    sizes, step = [], generation._Rows._step

    def noted(self: generation._Rows, tokens_B: Tensor) -> Tensor:
        sizes.append(len(tokens_B))
        return step(self, tokens_B)

    monkeypatch.setattr(generation._Rows, "_step", noted)
    written(decoder_of(scale=0.2), [(i, j) for i in range(1, 7) for j in range(1, 5)], seed=1, limit=60)
    assert sizes == sorted(sizes, reverse=True)
    assert set(sizes) == {24, 16, 8}


def test_an_answer_ends_with_the_end_token_or_is_truncated() -> None:
    """Never both, never neither, and nothing follows an end token."""
    answers = written(decoder_of(scale=0.2), [(i,) for i in range(1, 40)], seed=0, limit=15)
    assert {g.truncated for g in answers} == {True, False}
    for answer in answers:
        assert answer.truncated == (answer.tokens[-1] != 0)
        assert 0 not in answer.tokens[:-1]
        assert len(answer.tokens) == 15 or not answer.truncated


def test_an_end_token_on_the_last_step_is_an_end() -> None:
    """A response that ends exactly at the limit is whole."""
    decoder = decoder_of(scale=0.2)
    decoder = decoder_of()
    ends = greedy_by_hand(decoder, (5,), 3, end=NEVER)
    assert written(decoder, [(5,)], end=ends[0], limit=1) == [Generated(tokens=ends[:1], truncated=False)]


def test_samples_follow_the_models_distribution() -> None:
    """The first token of many samples against the softmax, by chi-square."""
    decoder = decoder_of(replace(LLAMA, vocabulary=7), scale=0.4)
    count = 4000
    answers = written(decoder, [(3, 2)] * count, seed=11, limit=1, batch=count, end=NEVER)
    found = Counter(g.tokens[0] for g in answers)
    wanted = logits_of(decoder, (3, 2))[-1].double().softmax(-1)
    assert chisquare([found[v] for v in range(7)], (wanted / wanted.sum() * count).tolist()).pvalue > 0.001


def test_later_tokens_follow_the_distribution_given_the_earlier_ones() -> None:
    """The second token of many samples, by its first one: the cache feeds the right row."""
    decoder = decoder_of(replace(LLAMA, vocabulary=5), scale=0.4)
    answers = written(decoder, [(3, 2)] * 4000, seed=12, limit=2, batch=1000, end=NEVER)
    for first in range(5):
        found = Counter(g.tokens[1] for g in answers if g.tokens[0] == first)
        wanted = logits_of(decoder, (3, 2, first))[-1].double().softmax(-1)
        counts = [found[v] for v in range(5)]
        assert chisquare(counts, (wanted / wanted.sum() * sum(counts)).tolist()).pvalue > 0.001


def test_the_seed_decides_the_samples() -> None:
    """The same seed, the same samples; another seed, others."""
    decoder = decoder_of(scale=0.2)
    assert written(decoder, seed=1) == written(decoder, seed=1)
    assert written(decoder, seed=1) != written(decoder, seed=2)


def test_two_decoders_sample_with_the_same_draws() -> None:
    """Decoders that differ by a hair say nearly the same: common random numbers."""
    decoder, near = decoder_of(scale=0.2), decoder_of(scale=0.2 + 1e-6)
    assert written(decoder, seed=1) == written(near, seed=1)


def test_no_prompts_give_no_answers() -> None:
    """Nothing in, nothing out."""
    assert written(decoder_of(), []) == []
