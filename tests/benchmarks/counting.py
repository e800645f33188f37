"""A side that counts its steps: what `benchmarks.sides` starts in a process of its own."""

from __future__ import annotations

import json
import os
import sys

from benchmarks.sides import KEPT, Turns

if __name__ == "__main__":
    turns, start = Turns(), json.loads(sys.argv[1])["start"]
    print("a library's chatter")
    turns.wait()
    while True:
        start += 1
        turns.tell(loss=start, environment={name: os.environ.get(name) for name in KEPT})
        turns.wait()
