"""A bench goes on with the contents that it was resolved with, or says what to do."""

from __future__ import annotations

import re

import pytest

from harness.errors import HarnessError
from harness.resolution import refuse_other_contents
from harness.settings import Asked, BenchFile, Resolved

COMMIT = "0123456789abcdef0123456789abcdef01234567"
RESOLVED = Resolved(
    recipes=("sft",),
    model_digest="a" * 64,
    data_digest="b" * 64,
    judges=(),
    budget_pairs=8,
    flops_per_byte=8.0,
    dtype="float32",
    threads=1,
    micro_batch_tokens=2048,
)


@pytest.mark.parametrize(
    ("model", "advice"),
    [
        ("hf:org/name", "it moved on the Hub since: ask for hf:org/name@COMMIT, by the commit that record.json has"),
        ("transformers:hf:org/name@main", "ask for hf:org/name@COMMIT"),
        ("gpt2", "ask for hf:openai-community/gpt2@COMMIT"),
        (f"hf:org/name@{COMMIT}", "bring that one, or start another bench with --out"),
        ("models/tiny", "bring that one, or start another bench with --out"),
    ],
)
def test_a_model_that_moved_on_the_hub_is_to_be_pinned(model: str, advice: str) -> None:
    """A folder, or a commit, did not move by itself."""
    bench = BenchFile(asked=Asked(model=model), resolved=RESOLVED)
    with pytest.raises(HarnessError, match=rf"model '{model}' is not what .*: .*{re.escape(advice)}"):
        refuse_other_contents(bench, {"model": "c" * 64})
