"""Two processes that take turns of a few steps, so that what disturbs one disturbs the other.

A side is a module that is run with one JSON argument: it builds what it needs, says that it is ready, and takes one
step whenever it is told to. Its memory is what its process holds while it steps. After a `turn` it gives back what it
has freed, so that both need not fit into the machine at once. The first step of a turn does not count: memory is taken
anew, and a process that waited has lost its caches.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import psutil

from harness.training.memory import give_back

EVERY_SECONDS = 0.02
IN_A_TURN = 3  # steps that count
# What `kept_memory` does for us, said to another process's glibc: TRL does not do it by itself.
KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
Told = dict[str, Any]


class Telling(Protocol):
    """What a side's steps are told to, whoever is at the other end."""

    def wait(self) -> None: ...

    def tell(self, **told: Any) -> None: ...


class Turns:
    """A side's own end: waits for its turn, and tells what came of it. Whatever else it prints goes to stderr."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._began = 0.0

    def wait(self) -> None:
        """Until the next step is wanted; ends the process where none is."""
        self._say({})
        while (wanted := sys.stdin.readline().strip()) == "rest":
            gc.collect()
            give_back()
            self._say({})
        if wanted != "step":
            self._answers.close()
            os._exit(0)
        self._began = time.perf_counter()

    def tell(self, **told: Any) -> None:
        """What the step took, and what came of it."""
        self._say({"seconds": time.perf_counter() - self._began, **told})

    def _say(self, told: Told) -> None:
        print(json.dumps(told), file=self._answers, flush=True)


class Side:
    """The other end: one process that steps when told to."""

    def __init__(self, module: str, wish: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> None:
        self.module, self._wish = module, json.dumps(wish)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, self._wish],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.peak_bytes, self._over = 0, threading.Event()
        self._read()  # it is ready
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()

    def turn(self, steps: int) -> list[Told]:
        """So many steps of this side alone, which then rests."""
        told = [self.step() for _ in range(steps)]
        self._want("rest")
        self._read()
        return told

    def step(self) -> Told:
        """One step."""
        self._want("step")
        told = self._read()
        self._read()  # it is ready again
        return told

    def _want(self, what: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()

    def end(self) -> None:
        self._over.set()
        self._sampler.join()
        self._process.communicate("end\n")

    def _read(self) -> Told:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"benchmark: python -m {self.module} {self._wish!r} ended early: run it alone to see why")
        told: Told = json.loads(line)
        return told

    def _sample(self) -> None:
        process = psutil.Process(self._process.pid)
        while True:
            self.peak_bytes = max(self.peak_bytes, process.memory_info().rss)
            if self._over.wait(EVERY_SECONDS):
                return


class Paired(NamedTuple):
    """What two sides took for the same steps, those that do not count left out."""

    first: tuple[Told, Told]  # of both sides, whether it counts or not
    ours: list[Told]
    theirs: list[Told]
    ours_bytes: int
    theirs_bytes: int

    @property
    def speedup(self) -> float:
        """The median over steps of their time by ours."""
        ratios = [t["seconds"] / o["seconds"] for o, t in zip(self.ours, self.theirs, strict=True)]
        return float(statistics.median(ratios))


def turns_of(steps: int) -> list[int]:
    """How many steps each turn takes, the one that does not count included."""
    return [1 + min(IN_A_TURN, steps - start) for start in range(0, steps, IN_A_TURN)]


def take_turns(ours: Side, theirs: Side, *, steps: int) -> Paired:
    """Let both take `turns_of(steps)` in turn."""
    turns = [(ours.turn(taken), theirs.turn(taken)) for taken in turns_of(steps)]
    ours.end()
    theirs.end()
    return Paired(
        first=(turns[0][0][0], turns[0][1][0]),
        ours=[told for mine, _ in turns for told in mine[1:]],
        theirs=[told for _, other in turns for told in other[1:]],
        ours_bytes=ours.peak_bytes,
        theirs_bytes=theirs.peak_bytes,
    )


def median(told: Sequence[Told], key: str = "seconds") -> float:
    return float(statistics.median(one[key] for one in told))
