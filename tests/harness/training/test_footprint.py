"""The estimate that micro-batches are chosen by: it grows with what is computed, and is near what was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from harness.training.footprint import Footprint, most_that_fits
from models.lora import parse_lora
from tests.harness.training.peak import beside
from tests.harness.training.test_adapter_memory import SMOLLM2

FULL = Footprint(
    architecture=SMOLLM2, trained=134_515_008, adapter=False, moving=False, dtype=torch.float32, held=1_500_000_000
)
LORA = replace(FULL, trained=parse_lora("lora:r=16").weights(SMOLLM2), adapter=True, held=1_000_000_000)


def test_more_tokens_take_more() -> None:
    """And so do longer rows, more answers, a reference that moves."""
    assert FULL.training(2048, 100) > FULL.training(1024, 100)
    assert FULL.training(1024, 1024) > FULL.training(1024, 100)
    assert replace(FULL, moving=True).training(1024, 100) > FULL.training(1024, 100)
    assert FULL.reading(4096, 100) > FULL.reading(2048, 100)
    assert FULL.writing(128, 100) > FULL.writing(64, 100)


def test_an_adapter_takes_less() -> None:
    """It has next to no gradients, moments and copies."""
    assert LORA.training(512, 100) < 0.5 * FULL.training(512, 100)


def test_measuring_takes_less_than_training() -> None:
    """So that what is trained can be measured: in the usual sizes, but for long answers."""
    assert max(FULL.reading(4096, 500), FULL.writing(128, 200)) < FULL.training(2048, 500)
    assert FULL.writing(32, 500) < FULL.training(2048, 500)


# docs/log.md, 2026-11-26: bytes above what was held before, in steps of several micro-batches, so that all of it is
# there at once; the policy was held already, and there was no anchor. MB, tokens, longest row.
MEASURED = {
    "short, float32": (FULL, 2550, 498, 122),
    "one row at a time": (FULL, 2204, 126, 122),
    "long rows": (FULL, 3176, 856, 856),
    "short, bfloat16": (replace(FULL, dtype=torch.bfloat16), 2560, 498, 122),
    "adapter": (LORA, 796, 498, 122),
    "adapter, long rows": (LORA, 1412, 729, 729),
}


@pytest.mark.parametrize("name", MEASURED)
def test_the_estimate_is_near_what_was_measured(name: str) -> None:
    """Of the whole process within 5% below and 15% above."""
    footprint, megabytes, tokens, longest = MEASURED[name]
    found = footprint.training(tokens, longest) - beside(footprint)
    assert 0.95 < found / (footprint.held + megabytes * 1e6) < 1.15


@pytest.mark.slow
@pytest.mark.parametrize("more", [("frozen",), ("frozen", "lora:r=16")], ids=["weights", "adapter"])
def test_the_estimate_is_near_what_the_real_model_takes(more: tuple[str, ...]) -> None:
    """In short rows and micro-batches of 512 tokens, measured now."""
    command = [sys.executable, "-m", "tests.harness.training.peak", "short", "16", "512", "float32", *more]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    print(found)
    assert 0.9 < found["estimate"] / found["peak"] < 1.3


@pytest.mark.parametrize(("limit", "fits"), [(2048, 2048), (5000, 2048), (2047, 1024), (100, 64), (1, 1), (0, None)])
def test_a_size_is_halved_until_it_fits(limit: int, fits: int | None) -> None:
    """In halves, so that a little more or less of memory changes nothing; None where not one fits."""
    assert most_that_fits(2048, lambda size: size, limit) == fits
