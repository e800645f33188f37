"""What this machine is said to be does not hang on the moment it is asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from harness.training import machine

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    machine.choose_dtype.cache_clear()
    yield
    machine.choose_dtype.cache_clear()


def test_one_process_has_one_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two benches of one process would differ if a disturbed timing could tip the second."""
    monkeypatch.setattr(machine, "_multiplication_seconds", lambda *dtypes: [3.0, 1.0])
    first = machine.choose_dtype(CPU)
    monkeypatch.setattr(machine, "_multiplication_seconds", lambda *dtypes: [1.0, 3.0])
    assert machine.choose_dtype(CPU) == first == torch.bfloat16


@pytest.mark.parametrize(("gain", "dtype"), [(3.0, torch.bfloat16), (1.2, torch.float32), (0.2, torch.float32)])
def test_bfloat16_has_to_be_clearly_faster(monkeypatch: pytest.MonkeyPatch, gain: float, dtype: torch.dtype) -> None:
    """Emulated it is slower, and for a little gain its rounding is not worth having."""
    monkeypatch.setattr(machine, "_multiplication_seconds", lambda *dtypes: [gain, 1.0])
    assert machine.choose_dtype(CPU) == dtype


def test_a_disturbance_in_one_round_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least of several rounds is what the machine can do."""
    taken = iter([9.0, 3.0, 1.0, 3.0] + 2 * machine.ROUNDS * [5.0])
    monkeypatch.setattr(machine, "seconds_of", lambda work: next(taken))
    assert machine._multiplication_seconds(torch.float32, torch.bfloat16) == [1.0, 3.0]


def test_a_gpu_is_waited_for_before_the_clock_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was only told what to compute when the call returns."""
    waited: list[bool] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(True))
    machine.seconds_of(lambda: None)
    assert not waited
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    machine.seconds_of(lambda: None)
    assert waited
