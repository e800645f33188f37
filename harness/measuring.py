"""Which code measured: what other code measured is set aside, not mixed with what this code measures."""

from __future__ import annotations

import functools
from importlib.resources import files
from pathlib import Path

from harness import store

# What is done with scores, in evals: it measures nothing.
AFTERWARDS = {
    *("comparison.py", "conclusions.py", "correction.py", "drop.py", "gate.py", "joining.py", "joint.py"),
    *("length_control.py", "likeness.py", "paths.py", "pooling.py", "ranking.py", "seeds.py"),
}
# And what measures, in harness.
MEASURING = ("bench.py", "ground.py", "judging.py", "tokenised.py", "way.py")


@functools.cache
def measuring_digest() -> str:
    """Of the code that measures, and of what it stands on: scores made by other code are not these."""
    packages = [Path(str(files(name))) for name in ("evals", "models", "harness.data")]
    read = [file for folder in packages for file in store.code_in(folder) if file.name not in AFTERWARDS]
    own = [Path(__file__).parent / name for name in MEASURING]
    return store.digest([(file.name, store.file_digest(file)) for file in (*read, *own)])
