"""What a GPU decodes by is tried on the processor: the same tokens as without it, called and played back.

`Tape` is what a CUDA graph is: the kernels of one call on the tensors of that call, run again. Whatever Python decided
in the meantime is not in it, and a kernel that the processor would wait for cannot be.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from models import decoding, generation
from models.architecture import Architecture
from models.captured import Captured, Step
from models.decoder import Decoder
from models.generation import Generated, generate
from tests.models.test_generation import NEVER, PROMPTS
from tests.tiny import GPT2, LLAMA, decoder_of

pytestmark = pytest.mark.usefixtures("without_kernels")  # no tape sees them, and a GPU has none
WAITED_FOR = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::repeat_interleave.Tensor"}
MANY = [(i, j) for i in range(1, 7) for j in range(1, 5)]


class Tape(TorchDispatchMode):
    """Keeps every kernel that is run while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, kernel: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if kernel.name() in WAITED_FOR:
            raise RuntimeError(f"operation not permitted when stream is capturing: {kernel.name()}")
        out = kernel(*args, **(kwargs or {}))
        self.kernels.append((kernel, args, kwargs or {}, out))
        return out

    @torch.no_grad()
    def play(self) -> None:
        """Run them again on the same memory."""
        for kernel, args, kwargs, out in self.kernels:
            found = kernel(*args, **kwargs)
            for old, new in zip(tensors(out), tensors(found), strict=True):
                if old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                    old.copy_(new)


def tensors(out: Any) -> list[Tensor]:
    every: Sequence[Any] = out if isinstance(out, tuple | list) else [out]
    return [x for x in every if isinstance(x, Tensor)]


class Taped:
    """Records as a GPU does: a call to warm up, one that is kept."""

    def __init__(self) -> None:
        self.tapes: list[Tape] = []

    def __call__(self, step: Step) -> Step:
        step()
        with Tape() as tape:
            step()
        self.tapes.append(tape)
        return tape.play


def called(step: Step) -> Step:
    return step


def written_by(steps: Captured, decoder: Decoder, prompts: list[tuple[int, ...]], **asked: int) -> list[Generated]:
    """`generate`, made to think that the decoder is on a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        rows = generation._Rows
        patch.setattr(rows, "run", lambda self, end, draws: rows.run_captured(self, end, draws, steps))
        return written(decoder, prompts, **asked)


def written(decoder: Decoder, prompts: list[tuple[int, ...]], **asked: int) -> list[Generated]:
    settings = {"end": 0, "limit": 40} | asked
    return generate(decoder, prompts, dtype=torch.float32, **settings)  # type: ignore[arg-type]  # all are ints


@pytest.mark.parametrize("record", [called, Taped()], ids=["called", "played back"])
@pytest.mark.parametrize("asked", [{}, {"seed": 1}, {"seed": 2, "end": NEVER}, {"batch": 2}], ids=str)
@pytest.mark.parametrize("architecture", [LLAMA, GPT2], ids=lambda a: a.family)
def test_tokens_are_those_of_the_processors_way(
    architecture: Architecture, asked: dict[str, int], record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greedy and sampled, over windows that grow and rows that are dropped."""
    monkeypatch.setattr(decoding, "WINDOW", 16)
    monkeypatch.setattr(decoding, "LOOK", 3)
    told: list[str] = []
    decoder = decoder_of(architecture, scale=0.2)
    for prompts in (PROMPTS, MANY):
        found = written_by(Captured(record, told.append), decoder, prompts, **asked)
        assert found == written(decoder, prompts, **asked)
    assert not told


def test_a_graph_is_recorded_for_each_window_and_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for each token: 39 steps after 2 tokens, in windows of 16, no row ending."""
    monkeypatch.setattr(decoding, "WINDOW", 16)
    taped = Taped()
    written_by(Captured(taped), decoder_of(scale=0.2), MANY, end=NEVER)
    assert len(taped.tapes) == 3


def test_finished_rows_are_dropped() -> None:
    """Later graphs have fewer rows, or what is written would be computed to the end for all."""
    taped = Taped()
    answers = written_by(Captured(taped), decoder_of(scale=0.2), MANY, seed=1, limit=60)
    assert len({len(g.tokens) for g in answers}) > 5, "rows of this test have to end at different times"
    rows = [
        len(next(args[1] for kernel, args, *_ in t.kernels if kernel.name() == "aten::embedding")) for t in taped.tapes
    ]
    assert rows[0] == len(MANY)
    assert all(later <= earlier / 2 for earlier, later in itertools.pairwise(rows))


def test_what_is_played_back_reads_what_lies_in_the_tensors_now() -> None:
    """The double itself: a number that Python had is kept as it was, a tensor's is not."""
    x, y, number = torch.zeros(1), torch.zeros(1), 1.0

    def step() -> None:
        y.copy_(x * 2 + number)

    play = Taped()(step)
    x += 3
    number = 5.0
    play()
    assert y.item() == 7.0


def test_a_step_that_cannot_be_recorded_is_called_with_one_line() -> None:
    """Whatever else is decoded in the process."""
    told: list[str] = []

    def record(step: Step) -> Step:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    decoder, steps = decoder_of(scale=0.2), Captured(record, told.append)
    for _ in range(2):
        assert written_by(steps, decoder, MANY, seed=1) == written(decoder, MANY, seed=1)
    assert len(told) == 1
    assert "not permitted when stream is capturing and more)" in told[0]


def test_memory_that_runs_out_while_recording_is_the_callers() -> None:
    """Who halves the batch and comes again, recording."""

    def record(step: Step) -> Step:
        raise torch.OutOfMemoryError("CUDA out of memory")

    steps = Captured(record)
    with pytest.raises(torch.OutOfMemoryError):
        written_by(steps, decoder_of(), PROMPTS)
    assert not steps.failed
