"""A budget is read as it was meant or refused, and FLOPs are those that a counter counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from harness.errors import HarnessError
from harness.training.budget import (
    Amount,
    Cost,
    forward_flops,
    parse_budget,
    training_flops,
    useful_tokens,
)
from models.architecture import Architecture
from models.logprobs import sum_logps
from models.lora import parse_lora
from models.low_rank import own_weights, with_adapter
from models.packing import Row, pack
from tests.tiny import GPT2, LLAMA, decoder_of

GOOD = {
    "60s": ("seconds", 60.0),
    "0.5s": ("seconds", 0.5),
    "10m": ("seconds", 600.0),
    "10min": ("seconds", 600.0),
    "1.5h": ("seconds", 5400.0),
    ".5h": ("seconds", 1800.0),
    " 60 s ": ("seconds", 60.0),
    "60S": ("seconds", 60.0),
    "12TFLOP": ("flops", 12e12),
    "12TFLOPs": ("flops", 12e12),
    "12 tflop": ("flops", 12e12),
    "3GFLOP": ("flops", 3e9),
    "2PFLOPS": ("flops", 2e15),
    "1e12FLOP": ("flops", 1e12),
    "1e12flops": ("flops", 1e12),
    "1.2e+03TFLOP": ("flops", 1.2e15),
    "3e-06TFLOP": ("flops", 3e6),
    "800pairs": ("pairs", 800.0),
    "1pair": ("pairs", 1.0),
    "2epochs": ("epochs", 2.0),
    "1epoch": ("epochs", 1.0),
    "0.5epochs": ("epochs", 0.5),
}
BAD = (
    "",
    "60",
    "s",
    "60 parsecs",
    "sixty s",
    "-60s",
    "60s60s",
    "1,5h",
    "12TFLOP/s",
    "60ss",
    "nan s",
    "infs",
    "٦s",
    "1_0s",
)


@pytest.mark.parametrize("text", GOOD)
def test_a_budget_is_read_as_meant(text: str) -> None:
    """Its unit in any case and number, its amount in seconds, FLOPs, pairs or epochs."""
    unit, amount = GOOD[text]
    asked = parse_budget(text)
    assert (asked.unit, asked.amount) == (unit, pytest.approx(amount))


@pytest.mark.parametrize("text", BAD)
def test_a_budget_that_cannot_be_read_is_refused(text: str) -> None:
    """The line has the value and examples."""
    with pytest.raises(HarnessError, match="cannot be read: write 60s, 10m, 12TFLOP, 800pairs or 2epochs") as caught:
        parse_budget(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["0s", "0.0h", "0pairs", "1e999s"])
def test_a_budget_of_nothing_or_without_end_is_refused(text: str) -> None:
    """Zero and infinity are no budgets."""
    with pytest.raises(HarnessError, match="write 60s"):
        parse_budget(text)


def test_units_are_not_mixed_up() -> None:
    """Minutes are not millions, and a pair is not a petaflop."""
    assert parse_budget("1m") == Amount(unit="seconds", amount=60.0)
    assert parse_budget("1pair") == Amount(unit="pairs", amount=1.0)


ONE = Architecture(
    family="llama",
    vocabulary=10,
    context=64,
    width=4,
    depth=1,
    heads=2,
    kv_heads=1,
    head_width=2,
    hidden=6,
    norm_eps=1e-5,
)


def test_a_row_costs_what_is_counted_by_hand() -> None:
    """Prompt of 3, responses of 2 and 4 tokens: 3 + 1 + 3 are read, 6 predicted.

    A token's body: query 4·4, key and value 2·(4·2), out 4·4, gate, up and down 3·(4·6), 2 FLOPs each. Attention: token
    pairs 3·4/2 + (3 + 1) + (3·3 + 3·4/2) = 25, each 2·4 for the score and 2·4 for the mix. Head: 4·10 a prediction.
    """
    body = 7 * 2 * (16 + 16 + 16 + 72)
    attention = 25 * (2 * 4 + 2 * 4)
    head = 6 * 2 * 40
    assert forward_flops(ONE, [Row(prompt=(1, 2, 3), responses=((1, 2), (3, 4, 5, 6)))]) == body + attention + head


def test_what_a_pairs_responses_begin_with_is_charged_once() -> None:
    """It costs what it would as the prompt's end, but for being predicted."""
    begun = Row(prompt=(1, 2, 3), responses=((1, 2, 5), (1, 2, 3, 4)))
    asked = Row(prompt=(1, 2, 3, 1, 2), responses=((5,), (3, 4)))
    assert forward_flops(ONE, [begun]) == forward_flops(ONE, [asked]) + 2 * 2 * ONE.head_weights


def test_a_common_beginning_is_charged_once() -> None:
    """Two rows that share 2 prompt tokens cost two lone rows less those tokens' body and attention."""
    rows = [Row(prompt=(1, 2, n), responses=((4, 5),)) for n in (3, 6)]
    alone = sum(forward_flops(ONE, [row]) for row in rows)
    shared = 2 * 2 * ONE.body_weights + 3 * 4 * ONE.attention_width
    assert forward_flops(ONE, rows) == alone - shared


def test_gpt2_has_one_matrix_less_in_its_feed_forward() -> None:
    """Up and down, no gate."""
    llama, gpt2 = replace(ONE, kv_heads=2), replace(ONE, gated=False, kv_heads=2)
    assert llama.body_weights - gpt2.body_weights == 4 * 6


ARCHITECTURES = {"llama": replace(LLAMA, kv_heads=4), "grouped queries": LLAMA, "gpt2": GPT2}
ROW = Row(prompt=(1, 2, 3, 4), responses=((5, 6, 7), (5, 6, 8, 9)))  # 2 tokens shared


def counted(counter: FlopCounterMode) -> int:
    """All that torch counted but attention: its kernels take the whole square, or are not counted at all."""
    by_kind = counter.get_flop_counts()["Global"].items()
    return sum(n for kind, n in by_kind if "attention" not in str(kind) and "bmm" not in str(kind))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_forward_pass_costs_what_torch_counts(name: str) -> None:
    """Every matrix of body and head, for a row."""
    a, decoder = ARCHITECTURES[name], decoder_of(ARCHITECTURES[name])
    attention = 4.0 * a.depth * a.attention_width * ROW.attended
    with FlopCounterMode(display=False) as counter:
        sum_logps(decoder, pack([ROW]), dtype=torch.float32)
    assert counted(counter) == forward_flops(a, [ROW]) - attention


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_backward_pass_through_the_body_costs_twice_a_forward_one(name: str) -> None:
    """As torch counts it."""
    a, decoder = ARCHITECTURES[name], decoder_of(ARCHITECTURES[name]).requires_grad_(True)
    batch = pack([ROW])
    hidden_ND, _ = decoder(batch.tokens_N, batch.positions_N, batch.attend, dtype=torch.float32)
    with FlopCounterMode(display=False) as counter:
        hidden_ND.sum().backward()
    assert counted(counter) == 2 * 2 * a.body_weights * ROW.input_tokens


def test_training_is_three_forward_passes() -> None:
    """One forward, two in the backward pass."""
    rows = [Row(prompt=(1, 2), responses=((3, 4),))]
    assert training_flops(ONE, rows) == 3 * forward_flops(ONE, rows)


# An adapter


ADAPTED = {f"{name}, {target}": (name, target) for name in ARCHITECTURES for target in ("all-linear", "o", "up+down")}


def test_an_adapter_costs_what_is_counted_by_hand() -> None:
    """The row above with r = 1 on q and down: 7 tokens, 25 token pairs, 6 predictions.

    A and B of q are 4 and 4, of down 6 and 4. Forward the base and 2 a weight of theirs. Backward through out, gate,
    up and down 16 + 72, not into qkv, where nothing is trained before; all of the only layer's attention, twice; both
    pairs twice over, but for q's A once; and the head once.
    """
    row, lora = Row(prompt=(1, 2, 3), responses=((1, 2), (3, 4, 5, 6))), parse_lora("lora:r=1:target=q+down")
    forward = 7 * 2 * (16 + 16 + 16 + 72 + 8 + 10) + 25 * 16 + 6 * 2 * 40
    backward = 7 * 2 * (16 + 72) + 25 * 2 * 16 + 7 * (4 * (8 + 10) - 2 * 4) + 6 * 2 * 40
    assert forward_flops(ONE, [row], lora) == forward
    assert training_flops(ONE, [row], lora) == forward + backward


@pytest.mark.parametrize("name", ADAPTED)
def test_a_step_of_an_adapter_costs_what_torch_counts(name: str) -> None:
    """Forward and backward, every matrix of base, adapter and head."""
    shape, target = ADAPTED[name]
    a, lora = ARCHITECTURES[shape], parse_lora(f"lora:r=3:target={target}")
    policy = with_adapter(decoder_of(a), lora)
    for weight in own_weights(policy).values():
        weight.requires_grad_(True)
    in_place = {torch.ops.aten.addmm_: lambda _, a, b, **__: 2 * a[0] * a[1] * b[1]}  # which torch leaves out
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        sum_logps(policy, pack([ROW]), dtype=torch.float32).sum().backward()
    layers = 3 * a.depth - (2 if lora.idle(a).attention else 0)
    attention = 4.0 * layers * a.attention_width * ROW.attended
    assert counted(counter) == training_flops(a, [ROW], lora) - attention


@pytest.mark.parametrize("architecture", [LLAMA, GPT2], ids=["llama", "gpt2"])
@pytest.mark.parametrize(("target", "backward"), [("all-linear", True), ("o", False), ("down", False)])
def test_the_first_layers_attention_has_a_backward_pass_where_torch_makes_one(
    architecture: Architecture, target: str, backward: bool
) -> None:
    """Only behind something that is trained."""
    lora = parse_lora(f"lora:r=2:target={target}")
    policy = with_adapter(decoder_of(architecture), lora)
    for weight in own_weights(policy).values():
        weight.requires_grad_(True)
    batch, seen = pack([ROW]), []

    def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        seen.append(query.requires_grad)
        return batch.attend(layer, query, key, value)

    policy(batch.tokens_N, batch.positions_N, attend, dtype=torch.float32)
    assert (seen[0], all(seen[1:]), lora.idle(architecture).attention) == (backward, True, not backward)


def test_costs_add_up_by_kind() -> None:
    """The total is all of them."""
    cost = Cost(policy=1, reference=2, update=4, refresh=8) + Cost(policy=16, refresh=32)
    assert (cost.policy, cost.reference, cost.update, cost.refresh, cost.total) == (17, 2, 4, 40, 63)


def test_useful_tokens_are_those_that_are_read() -> None:
    """Prompts count in every row, as a log counts them, and what a row's responses begin with once."""
    assert useful_tokens([Row(prompt=(1, 2), responses=((3, 4), (5,)))] * 2) == 6
    assert useful_tokens([Row(prompt=(1, 2), responses=((3, 4), (3, 5)))] * 2) == 6
