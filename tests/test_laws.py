"""Laws 1 to 4 of the metrics, for every recipe that is installed: built-in ones and strangers' alike.

Those that are about a policy hold for one whose weights are all trained and for one with an adapter.

Law 2 for pairs of any shape is in tests/models/test_packing.py, and here for DPO on rows as long as people's; law 5 in
tests/evals/test_divergence.py.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid, scaled_dot_product_attention

from benchmarks.profiles import DRAWN, PROFILES, load
from benchmarks.profiles import rows_of as rows_of_profile
from evals.completions import sample
from evals.divergence import measure_samples
from evals.rewards import measure_pairs, reward_scores
from harness.recipes.recipe import Logps, Objective, Stage
from harness.recipes.registry import Choice, choose
from harness.training.mixed_precision import MixedPrecision
from harness.training.reference import Frozen, Moving, ReferenceLogps, pair_logps
from harness.training.train import Execution, accumulate
from models.architecture import Architecture
from models.decoder import Decoder
from models.language_model import LanguageModel, batches
from models.lora import parse_lora
from models.low_rank import own_weights, twin, with_adapter
from models.packing import Row
from models.tokens import Tokens
from tests.tiny import GPT2, LLAMA, adapted_of, chosen_rows, decoder_of, pair_rows, text_pairs

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
    loss, metrics = accumulate(
        MixedPrecision(trained, execution.dtype), stage.objective, range(len(rows)), rows, reference, execution
    )
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


# Law 2

# Mean tokens of a beginning that all prompts have, of the rest of a prompt, and of a response; each is drawn evenly
# from half to one and a half of that. `short` is like `rasbt`; the others are the profiles of the benchmarks.
LENGTHS = {"short": (24, 20, 16), **{name: (0, drawn.prompt, drawn.response) for name, drawn in DRAWN.items()}}


def rows_like(profile: str, count: int, vocabulary: int) -> list[Row]:
    """Random rows of a profile's lengths."""
    draw = random.Random(0)
    beginning, prompt, response = LENGTHS[profile]

    def some(mean: int) -> tuple[int, ...]:
        return tuple(draw.randrange(vocabulary) for _ in range(draw.randint(mean // 2, mean + mean // 2)))

    start = some(beginning)
    return [Row(prompt=start + some(prompt), responses=(some(response), some(response))) for _ in range(count)]


class Step(NamedTuple):
    """The loss of a step, its gradient, all weights in one row, and the log-probs of its pairs in nats."""

    loss: float
    gradient: Tensor
    policy_B2: Tensor


def gradient_of(policy: Decoder) -> Tensor:
    return torch.cat([weight.grad.flatten() for weight in policy.parameters() if weight.grad is not None])


def separate_step(policy: Decoder, rows: list[Row], reference_B2: Tensor) -> Step:
    """DPO by the definition (arXiv:2305.18290, equation 7), beta 0.1, nothing shared and nothing packed.

    Each prompt with each response is a text of its own, and the whole softmax is taken at each of its positions.
    """

    def logp(prompt: tuple[int, ...], response: tuple[int, ...]) -> Tensor:
        text = torch.tensor(prompt + response)

        def attend(layer: int, query_NHE: Tensor, key_NKE: Tensor, value_NKE: Tensor) -> Tensor:
            groups = query_NHE.shape[1] // key_NKE.shape[1]
            q, k, v = (x.transpose(0, 1)[None] for x in (query_NHE, key_NKE, value_NKE))
            k, v = (x.repeat_interleave(groups, dim=1) for x in (k, v))
            return scaled_dot_product_attention(q, k, v, is_causal=True)[0].transpose(0, 1)

        hidden_ND, _ = policy(text, torch.arange(len(text)), attend, dtype=torch.float32)
        logps_NV = (
            (hidden_ND @ policy.head.T).double().log_softmax(-1)
        )  # float32's sum over a vocabulary is off by 1e-5
        places = torch.arange(len(prompt) - 1, len(text) - 1)
        return logps_NV[places, torch.tensor(response)].sum()

    policy.zero_grad()
    with torch.no_grad():
        policy_B2 = torch.stack([torch.stack([logp(row.prompt, y) for y in row.responses]) for row in rows])
    margin_B = 0.1 * ((policy_B2 - reference_B2.double()) @ torch.tensor([1.0, -1.0], dtype=torch.float64))
    slope_B = -0.1 * torch.sigmoid(-margin_B) / len(rows)
    for row, slope in zip(rows, slope_B, strict=True):
        for response, sign in zip(row.responses, (1, -1), strict=True):
            (sign * slope * logp(row.prompt, response)).backward()  # one text's graph at a time
    return Step(-logsigmoid(margin_B).mean().item(), gradient_of(policy), policy_B2)


def packed_step(policy: Decoder, rows: list[Row], reference_B2: Tensor, micro: int) -> Step:
    """The same as a bench takes it."""
    policy.zero_grad()
    table = {i: (chosen, rejected) for i, (chosen, rejected) in enumerate(reference_B2.tolist())}
    reference, execution = Frozen(table, policy.device), Execution(dtype=torch.float32, micro_batch_tokens=micro)
    objective = choose(["dpo-beta0.1"])[0].stages[-1].objective
    loss, _ = accumulate(
        MixedPrecision(policy, execution.dtype), objective, range(len(rows)), rows, reference, execution
    )
    return Step(loss, gradient_of(policy), pair_logps(policy, rows, torch.float32))


def expect_law_2(policy: Decoder, rows: list[Row], micros: tuple[int, ...]) -> None:
    """In micro-batches of any size; the reference is some nats off, as after some steps.

    Log-probs are sums of up to a thousand nats in float32, right to a millionth of themselves, and a margin is what
    four of them leave: so much of it is rounding, and as much of the loss and of each pair's slope.
    """
    policy.requires_grad_(True)
    noise_B2 = torch.randn(len(rows), 2, generator=torch.Generator().manual_seed(0))
    reference_B2 = pair_logps(policy, rows, torch.float32) + 5 * noise_B2
    wanted = separate_step(policy, rows, reference_B2)
    rounding = 1e-6 * 0.1 * wanted.policy_B2.abs().sum(1).mean().item()
    for micro in micros:
        found = packed_step(policy, rows, reference_B2, micro)
        assert (found.policy_B2 - wanted.policy_B2).norm() <= 1e-5 * wanted.policy_B2.norm()
        assert found.loss == pytest.approx(wanted.loss, rel=1e-5, abs=rounding)
        assert (found.gradient - wanted.gradient).norm() <= (1e-5 + rounding) * wanted.gradient.norm()
        print(f"micro-batches of {micro}: loss off by {abs(found.loss - wanted.loss):.1e}, rounding {rounding:.1e}")
        print(f"gradient by {(found.gradient - wanted.gradient).norm() / wanted.gradient.norm():.1e} of itself")


@pytest.mark.parametrize("architecture", [LLAMA, GPT2], ids=["llama", "gpt2"])
@pytest.mark.parametrize("profile", LENGTHS)
def test_a_packed_step_is_that_of_separate_texts(profile: str, architecture: Architecture) -> None:
    """Loss and gradient, in every profile of lengths."""
    policy = decoder_of(replace(architecture, context=1024), seed=1, scale=0.1)
    expect_law_2(policy, rows_like(profile, 8, architecture.vocabulary), (1, 300, 2048, 100_000))


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
def test_a_packed_step_of_the_real_model_is_that_of_separate_texts(profile: str, smollm2_path: Path) -> None:
    """The embedded model in float32, on the benchmark's own rows."""
    policy, tokens = load()
    expect_law_2(policy, rows_of_profile(profile, tokens, 3), (1, 2048))


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
