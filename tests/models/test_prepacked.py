"""Laid out once, matrices multiply as they are; where that does not work, they stay."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from models import prepacked
from models.architecture import Architecture
from models.decoder import Decoder
from models.generation import generate
from models.language_model import LanguageModel
from models.logprobs import sum_logps
from models.low_rank import adapter_off
from models.packing import pack
from models.prepacked import Prepacked, prepack, works
from models.tokens import Tokens
from tests.tiny import GPT2, LLAMA, adapted_of, decoder_of, pair_rows

HALF = torch.bfloat16
SHAPES = {"llama": LLAMA, "gpt2": GPT2, "untied": replace(LLAMA, tied=False)}
laid_out = pytest.mark.skipif(not works(), reason="oneDNN lays nothing out here")


def both(decoder: Decoder) -> tuple[Decoder, Decoder]:
    """In bfloat16, plain and laid out."""
    twins = decoder.in_dtype(HALF), decoder.in_dtype(HALF)
    prepack(twins[1])
    return twins


@laid_out
@pytest.mark.parametrize("architecture", SHAPES.values(), ids=SHAPES)
def test_log_probs_are_those_of_the_plain_matrices(architecture: Architecture) -> None:
    """Bit for bit, with and without an adapter, and with it off."""
    batch = pack(pair_rows(4))
    for decoder in (decoder_of(architecture), adapted_of(architecture)):
        plain, laid = (sum_logps(twin, batch, dtype=HALF) for twin in both(decoder))
        assert torch.equal(plain, laid)
    plain, laid = both(adapted_of(architecture))
    with adapter_off(plain), adapter_off(laid):
        assert torch.equal(sum_logps(plain, batch, dtype=HALF), sum_logps(laid, batch, dtype=HALF))


@laid_out
def test_answers_are_those_of_the_plain_matrices() -> None:
    prompts = [row.prompt for row in pair_rows(5)]
    plain, laid = (generate(twin, prompts, end=0, limit=6, dtype=HALF) for twin in both(decoder_of()))
    assert plain == laid


@laid_out
def test_no_matrix_is_there_twice_but_the_head() -> None:
    """The plain ones are let go; what they were laid out from is not touched."""
    decoder = decoder_of()
    plain, laid = both(decoder)
    kept = [layer for layer in laid.modules() if isinstance(layer, nn.Linear) and layer.weight.device.type == "cpu"]
    assert kept == [laid.untied_head]
    assert not any(weight.device.type == "meta" for twin in (decoder, plain) for weight in twin.parameters())


@laid_out
def test_a_copy_of_a_decoder_shares_what_is_laid_out() -> None:
    _, laid = both(decoder_of())
    batch = pack(pair_rows(2))
    twin = copy.deepcopy(laid)
    assert torch.equal(sum_logps(twin, batch, dtype=HALF), sum_logps(laid, batch, dtype=HALF))


@laid_out
def test_who_measures_in_bfloat16_has_its_matrices_laid_out(tiny_model: tuple[Decoder, Tokens]) -> None:
    half, full = (LanguageModel.of(*tiny_model, dtype).decoder for dtype in (HALF, torch.float32))
    assert hasattr(half.blocks[0].up, "prepacked")
    assert not hasattr(full.blocks[0].up, "prepacked")


def wrong(self: Prepacked, x_NI: Tensor, bias_O: Tensor | None) -> Tensor:
    return torch.zeros(len(x_NI), 64, dtype=HALF) if len(x_NI) == 1 else x_NI[:, :64]


def no_operator(self: Prepacked, weight_OI: Tensor) -> None:
    raise NotImplementedError


@pytest.mark.parametrize(("method", "broken"), [("__call__", wrong), ("__init__", no_operator)])
def test_where_it_does_not_work_matrices_stay(method: str, broken: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Prepacked, method, broken)
    assert not works.__wrapped__()
    monkeypatch.setattr(prepacked, "works", lambda: False)
    _, laid = both(decoder_of())
    assert not any(hasattr(layer, "prepacked") for layer in laid.modules())
