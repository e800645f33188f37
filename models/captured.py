"""A step over tensors that stay where they are, recorded once as a CUDA graph and played back after that.

A model that decodes starts hundreds of small kernels a token; played back, they cost the processor one call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from models.failure import one_line
from models.room import is_out_of_memory, warn

Step = Callable[[], None]
Record = Callable[[Step], Step]  # a step → what does the same, over and over


class Captured:
    """Steps recorded where that works; else called, which is told once."""

    def __init__(self, record: Record, tell: Callable[[str], None] = warn) -> None:
        self.record, self.tell = record, tell
        self.failed = False

    def of(self, step: Step) -> Step:
        """What does the step's work when called. Recording may have done it once or more, or not at all.

        So a step has to be one that may be repeated: it reads and writes the same tensors' contents as often as it
        is called, and advances nothing.
        """
        if self.failed:
            return step
        try:
            return self.record(step)
        except Exception as error:  # whatever drivers and strangers' models raise
            if is_out_of_memory(error):
                raise
            self.failed = True
            self.tell(
                f"decoding is not recorded as a CUDA graph in this process ({one_line(error)}): kernels "
                "are started one by one instead, which is slower and writes the same"
            )
        return step


def record_graph(step: Step) -> Step:
    """A CUDA graph of the step, after a call that does what must not be done while recording, such as loading."""
    beside, here = _stream(), torch.cuda.current_stream()
    beside.wait_stream(here)
    with torch.cuda.stream(beside):
        step()
    here.wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(here), torch.cuda.graph(graph, stream=beside):  # torch does not come back where that fails
        step()
    return graph.replay


@functools.cache
def _stream() -> torch.cuda.Stream:
    """The one that all are recorded on: libraries keep memory for each stream that they ever saw."""
    return torch.cuda.Stream()


@functools.cache
def of_this_process() -> Captured:
    """The one that all batches share."""
    return Captured(record_graph)
