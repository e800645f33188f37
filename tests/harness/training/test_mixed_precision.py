"""Copies in bfloat16 compute what casting at each use computes, and masters get the gradient."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch

from harness.training.adamw import CLIP, start_optimizer
from harness.training.mixed_precision import MixedPrecision
from harness.training.reference import Moving, pair_logps
from models.architecture import Architecture
from models.decoder import Decoder
from models.logprobs import sum_logps
from models.lora import parse_lora
from models.low_rank import own_weights, with_adapter
from models.packing import Row, pack
from tests.tiny import GPT2, LLAMA, adapted_of, decoder_of, logits_of

HALF = torch.bfloat16


def row(prompt: int, *responses: int) -> Row:
    return Row(prompt=tuple(range(prompt)), responses=tuple(tuple(range(k, k + n)) for k, n in enumerate(responses, 7)))


BATCHES = [[row(5, 3, 4)], [row(9, 2, 2), row(4, 6, 1)]]  # micro-batches of a step


def gradients(trained: MixedPrecision) -> dict[str, torch.Tensor]:
    names = {id(master): name for name, master in trained.masters.named_parameters()}
    return {names[id(one.master)]: one.in_float().clone() for one in trained.learnt()}


def backward(trained: MixedPrecision, batches: list[list[Row]]) -> list[torch.Tensor]:
    """Log-probs, and their sum's gradient; one batch is a lone pass."""
    trained.expect(passes=len(batches))
    found = []
    for rows in batches:
        logps_R = sum_logps(trained.computing, pack(rows), dtype=HALF)
        logps_R.sum().backward()
        found.append(logps_R.detach())
    return found


def cast_at_each_use(decoder: Decoder) -> MixedPrecision:
    """A decoder without copies: its masters compute."""
    return MixedPrecision(decoder, torch.float32)


@pytest.mark.usefixtures("with_and_without_kernels")
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("batches", [BATCHES, BATCHES[1:]], ids=["two passes", "a lone pass"])
def test_log_probs_and_gradients_are_those_of_casting_at_each_use(batches: list[list[Row]], tied: bool) -> None:
    plain = cast_at_each_use(decoder_of(replace(LLAMA, tied=tied)).requires_grad_(True))
    trained = MixedPrecision(copy.deepcopy(plain.masters), HALF)
    for found, wanted in zip(backward(trained, batches), backward(plain, batches), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    found, wanted = gradients(trained), gradients(plain)
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("with_and_without_kernels")
def test_a_lone_pass_leaves_gradients_in_half_the_memory() -> None:
    """Those of matrices; several passes are added up in float32."""
    trained = MixedPrecision(decoder_of().requires_grad_(True), HALF)
    matrices = {id(w) for w in trained.masters.parameters() if w.ndim == 2}
    for batches, wanted in ((BATCHES[:1], {HALF}), (BATCHES, {torch.float32})):
        backward(trained, batches)
        learnt = trained.learnt()
        assert {one.gradient.dtype for one in learnt if id(one.master) in matrices} == wanted
        assert {one.gradient.dtype for one in learnt if id(one.master) not in matrices} == {torch.float32}
        trained.zero_grad()
        assert not trained.learnt()


def test_chunks_of_a_long_response_share_the_heads_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = cast_at_each_use(decoder_of().requires_grad_(True))
    trained = MixedPrecision(copy.deepcopy(plain.masters), HALF)
    monkeypatch.setattr("models.logprobs.CHUNK", 3)
    for one in (trained, plain):
        backward(one, BATCHES)
    torch.testing.assert_close(trained.masters.head.grad, plain.masters.head.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("adapter", [True, False])
def test_a_moving_reference_computes_what_casting_at_each_use_does(adapter: bool) -> None:
    """Before and after it has moved; the policy that it follows stays where it is."""
    make, rows = adapted_of if adapter else decoder_of, BATCHES[1]
    policy, start = make(seed=1), make()
    before = logits_of(policy, (1, 2, 3))
    reference = Moving(start, HALF)
    for _ in range(2):
        assert torch.equal(reference.logps([0, 1], rows), pair_logps(reference.decoder, rows, HALF))
        standing = reference.logps([0, 1], rows)
        reference.refresh(policy, 0.5)
        assert not torch.equal(reference.logps([0, 1], rows), standing)
    assert torch.equal(logits_of(policy, (1, 2, 3)), before)


@pytest.mark.parametrize("a", [LLAMA, replace(LLAMA, tied=False), GPT2], ids=["llama", "untied", "gpt2"])
@pytest.mark.parametrize("adapter", [True, False])
def test_a_reference_that_only_jumps_keeps_no_masters(adapter: bool, a: Architecture) -> None:
    """It computes what one with masters computes, and shares nothing that is trained."""
    make, rows = adapted_of if adapter else decoder_of, BATCHES[1]
    policy, start = make(a, seed=1), make(a)
    mixing, jumping = Moving(start, HALF), Moving(start, HALF, mixes=False)
    for _ in range(2):
        assert torch.equal(mixing.logps([0, 1], rows), jumping.logps([0, 1], rows))
        for reference in (mixing, jumping):
            reference.refresh(policy, 1)
    own = {weight.data_ptr() for decoder in (policy, start) for weight in own_weights(decoder).values()}
    assert not own & {weight.data_ptr() for weight in own_weights(jumping.decoder).values()}
    matrices = (jumping.decoder.head, jumping.decoder.blocks[0].up.weight)
    assert {matrix.dtype for matrix in matrices} == {HALF}
    with pytest.raises(AssertionError, match="not mixed"):
        jumping.refresh(policy, 0.5)


@pytest.mark.usefixtures("with_and_without_kernels")
def test_what_an_adapter_leaves_frozen_is_not_cast_again() -> None:
    policy = with_adapter(decoder_of(), parse_lora("lora:r=2"))
    optimizer = start_optimizer(policy, rate=0.1)
    trained = MixedPrecision(policy, HALF)
    frozen = trained.computing.blocks[0].qkv.weight
    backward(trained, BATCHES)
    with torch.no_grad():
        frozen.fill_(7)  # what no cast would leave
    optimizer.update(trained)
    assert (frozen == 7).all()


def test_a_gradient_does_not_go_on_into_the_next_step() -> None:
    trained = MixedPrecision(decoder_of().requires_grad_(True), HALF)
    backward(trained, BATCHES)
    once = gradients(trained)
    trained.zero_grad()
    assert not gradients(trained)
    backward(trained, BATCHES)
    assert all(torch.equal(once[name], again) for name, again in gradients(trained).items())


@pytest.mark.parametrize("batches", [BATCHES, BATCHES[:1]], ids=["two passes", "a lone pass"])
def test_an_update_reaches_the_copies(batches: list[list[Row]]) -> None:
    masters = decoder_of()
    optimizer = start_optimizer(masters, rate=0.1)
    trained = MixedPrecision(masters, HALF)
    backward(trained, batches)
    assert math.isfinite(optimizer.update(trained))
    for rows in BATCHES:
        found, wanted = (sum_logps(d, pack(rows), dtype=HALF) for d in (trained.computing, masters))
        assert torch.equal(found, wanted)


def test_beside_an_adapter_matrices_are_cast_once_and_only_the_adapter_learns() -> None:
    policy = with_adapter(decoder_of(), parse_lora("lora:r=2"))
    start_optimizer(policy, rate=0.1)
    trained = MixedPrecision(policy, HALF)
    backward(trained, BATCHES)
    learning = gradients(trained).keys()
    assert learning == own_weights(policy).keys()
    assert trained.computing.head_gradient is None
    assert trained.computing.blocks[0].qkv.weight.dtype == HALF
    assert policy.blocks[0].qkv.weight.dtype == torch.float32


def test_in_float32_nothing_is_copied() -> None:
    policy = decoder_of()
    assert MixedPrecision(policy, torch.float32).computing is policy


@pytest.mark.parametrize("batches", [BATCHES, BATCHES[:1]], ids=["two passes", "a lone pass"])
@pytest.mark.usefixtures("with_and_without_kernels")
def test_a_step_is_torchs_own(batches: list[list[Row]]) -> None:
    """The same norm, and AdamW's same steps on the same gradients, clipped."""
    masters = decoder_of()
    optimizer = start_optimizer(masters, rate=0.01)
    trained = MixedPrecision(masters, HALF)
    plain = copy.deepcopy(masters)
    theirs = torch.optim.AdamW(plain.parameters(), lr=0.01, weight_decay=0.0)
    for _ in range(3):
        backward(trained, batches)
        for name, gradient in gradients(trained).items():
            plain.get_parameter(name).grad = gradient.clone()
        wanted = torch.nn.utils.clip_grad_norm_(plain.parameters(), CLIP)
        theirs.step()
        assert wanted > CLIP
        assert optimizer.update(trained) == pytest.approx(float(wanted), rel=1e-6)
        for mine, other in zip(masters.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)
