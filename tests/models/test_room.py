"""Where memory runs out, passes go on in smaller parts, to the same results, and say so once."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
import torch

from models.language_model import read_in_parts
from models.packing import Row
from models.room import OutOfMemoryError, Room, Rooms, is_out_of_memory, unless_out_of_memory
from tests.tiny import pair_rows

ROWS = pair_rows(20)
CPU = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"


class Narrow:
    """Reads what it is given, up to so many tokens at once."""

    def __init__(self, most: int) -> None:
        self.most, self.read = most, [0]

    def __call__(self, part: list[Row]) -> list[int]:
        self.read.append(sum(row.input_tokens for row in part))
        if self.read[-1] > self.most:
            raise RuntimeError(CPU)
        return [row.response_tokens for row in part]


@pytest.mark.parametrize("most", [10_000, 200, 60, 30])
def test_every_row_is_read_once_whatever_fits(most: int) -> None:
    """With what was read of it, and nothing above what fits is tried twice."""
    told: list[str] = []
    reader, room = Narrow(most), Room(4096, tell=told.append)
    found = {i: n for part, read in read_in_parts(ROWS, room, reader) for i, n in zip(part, read, strict=True)}
    assert found == {i: row.response_tokens for i, row in enumerate(ROWS)}
    assert sum(tried > most for tried in reader.read) == len(told)
    assert room.most <= max(most, 4096 * (not told))


def test_without_trouble_the_parts_are_those_of_old() -> None:
    """So that no number changes where there is memory enough."""
    reader = Narrow(10_000)
    parts = [part for part, _ in read_in_parts(ROWS, Room(60), reader)]
    lengths = [ROWS[i].input_tokens for part in parts for i in part]
    assert lengths == sorted(lengths)
    assert max(reader.read) <= 60


def test_one_row_that_does_not_fit_is_one_line() -> None:
    """With its length, and what to do."""
    with pytest.raises(OutOfMemoryError, match=r"^out of memory: a batch of one row \(\d+ tokens\) ") as caught:
        list(read_in_parts(ROWS, Room(4096, tell=lambda line: None), Narrow(3)))
    assert "choose a smaller model" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_warning_says_what_did_not_fit_and_what_is_done() -> None:
    """To who has no better place for it, as Python's warning."""
    with pytest.warns(UserWarning, match="a batch of 100 tokens did not fit, so at most 50 are computed at once"):
        Room(4096).halve("a batch", 100, 3)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA"),
        RuntimeError(CPU),
        RuntimeError("not enough memory"),
    ],
)
def test_every_way_of_saying_it_is_known(error: Exception) -> None:
    """CUDA's, the processor's on Linux and Windows, and Python's."""
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("out of memory"), OutOfMemoryError("one")])
def test_other_errors_are_none_of_it(error: Exception) -> None:
    """They go their own way."""

    def fail() -> int:
        raise error

    assert not is_out_of_memory(error)
    with pytest.raises(type(error)):
        unless_out_of_memory(fail)


def test_all_models_of_a_run_tell_one_place() -> None:
    """Of reading and of writing."""
    told: list[str] = []
    rooms = Rooms.telling(told.append)
    rooms.reading.halve("a batch", 100, 2)
    rooms.writing.halve("writing", 128, 128)
    assert (rooms.reading.most, rooms.writing.most, len(told)) == (50, 64, 2)


LIMITED = """
import resource, torch
from models.room import unless_out_of_memory
torch.ones(8) @ torch.ones(8)
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 2**29, size + 2**29))
print(unless_out_of_memory(lambda: torch.ones(2**29)) is None, unless_out_of_memory(lambda: torch.ones(8).sum().item()))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of address space are Linux's")
def test_a_real_allocator_that_has_no_more_is_understood() -> None:
    """Two gibibytes where half a gibibyte is left; and what fits goes on."""
    if resource.getrlimit(resource.RLIMIT_AS)[1] != resource.RLIM_INFINITY:
        pytest.skip("this process is limited already")
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "8.0"], done.stderr
