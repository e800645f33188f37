"""Memory: how much a run may take, how much it holds, and the most that a stage held at once."""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import psutil
import torch

from harness.errors import HarnessError

EVERY_SECONDS = 0.02
AUTO = "auto"
SPARED = 0.1  # of what the machine has left, for what else goes on there
_UNITS = {"mb": 1e6, "gb": 1e9, "mib": 2**20, "gib": 2**30}
_EXAMPLES = "write 6GB, 1.5GiB, 800MB, or auto for what this machine has left"
_CGROUPS = Path("/sys/fs/cgroup")
_CLEAR_REFS, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
GROWTH = 1.1  # of the most that a step needed: what is held beyond it is holes, and goes back
SETTLING = 2  # steps until what a stage needs is there: AdamW makes its moments at the end of the first
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # mallopt(3)


def parse_memory(text: str) -> int | None:
    """`6GB`, `1.5GiB`, `800MB` in bytes; None for `auto`; HarnessError for anything else."""
    if text.strip().lower() == AUTO:
        return None
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]+)\s*", text, re.IGNORECASE)
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise HarnessError(f"memory {text!r} cannot be read: {_EXAMPLES}")
    amount = float(match[1]) * unit
    if not 1 <= amount < 2**63:
        raise HarnessError(f"memory {text!r} is no amount that a machine has: {_EXAMPLES}")
    return round(amount)


def held_bytes(device: torch.device) -> int:
    """What this process holds on the device."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    held: int = psutil.Process().memory_info().rss
    return held


def memory_limit(asked: str, device: torch.device) -> int:
    """What this process may hold on the device, in bytes: as asked, or what it holds and most of what is left."""
    given = parse_memory(asked)
    return held_bytes(device) + round((1 - SPARED) * available_bytes(device)) if given is None else given


def available_bytes(device: torch.device) -> int:
    """What the device has left; on the processor no more than the process's control groups leave it."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    left: int = psutil.virtual_memory().available
    return min([left, *_left_in_groups(_CGROUPS, Path("/proc/self/cgroup"))])


def _left_in_groups(root: Path, own: Path) -> Iterator[int]:
    """What each control group of this process that has a limit leaves of it; files that are not there say nothing."""
    for folder in _groups(root, own):
        for limit, usage, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            try:
                most, used = (int((folder / name).read_text()) for name in (limit, usage))  # "max" is no limit
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                yield max(0, most - used + int(stat.get(cache, 0)))  # the cache of files is given up when needed
            except (OSError, ValueError):
                continue


def _groups(root: Path, own: Path) -> Iterator[Path]:
    """The folders of the process's control group and of those around it, of versions 2 and 1."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "memory" if controllers else root
        folder = top / path.strip("/")
        yield from (place for place in (folder, *folder.parents) if place == top or top in place.parents)


class PeakMemory:
    """While entered, watches the memory in use; `peak_bytes` is the most of it, once left.

    On the processor that is the process's resident set, as Linux counts it (one watch at a time: it counts anew for
    all of the process), elsewhere sampled, by a thread that costs training 1 to 2% of its time (docs/log.md,
    2026-11-27); on an accelerator, what was allocated there.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.peak_bytes = device, 0
        self._over = threading.Event()
        self._sampler: threading.Thread | None = None

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        elif not _count_peak_anew():
            self._sampler = threading.Thread(target=self._sample, daemon=True)
            self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.device.type == "cuda":
            self.peak_bytes = torch.cuda.max_memory_allocated(self.device)
        elif self._sampler is None:
            self.peak_bytes = _peak_resident()
        else:
            self._over.set()
            self._sampler.join()

    def _sample(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, held_bytes(self.device))
            if self._over.wait(EVERY_SECONDS):
                return


def _count_peak_anew() -> bool:
    """Let Linux count the peak of this process's resident set from now on (proc(5)); False where it does not."""
    try:
        _CLEAR_REFS.write_text("5")
        return _peak_resident() > 0
    except (OSError, StopIteration):
        return False


def _peak_resident() -> int:
    lines = _STATUS.read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


class KeptMemory:
    """Memory that stays with the process, within bounds."""

    def __init__(self, give_back: Callable[[], object]) -> None:
        self._give_back = give_back
        self._needed = 0  # the most that was held after a step that settled
        self._settling = SETTLING  # steps still to come whose memory counts as needed

    def settle(self, held: int) -> None:
        """After each step, which left the process with `held` bytes: give back what is free where they have grown.

        glibc before 2.38 does not take an aligned block from a hole of just its size, so holes grow in number: 36 MB a
        step were seen (docs/log.md, 2026-11-26).
        """
        if self._settling:
            self._needed, self._settling = max(self._needed, held), self._settling - 1
        elif held > GROWTH * self._needed:
            self._give_back()
            self._settling = 1  # it begins without holes


@contextmanager
def kept_memory() -> Iterator[KeptMemory]:
    """Within, what is freed stays with the process and is used again; it is given back at the end.

    Each step frees and takes the same gigabytes, and the first touch of a page costs far more than its use: up to
    2.5 ns a byte were seen (docs/log.md, 2026-11-26). Only glibc can be asked; elsewhere nothing changes.
    """
    heap = _glibc()
    if heap is not None:
        heap.mallopt(_MMAP_MAX, 0)
        heap.mallopt(_TRIM_THRESHOLD, -1)
    try:
        yield KeptMemory(give_back)
    finally:
        if heap is not None:  # what glibc settles on by itself once large blocks were freed
            heap.mallopt(_MMAP_MAX, 65536)
            heap.mallopt(_MMAP_THRESHOLD, 2**25)
            heap.mallopt(_TRIM_THRESHOLD, 2**26)
        give_back()


def give_back() -> None:
    """Free memory goes back to the system, where that can be asked for."""
    heap = _glibc()
    if heap is not None:
        heap.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
    except TypeError:  # Windows has no such library
        return None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
