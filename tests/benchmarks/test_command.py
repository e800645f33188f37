"""`python -m benchmarks` refuses what it cannot do in one line, before anything is read."""

from __future__ import annotations

import sys

import pytest
import torch

from benchmarks.__main__ import PARTS, default_parts, parse


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["whole_bnech"], "no part 'whole_bnech': did you mean 'whole_bench'?"),
        (["--rounds", "0"], "--rounds 0: a median takes 1 or more"),
        (["--steps", "0"], "--steps 0: a median takes 1 or more"),
        (["--pairs", "1"], "--pairs 1: the anchor and what follows take 1 each, so 2 or more"),
        (["--prompts", "1"], "--prompts 1: a bench answers 2 or more"),
        (["gpu"], "gpu: PyTorch finds no CUDA device on this machine: run this part where `nvidia-smi` lists one"),
    ],
)
def test_what_cannot_be_is_one_line(
    given: list[str], line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", *given])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="2"):
        parse()
    assert capsys.readouterr().err.splitlines()[-1] == f"python -m benchmarks: error: {line}"


def test_every_part_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trl")
    monkeypatch.setattr(sys, "argv", ["benchmarks", *PARTS])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert parse().parts == default_parts() == list(PARTS)


def test_without_a_gpu_its_part_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert default_parts() == [name for name in PARTS if name != "gpu"]
