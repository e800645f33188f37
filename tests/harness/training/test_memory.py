"""The peak is of what was held meanwhile, not of what is left; and what there is, is what nobody else has taken."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from harness.errors import HarnessError
from harness.training import memory as module
from harness.training.memory import (
    GROWTH,
    KeptMemory,
    available_bytes,
    memory_limit,
    parse_memory,
)

CPU = torch.device("cpu")

SIZE = 100 * 2**20


FREED = """
import mmap, pathlib, time
import psutil
import torch
from harness.training import memory
from harness.training.memory import EVERY_SECONDS, PeakMemory

if {sampled}:
    memory._CLEAR_REFS = pathlib.Path("/nowhere/at/all")
gone = bytearray(2 * {SIZE})
del gone
before = psutil.Process().memory_info().rss
with PeakMemory(torch.device("cpu")) as watched, mmap.mmap(-1, {SIZE}) as held:
    held.write(bytes({SIZE}))
    time.sleep(10 * EVERY_SECONDS)
print(watched.peak_bytes - before)
"""


@pytest.mark.parametrize("sampled", [False, True])
def test_what_was_freed_before_the_end_counts(sampled: bool) -> None:
    """Fresh pages, touched and given back, in a process that gives back nothing else; not what was held before."""
    code = FREED.format(SIZE=SIZE, sampled=sampled)
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 0.9 * SIZE < int(told) < 1.5 * SIZE


@pytest.mark.parametrize(
    ("text", "amount"),
    [("6GB", 6 * 10**9), ("1.5 GiB", 3 * 2**29), ("800mb", 800 * 10**6), ("64MiB", 2**26), ("auto", None)],
)
def test_an_amount_is_read_in_its_unit(text: str, amount: int | None) -> None:
    """Powers of ten and of two; auto is none."""
    assert parse_memory(text) == amount


@pytest.mark.parametrize("text", ["", "6", "six GB", "6TBB", "-6GB", "0GB", "nanGB", "1e999GB", f"{'9' * 400}GB"])
def test_another_amount_is_one_line(text: str) -> None:
    """The value, and what to write."""
    with pytest.raises(HarnessError, match=r"^memory .* write 6GB, 1\.5GiB, 800MB, or auto") as caught:
        parse_memory(text)
    assert "\n" not in str(caught.value)


def group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_", ".", 1)).write_text(f"{content}\n")


def test_control_groups_leave_what_the_tightest_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that the process is in; what files are cached in is free, and "max" is no limit."""
    root, own = tmp_path / "cgroup", tmp_path / "own"
    group(root, memory_max="max", memory_current=10**9, memory_stat="anon 5")
    group(root / "jobs", memory_max=9 * 10**6, memory_current=8 * 10**6, memory_stat="inactive_file 3000000")
    group(root / "jobs/mine", memory_max=8 * 10**6, memory_current=10**6, memory_stat="anon 5")
    group(root / "others", memory_max=1, memory_current=1, memory_stat="anon 1")
    own.write_text("0::/jobs/mine\n")
    assert sorted(module._left_in_groups(root, own)) == [4 * 10**6, 7 * 10**6]
    own.write_text("0::/\n")
    assert list(module._left_in_groups(root, own)) == []
    assert list(module._left_in_groups(root, tmp_path / "none")) == []
    monkeypatch.setattr(module, "_left_in_groups", lambda root, own: iter([7]))
    assert available_bytes(CPU) == 7


def test_what_is_asked_is_the_limit_and_auto_leaves_some() -> None:
    """Asked is the whole process's; else it may have what it holds, and most of what is left."""
    assert memory_limit("6GB", CPU) == 6 * 10**9
    held, left = psutil.Process().memory_info().rss, psutil.virtual_memory().available
    assert held < memory_limit("auto", CPU) < held + left


KEEPING = """
import psutil
from harness.training.memory import kept_memory

def held():
    return psutil.Process().memory_info().rss

before = held()
with kept_memory():
    touched = bytearray(b"1") * 2**28
    del touched
    print(held() - before)
print(held() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc only")
def test_freed_memory_is_kept_within_and_given_back_after() -> None:
    """In a process of its own: a large one has room for it already."""
    told = subprocess.run([sys.executable, "-c", KEEPING], capture_output=True, text=True, check=True).stdout
    within, after = map(int, told.split())
    assert within > 2**27 > after


def test_what_holes_have_grown_to_is_given_back() -> None:
    """Measured by the most that was held after the first two steps, or after one that had no holes to begin with."""
    given_back: list[int] = []
    kept = KeptMemory(lambda: given_back.append(1))
    for held, times in (
        (70, 0),
        (100, 0),
        (90, 0),
        (GROWTH * 100, 0),
        (111, 1),
        (104, 1),
        (114, 1),
        (115, 2),
        (120, 2),
        (131, 2),
        (133, 3),
    ):
        kept.settle(int(held))
        assert len(given_back) == times
