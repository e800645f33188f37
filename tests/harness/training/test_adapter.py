"""With an adapter training learns, the base stays as it is, and references of every kind move as they should."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from harness.recipes.recipe import Stage
from harness.recipes.registry import choose
from harness.records import TrainStep
from harness.training.adamw import start_optimizer
from harness.training.budget import REFRESH_BYTES, UPDATE_BYTES
from harness.training.machine import calibrate
from harness.training.plan import Terms, plan_stage
from harness.training.reference import Frozen, Moving, ReferenceLogps, pair_logps
from harness.training.train import Execution, train_stage
from models.architecture import Architecture
from models.decoder import Decoder
from models.lora import parse_lora
from models.low_rank import adapter_off, own_weights, with_adapter
from tests.tiny import GPT2, LLAMA, adapted_of, chosen_rows, decoder_of, pair_rows

LORA = parse_lora("lora:r=4")
ROWS = pair_rows(16, shared=0)
TERMS = Terms(
    architecture=LLAMA,
    weights=LORA.weights(LLAMA),
    pair_rows=ROWS,
    chosen_rows=chosen_rows(ROWS),
    batch_pairs=4,
    flops_per_byte=8.0,
    adapter=LORA,
)
SETTINGS = Execution(dtype=torch.float32, micro_batch_tokens=60)
RECIPES = ("sft", "dpo-beta0.1", "dpo-soft-reference", "dpo-hard-reference")
MOVING = RECIPES[2:]


def stage_of(recipe: str, **changes: object) -> Stage:
    (choice,) = choose([recipe])
    return replace(choice.stages[-1], **changes)  # type: ignore[arg-type]  # the tests' own values


def logps(decoder: Decoder) -> Tensor:
    return pair_logps(decoder, ROWS, torch.float32)


def reference_of(stage: Stage, policy: Decoder) -> ReferenceLogps | None:
    if stage.reference.kind == "none":
        return None
    if stage.reference.moves:
        return Moving(policy, torch.float32)
    with adapter_off(policy):
        pairs = logps(policy).tolist()
    return Frozen({i: (chosen, rejected) for i, (chosen, rejected) in enumerate(pairs)}, torch.device("cpu"))


def train(
    policy: Decoder,
    stage: Stage,
    pairs: int = 160,
    reference: ReferenceLogps | None = None,
    on_step: Callable[[TrainStep], None] = lambda step: None,
) -> tuple[TrainStep, ...]:
    plan = plan_stage(TERMS, stage, budget=pairs, in_pairs=True, seed=0)
    held = reference if reference is not None else reference_of(stage, policy)
    return train_stage(policy, stage, plan, TERMS.rows(stage), held, SETTINGS, number=1, on_step=on_step).steps


def mean_loss(steps: Sequence[TrainStep]) -> float:
    return sum(s.loss for s in steps) / len(steps)


@pytest.mark.parametrize("recipe", RECIPES)
def test_training_an_adapter_lowers_the_loss(recipe: str) -> None:
    """From its first epoch to its last, at a rate for a tiny model. A moving reference sets it back now and then."""
    steps = train(with_adapter(decoder_of(), LORA), stage_of(recipe, learning_rate=3e-2))
    assert mean_loss(steps[-4:]) < 0.97 * mean_loss(steps[:4])


@pytest.mark.parametrize("architecture", [LLAMA, GPT2], ids=["llama", "gpt2"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_training_moves_the_adapter_and_never_the_base(recipe: str, architecture: Architecture) -> None:
    """Every pair is trained; the base keeps every bit, and has no gradient at any step."""
    base = decoder_of(architecture)
    policy = with_adapter(base, LORA)
    before = {name: weight.clone() for name, weight in policy.named_parameters()}
    mine = own_weights(policy)

    def look(step: TrainStep) -> None:
        assert all(weight.grad is None and not weight.requires_grad for weight in base.parameters())

    train(policy, stage_of(recipe), pairs=20, on_step=look)
    for name, weight in policy.named_parameters():
        assert torch.equal(weight, before[name]) == (name not in mine), name
        assert not weight.requires_grad


def test_the_optimizer_keeps_nothing_for_the_base() -> None:
    policy = with_adapter(decoder_of(), LORA)
    optimizer = start_optimizer(policy, 1.0)
    assert sum(weight.numel() for weight in optimizer.weights) == LORA.weights(LLAMA)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_same_plan_twice_gives_the_same_adapter(recipe: str) -> None:
    """To the last bit."""
    first, second = (with_adapter(decoder_of(), LORA) for _ in range(2))
    log, again = (train(policy, stage_of(recipe), 20) for policy in (first, second))
    pairs = zip(own_weights(first).values(), own_weights(second).values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert log == again


@pytest.mark.parametrize("recipe", RECIPES[1:])
def test_a_fresh_adapter_starts_from_its_base_as_reference(recipe: str) -> None:
    """Rewards exactly zero: the reference, whichever kind, is the model with the adapter off."""
    first = train(with_adapter(decoder_of(), LORA), stage_of(recipe), pairs=4)[0]
    assert first.rewards_margins == pytest.approx(0, abs=1e-6)
    assert first.rewards_accuracies == 0.5


def test_a_frozen_reference_never_moves() -> None:
    """Its table says after training what it said before."""
    policy, stage = adapted_of(), stage_of("dpo-beta0.1")
    reference = reference_of(stage, policy)
    assert reference is not None
    before = reference.logps(range(len(ROWS)), ROWS)
    train(policy, stage, 20, reference)
    assert torch.equal(reference.logps(range(len(ROWS)), ROWS), before)


def learned(by: float = 0.1) -> tuple[Decoder, Moving, Tensor]:
    """A policy that went on since its reference was made, that reference, and what it said at first."""
    policy = adapted_of()
    reference = Moving(policy, torch.float32)
    first = reference.logps(range(len(ROWS)), ROWS)
    with torch.no_grad():
        for weight in own_weights(policy).values():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * by)
    return policy, reference, first


def test_a_moving_reference_stays_until_it_is_refreshed() -> None:
    """It does not follow the policy through the base that they share."""
    policy, reference, first = learned()
    assert torch.equal(reference.logps(range(len(ROWS)), ROWS), first)
    assert not torch.allclose(logps(policy), first)


def test_a_hard_refresh_makes_the_reference_the_policy() -> None:
    """Bit for bit; and it is a copy, which stays as the policy goes on."""
    policy, reference, _ = learned()
    reference.refresh(policy, 1.0)
    now = logps(policy)
    assert torch.equal(reference.logps(range(len(ROWS)), ROWS), now)
    with torch.no_grad():
        for weight in own_weights(policy).values():
            weight.add_(1)
    assert torch.equal(reference.logps(range(len(ROWS)), ROWS), now)


def test_a_refresh_of_nothing_changes_nothing() -> None:
    """α = 0."""
    policy, reference, first = learned()
    reference.refresh(policy, 0.0)
    assert torch.equal(reference.logps(range(len(ROWS)), ROWS), first)


@pytest.mark.parametrize("alpha", [0.05, 0.3, 0.5, 0.9])
def test_a_soft_refresh_mixes_a_and_b(alpha: float) -> None:
    """Each tensor is α of the policy's and 1 − α of its own, to rounding; the base is not touched."""
    policy, reference, _ = learned()
    before = {name: weight.clone() for name, weight in reference.decoder.named_parameters()}
    reference.refresh(policy, alpha)
    mine, theirs = own_weights(reference.decoder), own_weights(policy)
    for name, weight in reference.decoder.named_parameters():
        wanted = alpha * theirs[name] + (1 - alpha) * before[name] if name in mine else before[name]
        torch.testing.assert_close(weight, wanted, atol=0 if name not in mine else 1e-7, rtol=1e-6)


def test_soft_refreshes_come_to_the_policy() -> None:
    """Once it stands still, the reference's distance from it shrinks by (1 − α) in A and B: to nothing."""
    policy, reference, _ = learned()
    for _ in range(60):
        reference.refresh(policy, 0.3)
    torch.testing.assert_close(reference.logps(range(len(ROWS)), ROWS), logps(policy), atol=1e-4, rtol=0)


@pytest.mark.parametrize("recipe", MOVING)
def test_a_moving_reference_moves_as_the_plan_says(recipe: str) -> None:
    """After a stage it is where mixing by hand along the policy's own path puts it."""
    policy, stage = with_adapter(decoder_of(), LORA), stage_of(recipe)
    plan = plan_stage(TERMS, stage, budget=40, in_pairs=True, seed=0)
    reference = Moving(policy, torch.float32)
    path = {name: weight.clone() for name, weight in own_weights(policy).items()}

    def follow(step: TrainStep) -> None:
        if plan.steps[step.step - 1].refreshes:
            for name, weight in own_weights(policy).items():
                path[name] = plan.alpha * weight.detach() + (1 - plan.alpha) * path[name]

    train(policy, stage, 40, reference, follow)
    assert any(step.refreshes for step in plan.steps)
    for name, weight in own_weights(reference.decoder).items():
        torch.testing.assert_close(weight, path[name], atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("recipe", MOVING)
def test_memory_bound_work_is_charged_for_the_adapter_alone(recipe: str) -> None:
    """Optimizer steps and refreshes move its weights and no others."""
    (step, *_) = plan_stage(TERMS, stage_of(recipe), budget=40, in_pairs=True, seed=0).steps[3:]
    weights = LORA.weights(LLAMA)
    assert step.cost.update == UPDATE_BYTES * 8.0 * weights
    assert step.cost.refresh == REFRESH_BYTES * 8.0 * weights


def test_calibration_leaves_policy_and_base_as_they_were() -> None:
    """A rate of zero on the adapter, no gradient kept."""
    policy = with_adapter(decoder_of(), LORA)
    before = logps(policy)
    speed = calibrate(policy, TERMS, stage_of("sft"), SETTINGS)
    assert min(speed) > 0
    assert torch.equal(logps(policy), before)
    assert all(weight.grad is None and not weight.requires_grad for weight in policy.parameters())
