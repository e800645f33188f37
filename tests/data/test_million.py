"""A million rows are inspected and split in less than a gigabyte of memory."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

ROWS = 1_000_000
MEASURE = """
import json, resource, sys, time
from harness.data.rows import load_pairs
from harness.data.splits import split_pairs
from harness.data.inspection import inspect
from harness.data.reading import read_source
from harness.data.sources import find_source
from pathlib import Path
began = time.perf_counter()
source, cache = sys.argv[1], Path(sys.argv[2])
found = inspect(read_source(find_source(source, cache), (), cache))
inspected = time.perf_counter()
splits = split_pairs(load_pairs(source, cache=cache))
first = [part[0].question for part in (splits.train, splits.judge, splits.test)]
print(json.dumps({
    "pairs": found.pairs, "splits": [len(splits.train), len(splits.judge), len(splits.test)], "first": first,
    "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    "inspecting": inspected - began, "splitting": time.perf_counter() - inspected,
    "torch": "torch" in sys.modules,
}))
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_million_rows_take_less_than_a_gigabyte(tmp_path: Path) -> None:
    """Peak memory of the whole process; 70% of it is not the file, which has 580 MB."""
    draw, words = random.Random(0), [f"w{n}" for n in range(5000)]
    path = tmp_path / "million.jsonl"
    with path.open("w") as file:
        for number in range(ROWS):
            text = draw.choices(words, k=90)
            row = {"prompt": f"{number}: {' '.join(text[:30])}", "chosen": " ".join(text[30:60])}
            file.write(json.dumps({**row, "rejected": " ".join(text[60:])}) + "\n")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    found = json.loads(done.stdout)
    print(found)
    assert (found["pairs"], sum(found["splits"]), len(set(found["first"]))) == (ROWS, ROWS, 3)
    assert found["megabytes"] < 1000
