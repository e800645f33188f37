"""Sizes are the usual ones where there is memory, halves of them where there is less, else one line."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from harness.errors import HarnessError
from harness.fitting import Fitting
from harness.training.footprint import Footprint
from models.room import Rooms
from tests.harness.training.test_adapter_memory import SMOLLM2

FULL = Footprint(
    architecture=SMOLLM2, trained=134_515_008, adapter=False, moving=False, dtype=torch.float32, held=10**9
)


def fitting(gigabytes: float, *, asked: str = "auto", footprint: Footprint = FULL, longest: int = 150) -> Fitting:
    limit = round(gigabytes * 1e9)
    return Fitting(asked=asked, limit=limit, footprint=footprint, longest=longest, batch_pairs=64, answer=200)


def test_where_there_is_memory_enough_nothing_changes() -> None:
    """The usual sizes, and not a word."""
    told: list[str] = []
    rooms, plenty = Rooms(), fitting(64)
    plenty.narrow(rooms)
    assert (plenty.choose(2048, told.append), plenty.within(2048, told.append)) == (2048, 2048)
    assert (rooms.reading.most, rooms.writing.most, told) == (4096, 128, [])


@pytest.mark.parametrize(("gigabytes", "tokens"), [(6.0, 1024), (5.5, 512), (5.0, 256)])
def test_less_memory_makes_smaller_micro_batches(gigabytes: float, tokens: int) -> None:
    """Halves of the usual one, which are estimated to fit; twice as much is not. It is said once."""
    told: list[str] = []
    scarce = fitting(gigabytes)
    assert scarce.choose(2048, told.append) == tokens
    assert FULL.training(tokens, 150) <= gigabytes * 1e9 < FULL.training(2 * tokens, 150)
    (line,) = told
    assert re.search(rf"into {gigabytes} GB .* {tokens:,} tokens instead of 2,048: the same gradients", line)


def test_measuring_gets_smaller_too() -> None:
    """What is read and what is written at once."""
    rooms = Rooms()
    fitting(3.2, longest=1000).narrow(rooms)
    assert rooms.reading.most < 4096
    assert rooms.writing.most < 128


def test_a_step_of_few_rows_takes_no_more_than_they_do() -> None:
    """A small batch is not asked to be smaller for tokens that it does not have."""
    assert replace(fitting(5.0), batch_pairs=2).choose(2048, lambda line: None) == 2048


@pytest.mark.parametrize(("asked", "has"), [("2GB", "--memory 2GB"), ("auto", "the 2.0 GB of memory left here")])
def test_too_little_for_one_row_is_one_line(asked: str, has: str) -> None:
    """What there is, what it takes, what to do."""
    with pytest.raises(HarnessError) as caught:
        fitting(2, asked=asked).choose(2048, lambda line: None)
    pattern = r" is too little: training takes about [\d.]+ GB, with one row of 150 tokens at a time: choose a smaller "
    assert re.match(re.escape(has) + pattern + r"model, train an adapter \(--adapter lora:r=16\), ", str(caught.value))
    assert "\n" not in str(caught.value)


def test_who_trains_an_adapter_is_not_told_to() -> None:
    """Only what helps is said."""
    with pytest.raises(HarnessError) as caught:
        fitting(1, footprint=replace(FULL, adapter=True)).choose(512, lambda line: None)
    assert "--adapter" not in str(caught.value)


def test_a_run_goes_on_where_there_is_less_memory() -> None:
    """In smaller micro-batches, said; never in larger ones; and refused by no estimate: perhaps all is trained."""
    told: list[str] = []
    assert fitting(5.5).within(2048, told.append) == 512
    assert "begun with micro-batches of 2,048 tokens, and here 512 fit" in told[0]
    assert fitting(64).within(256, told.append) == 256
    assert fitting(2).within(2048, told.append) == 150
    assert len(told) == 2
