"""Training learns, twice the same, and stops in one line where it cannot go on."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.recipes.recipe import Logps, Objective, Stage
from harness.recipes.registry import choose
from harness.records import TrainStep
from harness.training.adamw import AdamW, start_optimizer
from harness.training.mixed_precision import MixedPrecision
from harness.training.plan import StagePlan, Terms, plan_stage
from harness.training.reference import Frozen, Moving, ReferenceLogps, pair_logps
from harness.training.train import Execution, TrainingDivergedError, accumulate, schedule, train_stage
from models.decoder import Decoder
from models.packing import Row
from models.room import OutOfMemoryError
from tests.tiny import LLAMA, chosen_rows, decoder_of, pair_rows

ROWS = pair_rows(16)
TERMS = Terms(
    architecture=LLAMA,
    weights=1000,
    pair_rows=ROWS,
    chosen_rows=chosen_rows(ROWS),
    batch_pairs=4,
    flops_per_byte=8.0,
)
SETTINGS = Execution(dtype=torch.float32, micro_batch_tokens=60)


def stage_of(recipe: str, **changes: object) -> Stage:
    (choice,) = choose([recipe])
    return replace(choice.stages[-1], **changes)  # type: ignore[arg-type]  # the tests' own values


def plan_of(stage: Stage, pairs: int = 160) -> StagePlan:
    return plan_stage(TERMS, stage, budget=pairs, in_pairs=True, seed=0)


def reference_of(stage: Stage, policy: Decoder) -> ReferenceLogps | None:
    if stage.reference.kind == "none":
        return None
    if stage.reference.moves:
        return Moving(policy, torch.float32)
    table = dict(enumerate(map(tuple, pair_logps(policy, ROWS, torch.float32).tolist())))
    return Frozen(table, torch.device("cpu"))  # type: ignore[arg-type]  # pairs of floats, each


def trained(stage: Stage, pairs: int = 160) -> tuple[Decoder, tuple[TrainStep, ...]]:
    policy = decoder_of()
    steps = train_stage(
        policy,
        stage,
        plan_of(stage, pairs),
        TERMS.rows(stage),
        reference_of(stage, policy),
        SETTINGS,
        number=1,
        on_step=lambda step: None,
    ).steps
    return policy, steps


def mean_loss(steps: Sequence[TrainStep]) -> float:
    return sum(s.loss for s in steps) / len(steps)


RECIPES = ("sft", "dpo-beta0.1", "dpo-soft-reference", "dpo-hard-reference")


@pytest.mark.parametrize("recipe", RECIPES)
def test_training_lowers_the_loss(recipe: str) -> None:
    """From its first epoch to its last, at a rate for a tiny model. A moving reference sets it back now and then."""
    _, steps = trained(stage_of(recipe, learning_rate=1e-2))
    assert mean_loss(steps[-4:]) < 0.97 * mean_loss(steps[:4])


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_same_plan_twice_gives_the_same_weights(recipe: str) -> None:
    """To the last bit."""
    (first, log), (second, again) = (trained(stage_of(recipe), pairs=20) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert log == again


@pytest.mark.parametrize("recipe", RECIPES)
def test_training_moves_every_weight(recipe: str) -> None:
    """Nothing is left out of the optimizer, and the policy comes back frozen."""
    policy, _ = trained(stage_of(recipe), pairs=20)
    before = decoder_of()
    for (name, weight), old in zip(policy.named_parameters(), before.parameters(), strict=True):
        assert not torch.equal(weight, old), name
        assert not weight.requires_grad


@pytest.mark.parametrize("recipe", RECIPES[1:])
def test_the_first_step_starts_from_the_reference(recipe: str) -> None:
    """Loss ln 2, margins 0, half of the pairs right: frozen log-probs too are the policy's own."""
    first = trained(stage_of(recipe), pairs=4)[1][0]
    assert first.loss == pytest.approx(math.log(2), abs=1e-5)
    assert first.rewards_margins == pytest.approx(0, abs=1e-5)


def test_a_line_of_the_log_has_the_fields_metrics() -> None:
    """Rewards are beta times log-ratios, tokens add up, the rate is the schedule's."""
    stage = stage_of("dpo-beta0.3", learning_rate=1e-2)
    steps = trained(stage)[1]
    plan = plan_of(stage)
    assert steps[-1].num_tokens == sum(ROWS[i].input_tokens for s in plan.steps for i in s.pairs)
    for line, step in zip(steps, plan.steps, strict=True):
        assert line.rewards_chosen is not None
        assert line.rewards_rejected is not None
        assert line.rewards_margins == pytest.approx(line.rewards_chosen - line.rewards_rejected, abs=1e-5)
        middle = (step.spent_before + step.spent_after) / 2
        assert line.learning_rate == pytest.approx(1e-2 * schedule(middle))
        assert (line.stage, line.spent) == (1, step.spent_after)


def test_rewards_in_the_log_are_scaled_by_beta() -> None:
    """With one step's weights, the log's reward is beta times the change of the chosen log-prob."""
    small, large = (trained(stage_of(f"dpo-beta{b}"), pairs=8)[1][1] for b in ("0.05", "0.5"))
    assert small.logps_chosen is not None
    start = pair_logps(decoder_of(), [ROWS[i] for i in plan_of(stage_of("dpo"), 8).steps[1].pairs], torch.float32)
    for line, beta in ((small, 0.05), (large, 0.5)):
        assert line.logps_chosen is not None
        assert line.rewards_chosen == pytest.approx(beta * (line.logps_chosen - start[:, 0].mean().item()), abs=1e-4)


def test_sft_has_no_rewards() -> None:
    """Missing is not zero."""
    first = trained(stage_of("sft"), pairs=4)[1][0]
    assert (first.rewards_chosen, first.rewards_margins, first.logps_rejected) == (None, None, None)
    assert first.logps_chosen is not None


def test_the_sft_loss_is_a_mean_over_the_steps_tokens() -> None:
    """Not over its rows: long responses count by their length."""
    stage = stage_of("sft")
    first = trained(stage, pairs=4)[1][0]
    rows = [TERMS.chosen_rows[i] for i in plan_of(stage, 4).steps[0].pairs]
    sums = pair_logps(decoder_of(), rows, torch.float32).sum()
    assert first.loss == pytest.approx(-sums.item() / sum(r.response_tokens for r in rows), rel=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_the_trial(bad: float) -> None:
    """In one line that says at which step, and what to try."""

    def loss(logps: Logps) -> Tensor:
        return logps.policy_chosen_B * bad

    stage = stage_of("dpo-beta0.1")
    with pytest.raises(TrainingDivergedError, match=r"dpo diverged at step 1: loss .*try a lower learning_rate"):
        trained(replace(stage, objective=replace(stage.objective, loss=loss)))


@pytest.mark.parametrize("size", [0.001, 40.0])
def test_gradients_are_clipped_to_a_norm_of_one(size: float) -> None:
    """By two steps, so that AdamW's moments know how large they were."""
    policies = [decoder_of().requires_grad_(True) for _ in range(2)]
    ours = start_optimizer(policies[0], rate=0.01)
    theirs = torch.optim.AdamW(policies[1].parameters(), lr=0.01, weight_decay=0.0)
    draw = torch.Generator().manual_seed(0)
    for step in (1, 3):
        for mine, other in zip(*(policy.parameters() for policy in policies), strict=True):
            mine.grad = torch.randn(mine.shape, generator=draw) * size * step
            other.grad = mine.grad.clone()
        wanted = torch.nn.utils.clip_grad_norm_(policies[1].parameters(), 1.0)
        assert ours.update(MixedPrecision(policies[0], torch.float32)) == pytest.approx(float(wanted))
        theirs.step()
    for mine, other in zip(*(policy.parameters() for policy in policies), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_a_loss_of_another_shape_is_our_own_bug() -> None:
    """A recipe that reduces its loss is told so."""
    stage = stage_of("dpo-beta0.1")
    reduced = replace(stage.objective, loss=lambda logps: logps.policy_chosen_B.mean())
    with pytest.raises(AssertionError, match=r"a loss gives \(B,\)"):
        trained(replace(stage, objective=reduced))


def test_the_rate_rises_over_a_tenth_and_falls_straight_to_zero() -> None:
    """One at its top, zero at both ends, the same slope all the way down."""
    assert [schedule(x) for x in (0.0, 0.05, 0.1)] == pytest.approx([0.0, 0.5, 1.0])
    assert [schedule(x) for x in (0.325, 0.55, 0.775, 1.0)] == pytest.approx([0.75, 0.5, 0.25, 0.0])


def test_even_a_single_step_learns() -> None:
    """Its rate is that of its middle, not of its beginning, which would be zero."""
    policy, steps = trained(stage_of("sft"), pairs=4)
    assert len(steps) == 1
    assert steps[0].learning_rate > 0
    assert not torch.equal(policy.head, decoder_of().head)


def test_a_soft_reference_is_mixed_by_the_formula() -> None:
    """ref ← α·policy + (1 − α)·ref, weight by weight; the policy stays as it is."""
    start, policy = decoder_of(seed=1), decoder_of(seed=2)
    reference = Moving(start, torch.float32)
    kept = copy.deepcopy(policy)
    reference.refresh(policy, 0.3)
    mixed = zip(reference.decoder.parameters(), policy.parameters(), start.parameters(), strict=True)
    for mine, theirs, before in mixed:
        torch.testing.assert_close(mine, 0.3 * theirs + 0.7 * before)
    assert all(torch.equal(a, b) for a, b in zip(kept.parameters(), policy.parameters(), strict=True))


def test_a_hard_reference_becomes_the_policy() -> None:
    """Exactly, and stays behind when the policy goes on."""
    policy = decoder_of(seed=2)
    reference = Moving(decoder_of(seed=1), torch.float32)
    reference.refresh(policy, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(reference.decoder.parameters(), policy.parameters(), strict=True))
    with torch.no_grad():
        policy.norm.weight.add_(1)
    assert not torch.equal(reference.decoder.norm.weight, policy.norm.weight)


def test_a_moving_reference_starts_as_the_policy_and_shares_nothing_with_it() -> None:
    """A copy: training the policy does not train it."""
    policy = decoder_of()
    reference = Moving(policy, torch.float32)
    with torch.no_grad():
        policy.embedding.weight.add_(1)
    assert torch.equal(reference.decoder.embedding.weight, decoder_of().embedding.weight)


def test_a_frozen_reference_gives_the_pairs_that_are_asked_for() -> None:
    """By their numbers, in the order asked."""
    reference = Frozen({3: (-1.0, -2.0), 5: (-3.0, -4.0)}, torch.device("cpu"))
    assert reference.logps([5, 3], []).tolist() == [[-3.0, -4.0], [-1.0, -2.0]]


def test_a_frozen_reference_refuses_to_move() -> None:
    """That would be a bug of ours."""
    with pytest.raises(AssertionError, match="does not move"):
        Frozen({}, torch.device("cpu")).refresh(decoder_of(), 0.5)


def test_the_hard_reference_is_renewed_when_the_plan_says() -> None:
    """A reference that only takes notes sees every refresh, with the plan's alpha."""

    class Notes(Moving):
        def refresh(self, policy: Decoder, alpha: float) -> None:
            seen.append(alpha)
            super().refresh(policy, alpha)

    seen: list[float] = []
    stage, policy = stage_of("dpo-hard-reference"), decoder_of()
    plan = plan_of(stage)
    reference = Notes(policy, torch.float32)
    rows: Sequence[Row] = TERMS.pair_rows
    train_stage(policy, stage, plan, rows, reference, SETTINGS, number=1, on_step=lambda step: None)
    assert seen == [1.0] * sum(s.refreshes for s in plan.steps)


class Scarce(Moving):
    """A reference that runs out of memory above so many tokens, like a processor's allocator."""

    def __init__(self, policy: Decoder, most: int) -> None:
        super().__init__(policy, torch.float32)
        self.most, self.refused = most, 0

    def logps(self, pairs: Sequence[int], rows: Sequence[Row]) -> Tensor:
        if sum(row.input_tokens for row in rows) > self.most:
            self.refused += 1
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")
        return super().logps(pairs, rows)


def gradient_of(
    micro: int, most: int, told: list[str], dtype: torch.dtype = torch.float32
) -> tuple[float, dict[str, float | None], Tensor, Execution]:
    """Loss, metrics and gradient of a step over all rows, where more than `most` tokens do not fit."""
    policy = decoder_of(seed=1).requires_grad_(True)
    execution = Execution(dtype=dtype, micro_batch_tokens=micro, tell=told.append)
    objective = stage_of("dpo-soft-reference").objective
    reference = Scarce(decoder_of(seed=2), most)
    trained = MixedPrecision(policy, execution.dtype)
    loss, metrics = accumulate(trained, objective, range(len(ROWS)), ROWS, reference, execution)
    found = [one.in_float().flatten() for one in trained.learnt()]
    return loss, metrics, torch.cat(found), execution


@pytest.mark.parametrize("most", [150, 70, 30])
def test_running_out_of_memory_changes_no_gradient(most: int) -> None:
    """The short micro-batches had been computed when a long one failed: what they left does not count twice."""
    told: list[str] = []
    whole, again = gradient_of(2048, 2048, told), gradient_of(100, most, told)
    assert told if most < 100 else not told
    assert again[0] == pytest.approx(whole[0], rel=1e-5)
    assert again[1] == pytest.approx(whole[1], rel=1e-4, abs=1e-5)
    assert (again[2] - whole[2]).norm() <= 1e-5 * whole[2].norm()


@pytest.mark.parametrize(("micro", "wanted"), [(2048, torch.bfloat16), (100, torch.float32)], ids=["one", "several"])
def test_gradients_of_one_micro_batch_stay_where_they_are(micro: int, wanted: torch.dtype) -> None:
    """In bfloat16, half of the memory; those of several are added up in float32."""
    trained = MixedPrecision(decoder_of().requires_grad_(True), torch.bfloat16)
    execution = Execution(dtype=torch.bfloat16, micro_batch_tokens=micro)
    accumulate(trained, stage_of("sft").objective, range(len(ROWS)), chosen_rows(ROWS), None, execution)
    assert {one.gradient.dtype for one in trained.learnt() if one.copy is not None} == {wanted}


def test_in_bfloat16_few_shapes_are_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the policy and by a reference, in micro-batches of uneven sizes, which float32 leaves as they are."""
    sizes: list[int] = []
    forward = Decoder.forward

    def noted(self: Decoder, tokens_N: Tensor, *others: Any, **named: Any) -> Any:
        sizes.append(len(tokens_N))
        return forward(self, tokens_N, *others, **named)

    monkeypatch.setattr(Decoder, "forward", noted)
    for dtype in (torch.float32, torch.bfloat16):
        gradient_of(100, 2048, [], dtype)  # its reference stays in float32
        pair_logps(decoder_of(), ROWS, dtype)
    (*plain, whole), (*narrow, filled) = sizes[: len(sizes) // 2], sizes[len(sizes) // 2 :]
    assert len(set(plain)) > 1
    assert narrow[1::2] == [-(-size // 32) * 32 for size in plain[1::2]]
    assert whole % 32
    assert filled == -(-whole // 32) * 32


def test_running_out_of_memory_leaves_nothing_behind_in_bfloat16() -> None:
    """Where copies have gradients of their own: a step that began again is that of micro-batches of that size."""
    told: list[str] = []
    again = gradient_of(100, 70, told, torch.bfloat16)
    once = gradient_of(again[3].room.most, 2048, told, torch.bfloat16)
    assert len(told) == 1
    assert (again[2] - once[2]).norm() <= 0.02 * once[2].norm()


def test_a_backward_pass_that_fails_midway_leaves_nothing() -> None:
    """Some weights have its gradient by then: the step begins again without them."""

    class Failing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):  # type: ignore[no-untyped-def]  # torch's signature is untyped
            return x.clone()

        @staticmethod
        def backward(ctx, grad):  # type: ignore[no-untyped-def]
            if len(grad) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return grad

    stage = stage_of("sft")

    def loss(logps: Logps) -> Tensor:
        failing: Tensor = Failing.apply(logps.policy_chosen_B)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        # Its own gradient comes first, and reaches the weights before the one that fails.
        return stage.objective.loss(replace(logps, policy_chosen_B=failing))

    def step(objective: Objective, told: list[str]) -> Tensor:
        policy, rows = decoder_of(seed=1).requires_grad_(True), chosen_rows(ROWS)
        execution = Execution(dtype=torch.float32, micro_batch_tokens=2048, tell=told.append)
        accumulate(MixedPrecision(policy, execution.dtype), objective, range(len(rows)), rows, None, execution)
        return torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])

    told: list[str] = []
    found, wanted = step(replace(stage.objective, loss=loss), told), step(stage.objective, [])
    assert told
    assert (found - wanted).norm() <= 1e-5 * wanted.norm()


def test_a_stage_that_ran_out_of_memory_goes_on_and_says_so_once() -> None:
    """What fitted is kept for all further steps, and for the stages that share the execution."""
    stage, policy, told = stage_of("dpo-soft-reference"), decoder_of(), list[str]()
    execution = replace(SETTINGS, tell=told.append)
    reference = Scarce(policy, 45)
    plan = plan_of(stage)
    for number in (1, 2):
        spent = train_stage(
            policy, stage, plan, TERMS.rows(stage), reference, execution, number=number, on_step=lambda step: None
        )
        assert len(spent.steps) == len(plan.steps)
    assert reference.refused == len(told) == 1
    assert "out of memory: a micro-batch of" in told[0]
    assert execution.room.most <= 30


def test_one_row_that_does_not_fit_ends_the_stage_in_one_line() -> None:
    """With what to do; nothing smaller can be tried."""
    with pytest.raises(OutOfMemoryError, match=r"a micro-batch of one row \(\d+ tokens\) does not fit: .*--adapter"):
        gradient_of(2048, 3, [])


def test_an_optimizer_that_does_not_fit_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """It hangs on no micro-batch, so none is halved."""

    def fail(optimizer: AdamW, policy: MixedPrecision) -> float:
        raise MemoryError

    monkeypatch.setattr(AdamW, "update", fail)
    with pytest.raises(OutOfMemoryError, match=r"the optimizer of [\d,]+ weights does not fit: choose"):
        trained(stage_of("sft"), pairs=4)


@pytest.mark.parametrize("recipe", RECIPES)
def test_nothing_is_read_between_micro_batches(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU would be waited for: however many there are, a step reads as much as with one."""
    stage, policy = stage_of(recipe), decoder_of()
    reference, read = reference_of(stage, policy), []
    trained = MixedPrecision(policy.requires_grad_(True), torch.float32)
    counted = []
    own = Tensor.item
    monkeypatch.setattr(Tensor, "item", lambda self: (read.append(self), own(self))[1])
    for micro_batch_tokens in (1, 10_000):
        execution = Execution(dtype=torch.float32, micro_batch_tokens=micro_batch_tokens)
        accumulate(trained, stage.objective, range(16), TERMS.rows(stage), reference, execution)
        counted.append(len(read))
        read.clear()
    assert counted[0] == counted[1] > 0
