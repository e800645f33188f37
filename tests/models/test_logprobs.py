"""Log-probs in chunks are the log-probs of the whole softmax, and the divergence is the KL over the vocabulary."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models import kernels, logprobs, products
from models.decoder import Decoder
from models.logprobs import divergence, sum_logps, token_logps
from models.packing import Packed, pack
from tests.tiny import LLAMA, decoder_of, pair_rows


def whole_logps(decoder: Decoder, batch: Packed) -> Tensor:
    """Every response position's log-softmax over the vocabulary, (M, V)."""
    hidden_ND, _ = decoder(batch.tokens_N, batch.positions_N, batch.attend, dtype=torch.float32)
    return (hidden_ND[batch.sources_U[batch.places_M]] @ decoder.head.T).log_softmax(-1)


@pytest.mark.usefixtures("with_and_without_kernels")
@pytest.mark.parametrize("logits", [1, 100, 2**20])
@pytest.mark.parametrize("chunk", [1, 3, 7, 512])
def test_log_probs_are_those_of_the_whole_softmax(chunk: int, logits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the chunk's size, where the last one is short, and however many rows the caches hold."""
    monkeypatch.setattr(logprobs, "CHUNK", chunk)
    monkeypatch.setattr(logprobs, "IN_CACHE", logits)
    decoder, batch = decoder_of(), pack(pair_rows(4))
    wanted = whole_logps(decoder, batch).gather(1, batch.targets_U[batch.places_M][:, None])[:, 0]
    torch.testing.assert_close(token_logps(decoder, batch, dtype=torch.float32), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("with_and_without_kernels")
@pytest.mark.parametrize("tied", [True, False], ids=["tied head", "untied head"])
@pytest.mark.parametrize("chunk", [1, 3, 7, 512])
def test_gradients_are_those_of_the_whole_softmax(chunk: int, tied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each token with a weight of its own: body, embedding and head get the gradients of autograd."""
    monkeypatch.setattr(logprobs, "CHUNK", chunk)
    monkeypatch.setattr(logprobs, "ROWS", 5)
    decoder, batch = decoder_of(replace(LLAMA, tied=tied)).requires_grad_(True), pack(pair_rows(4))
    weights_M = torch.linspace(-1, 2, len(batch.places_M))
    plain_M = whole_logps(decoder, batch).gather(1, batch.targets_U[batch.places_M][:, None])[:, 0]
    chunked_M = token_logps(decoder, batch, dtype=torch.float32)
    for (name, _), found, wanted in zip(
        decoder.named_parameters(),
        torch.autograd.grad((weights_M * chunked_M).sum(), list(decoder.parameters())),
        torch.autograd.grad((weights_M * plain_M).sum(), list(decoder.parameters())),
        strict=True,
    ):
        assert (found - wanted).norm() <= 1e-5 * wanted.norm(), name


@pytest.mark.usefixtures("with_and_without_kernels")
@pytest.mark.parametrize(
    "tokens", [96, 160, 150], ids=["a chunk and a half", "whole squares", "a last chunk that ends within one"]
)
def test_in_bfloat16_the_head_gets_its_gradient_from_all_chunks(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into memory that holds no numbers; also where a processor multiplies some of the chunks itself."""
    monkeypatch.setattr(logprobs, "CHUNK", 64)
    taken, take = [], products.take
    monkeypatch.setattr(products, "take", lambda *given: (taken.append(take(*given)), taken[-1])[1])
    draw = torch.Generator().manual_seed(0)
    hidden, head = (torch.randn(size, generator=draw).bfloat16() / 4 for size in ((tokens, 64), (96, 64)))
    targets, weights = torch.randint(96, (tokens,), generator=draw), torch.randn(tokens, generator=draw)
    leaves = [x.clone().requires_grad_() for x in (hidden, head)]
    exact = [x.double().requires_grad_() for x in (hidden, head)]
    logps = logprobs._TargetLogps.apply(*leaves, targets, torch.full((96, 64), torch.nan).bfloat16())
    (logps * weights).sum().backward()
    wanted = (exact[0] @ exact[1].T).log_softmax(-1).gather(1, targets[:, None])[:, 0]
    (wanted * weights).sum().backward()
    assert (logps - wanted).norm() <= 0.005 * wanted.norm()
    for mine, other in zip(leaves, exact, strict=True):
        assert mine.grad is not None
        assert other.grad is not None
        assert (mine.grad - other.grad).norm() <= 0.01 * other.grad.norm()
    assert any(taken) == kernels.built().multiplies


@pytest.mark.usefixtures("with_and_without_kernels")
def test_a_token_that_is_next_to_impossible_has_its_log_prob() -> None:
    """Its share is zero in float32; its logarithm is not, nor is its gradient lost."""
    hidden_MD, head_VD = torch.tensor([[1.0]], requires_grad=True), torch.tensor([[0.0], [-200.0], [-1.0]])
    batch = replace(
        pack(pair_rows(1)), sources_U=torch.tensor([0]), targets_U=torch.tensor([1]), places_M=torch.tensor([0])
    )
    logp = logprobs.target_logps(hidden_MD, head_VD, batch, dtype=torch.float32)
    wanted = (hidden_MD @ head_VD.T).log_softmax(-1)[:, 1]
    torch.testing.assert_close(logp, wanted)
    for found, slope in zip(*(torch.autograd.grad(x.sum(), [hidden_MD]) for x in (logp, wanted)), strict=True):
        torch.testing.assert_close(found, slope)


@pytest.mark.parametrize("trained", ["hidden", "head"])
def test_a_gradient_alone_or_twice_is_the_same(trained: str) -> None:
    """Where the other is frozen; and the second time, when the last chunk's slope is gone."""
    draw = torch.Generator().manual_seed(0)
    x = {"hidden": torch.randn(9, 4, generator=draw), "head": torch.randn(11, 4, generator=draw)}
    nine = torch.arange(9)
    batch = replace(pack(pair_rows(1)), sources_U=nine, targets_U=nine, places_M=nine)
    x[trained].requires_grad_()
    found = logprobs.target_logps(x["hidden"], x["head"], batch, dtype=torch.float32).sum()
    wanted = (x["hidden"] @ x["head"].T).log_softmax(-1).diagonal().sum()
    (slope,) = torch.autograd.grad(wanted, [x[trained]])
    for _ in range(2):
        torch.testing.assert_close(torch.autograd.grad(found, [x[trained]], retain_graph=True)[0], slope)


def test_without_response_tokens_there_is_nothing() -> None:
    head_VD = torch.randn(11, 4, requires_grad=True)
    none = torch.zeros(0, dtype=torch.long)
    batch = replace(pack(pair_rows(1)), sources_U=none, targets_U=none, places_M=none)
    logps = logprobs.target_logps(torch.randn(9, 4), head_VD, batch, dtype=torch.float32)
    assert logps.shape == (0,)
    assert torch.autograd.grad(logps.sum(), [head_VD])[0].abs().max() == 0


def test_a_responses_log_prob_is_the_sum_over_its_tokens() -> None:
    """End token included, in the order of rows and responses."""
    decoder, rows = decoder_of(), pair_rows(3)
    batch = pack(rows)
    lengths = [len(y) for row in rows for y in row.responses]
    wanted = torch.stack([part.sum() for part in token_logps(decoder, batch, dtype=torch.float32).split(lengths)])
    torch.testing.assert_close(sum_logps(decoder, batch, dtype=torch.float32), wanted)


@pytest.mark.parametrize("chunk", [2, 512])
def test_the_divergence_is_the_kl_over_the_whole_vocabulary(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Summed along each response, by the definition in float64."""
    monkeypatch.setattr(logprobs, "CHUNK", chunk)
    policy, anchor, batch = decoder_of(seed=1), decoder_of(seed=2), pack(pair_rows(4))
    p_MV, a_MV = (whole_logps(d, batch).double() for d in (policy, anchor))
    kl_M = (p_MV.exp() * (p_MV - a_MV)).sum(-1)
    wanted = torch.zeros(batch.responses, dtype=torch.float64).index_add(0, batch.response_M, kl_M)
    found = divergence(policy, anchor, batch, dtype=torch.float32)
    torch.testing.assert_close(found.kl_R.double(), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.policy_logp_R, sum_logps(policy, batch, dtype=torch.float32))
    torch.testing.assert_close(found.anchor_logp_R, sum_logps(anchor, batch, dtype=torch.float32))


def test_a_policy_does_not_diverge_from_itself() -> None:
    """Exactly zero, not nearly."""
    decoder = decoder_of()
    assert not divergence(decoder, decoder, pack(pair_rows(4)), dtype=torch.float32).kl_R.any()
