"""Laws 1 to 4 of the metrics, for every recipe that is installed: built-in ones and strangers' alike.

Those that are about a policy hold for one whose weights are all trained and for one with an adapter.

Law 2 for pairs of any shape is in tests/models/test_packing.py, law 5 in tests/evals/test_divergence.py.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from evals.completions import sample
from evals.divergence import measure_samples
from evals.rewards import measure_pairs, reward_scores
from harness.recipes.recipe import Logps, Objective, Stage
from harness.recipes.registry import Choice, choose
from harness.training.reference import Frozen, Moving, ReferenceLogps, pair_logps
from harness.training.train import Execution, accumulate
from models.decoder import Decoder
from models.language_model import LanguageModel, batches
from models.lora import parse_lora
from models.low_rank import own_weights, twin, with_adapter
from models.packing import Row
from models.tokens import Tokens
from tests.tiny import adapted_of, chosen_rows, decoder_of, pair_rows, text_pairs

Floats = NDArray[np.float64]
CHOICES = choose(["all"])
ROWS = pair_rows(12)
STAGES = [(choice, stage) for choice in CHOICES for stage in choice.stages]
PREFERENCE = [(c, s) for c, s in STAGES if s.objective.responses == "pair"]
POLICIES = {"weights": decoder_of, "adapter": adapted_of}
of_policies = pytest.mark.parametrize("make", POLICIES.values(), ids=POLICIES)
AGAINST_REFERENCE = [(c, s) for c, s in PREFERENCE if s.reference.kind != "none"]


def of_stages(stages: list[tuple[Choice, Stage]]) -> Any:
    """Run a test for each stage, named by its recipe."""
    names = [f"{choice.name}-{stage.objective.name}" for choice, stage in stages]
    return pytest.mark.parametrize("stage", [stage for _, stage in stages], ids=names)


def rows_of(stage: Stage, rows: list[Row]) -> list[Row]:
    return rows if stage.objective.responses == "pair" else chosen_rows(rows)


def table_of(decoder: Decoder, rows: list[Row], micro_batch_tokens: int = 10_000) -> dict[int, tuple[float, float]]:
    """Log-probs by pair, batch by batch, as the engine keeps them."""
    table: dict[int, tuple[float, float]] = {}
    for part in batches(rows, micro_batch_tokens):
        values = pair_logps(decoder, [rows[i] for i in part], torch.float32).tolist()
        table |= {i: (chosen, rejected) for i, (chosen, rejected) in zip(part, values, strict=True)}
    return table


def reference_for(stage: Stage, decoder: Decoder) -> ReferenceLogps | None:
    """The stage's reference, as at its first step, with these weights."""
    if stage.reference.kind == "none":
        return None
    if stage.reference.moves:
        return Moving(decoder, torch.float32)
    return Frozen(table_of(decoder, ROWS), torch.device("cpu"))


def step(
    stage: Stage, policy: Decoder, reference: ReferenceLogps | None, micro: int = 10_000
) -> tuple[float, Any, Tensor]:
    """Loss, metrics and gradient of one step over all rows."""
    trained = twin(policy)
    for weight in own_weights(trained).values():
        weight.requires_grad_(True)
    execution = Execution(dtype=torch.float32, micro_batch_tokens=micro)
    rows = rows_of(stage, ROWS)
    loss, metrics = accumulate(trained, stage.objective, range(len(rows)), rows, reference, execution)
    return loss, metrics, torch.cat([p.grad.flatten() for p in trained.parameters() if p.grad is not None])


# Law 1


@pytest.mark.parametrize("lora", [None, "lora:r=4"], ids=["weights", "adapter"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_a_policy_that_is_the_anchor_scores_nothing(
    dtype: torch.dtype, lora: str | None, tiny_model: tuple[Decoder, Tokens]
) -> None:
    """Every margin exactly 0, reward accuracy 0.5, KL 0: nothing a recipe does is in that number."""
    model = tiny_model[0] if lora is None else with_adapter(tiny_model[0], parse_lora(lora))
    policy, anchor = (LanguageModel.of(copy.deepcopy(model), tiny_model[1], dtype) for _ in range(2))
    pairs = text_pairs(12)
    scores, per_prompt = reward_scores(measure_pairs(policy, pairs), measure_pairs(anchor, pairs))
    assert set(per_prompt["reward_margin_nats"].values()) == {0.0}
    assert scores["reward_accuracy"].value == 0.5
    found = measure_samples(policy, anchor, pairs, sample(policy, pairs, limit=16, seed=0))
    assert {(s.kl_nats, s.k1_nats) for s in found} == {(0.0, 0.0)}


@of_policies
@of_stages(AGAINST_REFERENCE)
def test_at_its_first_step_a_policy_is_its_reference(stage: Stage, make: Callable[..., Decoder]) -> None:
    """Rewards and margins are exactly 0 and half of the pairs count as right, with any kind of reference."""
    policy = make()
    _, metrics, _ = step(stage, policy, reference_for(stage, policy))
    if stage.objective.beta is not None:
        assert metrics["rewards_accuracies"] == 0.5
        assert {metrics[f"rewards_{m}"] for m in ("chosen", "rejected", "margins")} == {0.0}


@of_policies
def test_a_cached_reference_is_a_fresh_one(make: Callable[..., Decoder]) -> None:
    """The same log-probs, read from a table or computed now; to rounding, where they were batched otherwise."""
    decoder, pairs = make(), [7, 2, 5]
    fresh = Moving(decoder, torch.float32).logps(pairs, [ROWS[i] for i in pairs])
    for micro in (1, 60, 10_000):
        cached = Frozen(table_of(decoder, ROWS, micro), torch.device("cpu")).logps(pairs, [])
        assert (cached - fresh).abs().max() <= 1e-5 * fresh.abs().max()


def test_a_cached_reference_keeps_every_bit() -> None:
    """Through the table's plain numbers and back."""
    fresh = pair_logps(decoder_of(), ROWS, torch.float32)
    table = {i: (chosen, rejected) for i, (chosen, rejected) in enumerate(fresh.tolist())}
    assert torch.equal(Frozen(table, torch.device("cpu")).logps(range(len(ROWS)), []), fresh)


# Law 3


@of_policies
@of_stages(STAGES)
@pytest.mark.parametrize("micro", [1, 40, 90])
def test_the_gradient_does_not_depend_on_the_micro_batch(
    micro: int, stage: Stage, make: Callable[..., Decoder]
) -> None:
    """One row at a time, a few, or all: relative error at most 1e-5, and the same loss and metrics."""
    policy = make(seed=1)
    whole = step(stage, policy, reference_for(stage, make(seed=2)))
    parts = step(stage, policy, reference_for(stage, make(seed=2)), micro)
    assert parts[0] == pytest.approx(whole[0], rel=1e-5)
    assert parts[1] == pytest.approx(whole[1], rel=1e-4, abs=1e-5)
    assert (parts[2] - whole[2]).norm() <= 1e-5 * whole[2].norm()


Numbers = dict[str, Floats]
Formula = Callable[[Numbers, Objective], tuple[Floats, Floats, Floats]]


def published_sft(x: Numbers, objective: Objective) -> tuple[Floats, Floats, Floats]:
    """−log π(y_w): loss, its derivative by log π(y_w), and by log π(y_l)."""
    nothing = np.zeros_like(x["policy_chosen_B"])
    return -x["policy_chosen_B"], nothing - 1, nothing


def published_dpo(x: Numbers, objective: Objective) -> tuple[Floats, Floats, Floats]:
    """arXiv:2305.18290, equation 7, and the gradient below it: −β σ(r̂(y_l) − r̂(y_w)) [∇ log π(y_w) − ∇ log π(y_l)]."""
    beta = objective.beta
    assert beta is not None
    reward_w = beta * (x["policy_chosen_B"] - x["reference_chosen_B"])
    reward_l = beta * (x["policy_rejected_B"] - x["reference_rejected_B"])
    loss = -np.log(1 / (1 + np.exp(-(reward_w - reward_l))))
    slope = beta / (1 + np.exp(-(reward_l - reward_w)))
    return loss, -slope, slope


PUBLISHED: dict[str, Formula] = {"sft": published_sft, "dpo": published_dpo}


def random_numbers(pairs: int = 64) -> Numbers:
    """Log-probs of some tens of nats, policy and reference some nats apart, in float64."""
    draw = np.random.default_rng(0)
    reference = {f"reference_{r}_B": -draw.uniform(5, 80, pairs) for r in ("chosen", "rejected")}
    policy = {f"policy_{r}_B": reference[f"reference_{r}_B"] + draw.normal(0, 4, pairs) for r in ("chosen", "rejected")}
    tokens = {f"{r}_tokens_B": draw.integers(1, 60, pairs).astype(float) for r in ("chosen", "rejected")}
    return reference | policy | tokens


def logps_of(numbers: Numbers) -> tuple[Logps, Tensor, Tensor]:
    """As a loss is given them, in float64, with the two that gradients are asked for."""
    tensors = {name: torch.tensor(x) for name, x in numbers.items()}
    chosen, rejected = tensors["policy_chosen_B"], tensors["policy_rejected_B"]
    chosen.requires_grad_(True)
    rejected.requires_grad_(True)
    return Logps(**tensors), chosen, rejected


def gradient(loss_B: Tensor, by: Tensor) -> Floats:
    (found,) = torch.autograd.grad(loss_B.sum(), by, retain_graph=True, allow_unused=True)
    return np.zeros(len(by)) if found is None else found.numpy()


@of_stages([(c, s) for c, s in STAGES if s.objective.name in PUBLISHED])
def test_loss_and_gradient_are_the_published_formula(stage: Stage) -> None:
    """Written again here from the paper, on random log-probs."""
    numbers = random_numbers()
    logps, chosen, rejected = logps_of(numbers)
    loss_B = stage.objective.loss(logps)
    wanted = PUBLISHED[stage.objective.name](numbers, stage.objective)
    found = (loss_B.detach().numpy(), gradient(loss_B, chosen), gradient(loss_B, rejected))
    for mine, published in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, published, rtol=1e-9, atol=1e-12)


def test_every_built_in_objective_has_its_published_formula_here() -> None:
    """A new recipe brings its own."""
    assert {s.objective.name for c in choose(["core"]) for s in c.stages} <= set(PUBLISHED)


@of_stages(STAGES)
def test_a_loss_is_one_finite_number_a_row_whose_gradient_is_its_slope(stage: Stage) -> None:
    """For strangers' losses too, which have no formula here: autograd against finite differences."""
    numbers, by = random_numbers(), 1e-5
    logps, chosen, _ = logps_of(numbers)
    loss_B = stage.objective.loss(logps)
    assert loss_B.shape == (64,)
    assert bool(loss_B.isfinite().all())
    ahead, behind = (
        stage.objective.loss(logps_of(numbers | {"policy_chosen_B": numbers["policy_chosen_B"] + d})[0]).detach()
        for d in (by, -by)
    )
    np.testing.assert_allclose(gradient(loss_B, chosen), (ahead - behind).numpy() / (2 * by), rtol=1e-4, atol=1e-7)


@of_stages(STAGES)
def test_a_rows_loss_does_not_depend_on_the_other_rows(stage: Stage) -> None:
    """What micro-batches rest on: row by row gives the same as all at once."""
    numbers = random_numbers()
    together = stage.objective.loss(logps_of(numbers)[0]).detach()
    alone = [stage.objective.loss(logps_of({k: x[i : i + 1] for k, x in numbers.items()})[0]).item() for i in range(64)]
    np.testing.assert_allclose(together.numpy(), alone, rtol=1e-12)


# Law 4


@of_policies
@of_stages([(c, s) for c, s in AGAINST_REFERENCE if s.objective.name == "dpo"])
def test_dpo_at_its_reference_is_ln_2(stage: Stage, make: Callable[..., Decoder]) -> None:
    """At any beta, on a model, with any kind of reference."""
    policy = make()
    assert step(stage, policy, reference_for(stage, policy))[0] == pytest.approx(math.log(2), abs=1e-6)


@of_stages(PREFERENCE)
def test_gradients_raise_chosen_and_lower_rejected(stage: Stage) -> None:
    """Where policy = reference, pair by pair, for every preference recipe."""
    numbers = random_numbers()
    start = {f"policy_{r}_B": numbers[f"reference_{r}_B"].copy() for r in ("chosen", "rejected")}
    logps, chosen, rejected = logps_of(numbers | start)
    loss_B = stage.objective.loss(logps)
    assert (gradient(loss_B, chosen) < 0).all()
    assert (gradient(loss_B, rejected) > 0).all()


@of_policies
@of_stages(PREFERENCE)
def test_a_step_on_a_model_widens_the_margin(stage: Stage, make: Callable[..., Decoder]) -> None:
    """Against the gradient, by a little: chosen log-probs gain on rejected ones."""
    policy = make()
    slope = step(stage, policy, reference_for(stage, policy))[2]
    moved = twin(policy)
    with torch.no_grad():
        mine = list(own_weights(moved).values())
        flat = torch.nn.utils.parameters_to_vector(mine) - 1e-3 * slope / slope.norm()
        torch.nn.utils.vector_to_parameters(flat, mine)
    before, after = (pair_logps(d, ROWS, torch.float32).double() for d in (policy, moved))
    assert ((after - before)[:, 0] - (after - before)[:, 1]).mean() > 0
