"""On a GPU: what is compiled, recorded and sent there gives what the plain way gives. Skipped where there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from harness.records import TrainStep
from harness.training.machine import choose_device
from harness.training.train import Execution, train_stage
from models.architecture import Architecture
from models.captured import Captured, record_graph
from models.decoder import Decoder
from models.flex_check import Flex
from models.packing import Packed, Row, pack
from models.transfer import send
from tests.harness.training import test_train
from tests.models.test_decoding import MANY, called, written_by
from tests.models.test_flex import ROWS, answer_and_gradients
from tests.models.test_packing import relative_error
from tests.tiny import GPT2, LLAMA, decoder_of

pytestmark = pytest.mark.gpu
WIDE = replace(LLAMA, width=64, head_width=16)  # a GPU's kernels want heads of 16 or more
ROUNDING = {torch.float32: 5e-5, torch.bfloat16: 2e-2}


@pytest.fixture(scope="module")
def device() -> torch.device:
    return choose_device()


@pytest.fixture(scope="module")
def flex() -> Flex:
    """One that must not fail: it would hide behind the grid."""

    def tell(line: str) -> None:
        raise AssertionError(line)

    return Flex(tell=tell)


def drawn(batch: Packed, dtype: torch.dtype, heads: int, kv_heads: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    draw, tokens = torch.Generator().manual_seed(0), len(batch.tokens_N)
    q, k, v = (torch.randn(tokens, h, width, generator=draw) for h in (heads, kv_heads, kv_heads))
    there = [x.to(batch.tokens_N.device, dtype).requires_grad_() for x in (q, k, v)]
    return there[0], there[1], there[2]


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("heads", [(12, 12, 64), (32, 8, 64), (9, 3, 64), (8, 2, 128), (4, 2, 16)], ids=str)
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS.keys())
def test_the_stream_and_the_grid_attend_alike(
    rows: list[Row], heads: tuple[int, int, int], dtype: torch.dtype, device: torch.device, flex: Flex
) -> None:
    """Answers and gradients, of every kind of rows, on the kernel that this machine compiled."""
    batch = pack(rows).to(device)
    qkv = drawn(batch, dtype, *heads)
    stream = answer_and_gradients(lambda *qkv: batch.attend_in_stream(*qkv, flex), qkv)
    assert relative_error(stream, answer_and_gradients(batch.attend_in_grid, qkv)) < ROUNDING[dtype]


@pytest.mark.parametrize("asked", [{}, {"seed": 1}], ids=str)
@pytest.mark.parametrize("architecture", [WIDE, replace(GPT2, width=64, head_width=16)], ids=lambda a: a.family)
def test_what_is_played_back_writes_what_is_called(
    architecture: Architecture, asked: dict[str, int], device: torch.device
) -> None:
    """Token for token."""
    decoder = decoder_of(architecture, scale=0.2)
    told: list[str] = []
    decoder = decoder.to(device)
    found, plain = (
        written_by(Captured(record, told.append), decoder, MANY, **asked) for record in (record_graph, called)
    )
    assert found == plain
    assert not told


def stage_on(device: torch.device, recipe: str, dtype: torch.dtype) -> tuple[Decoder, list[TrainStep]]:
    """A stage of a few steps in several micro-batches each, its reference with it."""
    policy, stage = decoder_of(WIDE).to(device), test_train.stage_of(recipe)
    reference = test_train.reference_of(stage, policy)
    plan, rows = test_train.plan_of(stage, pairs=20), test_train.TERMS.rows(stage)
    execution = Execution(dtype=dtype, micro_batch_tokens=60)
    spent = train_stage(policy, stage, plan, rows, reference, execution, number=1, on_step=lambda line: None)
    return policy, list(spent.steps)


@pytest.mark.parametrize("recipe", ["sft", "dpo-soft-reference"])
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-4), (torch.bfloat16, 5e-2)], ids=str)
def test_training_steps_are_those_of_the_processor(
    recipe: str, dtype: torch.dtype, rounding: float, device: torch.device
) -> None:
    """Their losses, log-probs and gradients' norms."""
    there, here = (stage_on(d, recipe, dtype)[1] for d in (device, torch.device("cpu")))
    for mine, other in zip(there, here, strict=True):
        assert mine.loss == pytest.approx(other.loss, rel=rounding, abs=rounding)
        assert mine.grad_norm == pytest.approx(other.grad_norm, rel=rounding, abs=rounding)
        assert mine.logps_chosen == pytest.approx(other.logps_chosen, rel=rounding)


def test_a_batch_arrives_as_it_was(device: torch.device) -> None:
    """Although nobody waits for it, and the memory it waits in is used again."""
    sent = [(x, send(x, device)) for x in (torch.arange(n, 1000 + n) for n in range(50))]
    for here, there in sent:
        assert there.device.type == "cuda"
        assert torch.equal(there.cpu(), here)


@pytest.mark.parametrize("multiply", [torch.matmul, torch.nn.functional.linear])
def test_float32_is_multiplied_as_float32(multiply: Callable[..., Tensor], device: torch.device) -> None:
    """Not in TF32, which would be 1e-3 off."""
    x = torch.randn(512, 512, generator=torch.Generator().manual_seed(0)).to(device)
    assert relative_error(multiply(x, x).double(), multiply(x.double(), x.double())) < 1e-5
