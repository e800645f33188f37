"""What is sent to a GPU waits in pinned memory; on a processor nothing is done at all."""

from __future__ import annotations

import torch

from models.packing import pack
from models.transfer import send
from tests.tiny import pair_rows

CPU, GPU = torch.device("cpu"), torch.device("cuda")


class Made:
    """A tensor as far as sending goes."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.done = device, list[str]()

    def pin_memory(self) -> Made:
        self.done.append("pinned")
        return self

    def to(self, device: torch.device, *, non_blocking: bool) -> Made:
        self.done.append(f"to {device.type}{' without waiting' if non_blocking else ''}")
        return self


def test_on_a_processor_it_is_the_same_tensor() -> None:
    x = torch.arange(3)
    assert send(x, CPU) is x


def test_to_a_gpu_it_goes_pinned_and_nobody_waits() -> None:
    x = Made(CPU)
    send(x, GPU)  # type: ignore[arg-type]  # a double
    assert x.done == ["pinned", "to cuda without waiting"]


def test_what_is_on_a_gpu_already_is_not_pinned() -> None:
    x = Made(GPU)
    send(x, GPU)  # type: ignore[arg-type]  # a double
    assert "pinned" not in x.done


def test_a_batch_is_sent_with_all_that_it_has() -> None:
    """On the meta device, which has shapes and no numbers."""
    batch = pack(pair_rows(3)).to(torch.device("meta"))
    assert {x.device.type for x in vars(batch).values() if isinstance(x, torch.Tensor)} == {"meta"}
