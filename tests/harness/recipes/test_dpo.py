"""DPO's loss on numbers that can be checked by hand. The laws of all recipes are in tests/test_laws.py."""

from __future__ import annotations

import math

import pytest
import torch

from harness.recipes.dpo import dpo_loss
from harness.recipes.recipe import Logps


def logps(chosen: list[float], rejected: list[float]) -> Logps:
    """Log-probs against a reference that gives −10 to everything."""
    reference = torch.full((len(chosen),), -10.0)
    ones = torch.ones(len(chosen))
    return Logps(
        policy_chosen_B=torch.tensor(chosen, requires_grad=True),
        policy_rejected_B=torch.tensor(rejected, requires_grad=True),
        reference_chosen_B=reference,
        reference_rejected_B=reference,
        chosen_tokens_B=ones,
        rejected_tokens_B=ones,
    )


def test_the_loss_is_ln_2_where_policy_is_reference() -> None:
    """At any beta."""
    for beta in (0.05, 0.5, 10.0):
        assert dpo_loss(logps([-10.0], [-10.0]), beta=beta).item() == pytest.approx(math.log(2), abs=1e-7)


def test_the_loss_of_a_margin_of_two_nats() -> None:
    """−log σ(0.5·2) = log(1 + e⁻¹)."""
    assert dpo_loss(logps([-9.0], [-11.0]), beta=0.5).item() == pytest.approx(math.log1p(math.exp(-1)))


def test_the_gradient_raises_chosen_and_lowers_rejected() -> None:
    """By β·σ(−β·m) each, in opposite directions."""
    given = logps([-9.0, -10.0], [-11.0, -10.0])
    dpo_loss(given, beta=0.5).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    wanted = torch.tensor([0.5 / (1 + math.e), 0.25])
    assert given.policy_rejected_B is not None
    torch.testing.assert_close(given.policy_chosen_B.grad, -wanted)
    torch.testing.assert_close(given.policy_rejected_B.grad, wanted)


def test_a_margin_of_a_thousand_nats_is_no_infinity() -> None:
    """In either direction."""
    loss = dpo_loss(logps([-10.0, -1e4], [-1e4, -10.0]), beta=0.5)
    assert loss[0].item() == 0.0
    assert loss[1].item() == pytest.approx(0.5 * (1e4 - 10))


def test_the_loss_is_one_number_a_pair() -> None:
    """No reduction: the trainer divides."""
    assert dpo_loss(logps([-1.0] * 5, [-2.0] * 5), beta=0.1).shape == (5,)
