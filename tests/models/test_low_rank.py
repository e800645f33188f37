"""An adapter does nothing at first, is all that is trained, and shares its base, which never changes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from models.architecture import Architecture
from models.decoder import Decoder
from models.logprobs import sum_logps
from models.lora import parse_lora
from models.low_rank import adapter_off, adapters, lora_of, merged, own_weights, twin, with_adapter
from models.packing import pack
from tests.tiny import GPT2, LLAMA, adapted_of, decoder_of, logits_of, pair_rows

TEXT = (3, 1, 4, 1, 5, 9, 2, 6)
SHAPES = {"llama": LLAMA, "gpt2": GPT2, "untied": replace(LLAMA, tied=False), "norms": replace(LLAMA, qk_norm=True)}
of_shapes = pytest.mark.parametrize("architecture", SHAPES.values(), ids=SHAPES)


@of_shapes
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_a_fresh_adapter_changes_nothing(architecture: Architecture, dtype: torch.dtype) -> None:
    """The base's log-probs, bit for bit."""
    base, batch = decoder_of(architecture), pack(pair_rows(4))
    policy = with_adapter(base, parse_lora("lora:r=4"))
    assert torch.equal(sum_logps(policy, batch, dtype=dtype), sum_logps(base, batch, dtype=dtype))


@of_shapes
def test_an_adapter_that_has_learned_changes_something(architecture: Architecture) -> None:
    """Else all that follows would be true of nothing."""
    gap = logits_of(adapted_of(architecture), TEXT) - logits_of(decoder_of(architecture), TEXT)
    assert gap.abs().max() > 0.1


def test_each_target_alone_changes_something() -> None:
    """No pair lies beside the wrong rows unnoticed, or beside none."""
    seen = [
        logits_of(adapted_of(lora=f"lora:r=2:target={name}"), TEXT)
        for name in ("q", "k", "v", "o", "gate", "up", "down")
    ]
    assert all(not torch.allclose(a, b, atol=1e-3) for n, a in enumerate(seen) for b in seen[:n])


def test_the_base_is_shared_and_not_copied() -> None:
    """Every tensor of it is the same memory, in a policy and in its twin."""
    base = decoder_of()
    policy = with_adapter(base, parse_lora("lora:r=4"))
    for decoder in (policy, twin(policy)):
        mine = dict(decoder.named_parameters())
        assert all(mine[name].data_ptr() == weight.data_ptr() for name, weight in base.named_parameters())
    assert adapters(base) == {}


def test_a_twin_has_an_adapter_of_its_own() -> None:
    """It stays where it is when the policy goes on."""
    policy = adapted_of()
    copy, before = twin(policy), logits_of(policy, TEXT)
    with torch.no_grad():
        for weight in own_weights(policy).values():
            weight.add_(1)
    assert torch.equal(logits_of(copy, TEXT), before)


def test_a_twin_without_an_adapter_is_a_copy_of_all() -> None:
    policy = decoder_of()
    copy = twin(policy)
    assert torch.equal(logits_of(copy, TEXT), logits_of(policy, TEXT))
    assert all(a.data_ptr() != b.data_ptr() for a, b in zip(copy.parameters(), policy.parameters(), strict=True))


@of_shapes
def test_with_the_adapter_off_a_policy_is_its_base(architecture: Architecture) -> None:
    """Bit for bit, once or twice off; and on again afterwards."""
    policy, base = adapted_of(architecture), logits_of(decoder_of(architecture), TEXT)
    before = logits_of(policy, TEXT)
    with adapter_off(policy):
        assert torch.equal(logits_of(policy, TEXT), base)
        with adapter_off(policy):
            pass
        assert torch.equal(logits_of(policy, TEXT), base)
    assert torch.equal(logits_of(policy, TEXT), before)


def test_an_adapter_is_on_again_after_an_error() -> None:
    policy = adapted_of()
    with pytest.raises(KeyError), adapter_off(policy):
        raise KeyError
    assert all(adapter.on for adapter in adapters(policy).values())


@of_shapes
def test_merged_it_computes_the_same(architecture: Architecture) -> None:
    """As a plain decoder, to rounding; the policy keeps its adapter, the base its weights."""
    policy = adapted_of(architecture)
    plain = merged(policy)
    torch.testing.assert_close(logits_of(plain, TEXT), logits_of(policy, TEXT), atol=1e-5, rtol=1e-5)
    assert plain.state_dict().keys() == decoder_of(architecture).state_dict().keys()
    assert lora_of(policy) == parse_lora("lora:r=3")
    with adapter_off(policy):
        assert torch.equal(logits_of(policy, TEXT), logits_of(decoder_of(architecture), TEXT))


def test_in_another_dtype_it_computes_the_same() -> None:
    """As casting at each use, bit for bit: what is measured is what was trained."""
    policy, batch = adapted_of(), pack(pair_rows(4))
    ready = sum_logps(policy.in_dtype(torch.bfloat16), batch, dtype=torch.bfloat16)
    assert torch.equal(ready, sum_logps(policy, batch, dtype=torch.bfloat16))


def gradients(decoder: Decoder, weights: dict[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
    """Of a step's loss by these weights."""
    for weight in weights.values():
        weight.requires_grad_(True)
    slope = torch.tensor([1.0, -2.0] * 4)
    (sum_logps(decoder, pack(pair_rows(4)), dtype=torch.float32) * slope).sum().backward()
    return {name: weight.grad for name, weight in weights.items() if weight.grad is not None}


@of_shapes
@pytest.mark.parametrize("target", ["all-linear", "o+up", "down"])
def test_gradients_are_those_of_the_merged_matrices(architecture: Architecture, target: str) -> None:
    """By the chain rule from ∂/∂W of the whole matrix: s·Bᵀ∂W for A and s·∂W·Aᵀ for B, each to 1e-4."""
    policy = adapted_of(architecture, lora=f"lora:r=3:target={target}")
    plain = merged(policy)
    whole = gradients(plain, dict(plain.named_parameters()))
    found = gradients(policy, own_weights(policy))
    for name, adapter in adapters(policy).items():
        for pair in adapter.pairs:
            p = pair.projection
            slope_OI = adapter.lora.scale * whole[f"{name}.weight"][p.start : p.start + p.rows]
            for part, wanted in (("a", pair.b.T @ slope_OI), ("b", slope_OI @ pair.a.T)):
                mine = found[f"{name}.adapter.{p.name}.{part}"]
                assert (mine - wanted).norm() <= 1e-4 * wanted.norm(), (name, p.name, part)


def test_only_the_adapter_gets_gradients() -> None:
    """No memory is spent on the base's: nor on the head's, which is the embedding."""
    policy = adapted_of()
    gradients(policy, own_weights(policy))
    with_gradient = {name for name, weight in policy.named_parameters() if weight.grad is not None}
    assert with_gradient == set(own_weights(policy))


def test_a_and_b_start_as_in_peft() -> None:
    """A uniform within ±1/√inputs, B zero; the same at the same seed, another at another."""
    first, again, other = (with_adapter(decoder_of(), parse_lora("lora:r=8"), seed=seed) for seed in (0, 0, 1))
    for one, same, unlike in zip(*(adapters(d).values() for d in (first, again, other)), strict=True):
        for a, b, c in zip(one.pairs, same.pairs, unlike.pairs, strict=True):
            bound = 1 / math.sqrt(a.projection.inputs)
            assert 0.8 * bound < a.a.abs().max() <= bound
            assert a.b.count_nonzero() == 0
            assert torch.equal(a.a, b.a)
            assert not torch.equal(a.a, c.a)
