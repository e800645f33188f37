"""The GPU's benchmark, tried on the processor with tiny shapes: what it counts, not how fast anything is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import device_peaks, gpu
from benchmarks.device_peaks import Peaks, peaks_of
from benchmarks.gpu import Sizes, bytes_read, compare
from benchmarks.gpu_shapes import drawn_pairs
from benchmarks.profiles import Profile, random_weights
from models.decoder import Decoder
from tests.tiny import GPT2, LLAMA

CPU = torch.device("cpu")
SIZES = Sizes(
    models={"llama": replace(LLAMA, vocabulary=49152), "gpt2": replace(GPT2, vocabulary=49152)},
    profile=Profile(prompt=8, response=6),
    pairs=4,
    micro_tokens=40,
    their_micro_pairs=2,
    answers=3,
    prompt_tokens=5,
    new_tokens=4,
)


def test_both_models_have_the_weights_that_their_names_say() -> None:
    """124 million, and 1.24 billion, without building them."""
    counts = {}
    for name, architecture in Sizes().models.items():
        with torch.device("meta"):
            counts[name] = sum(p.numel() for p in Decoder(architecture).parameters())
    assert counts["gpt2-124m"] == 124_439_808
    assert counts["llama-1b"] == 1_235_814_400


@pytest.mark.parametrize("name", [pytest.param("llama", marks=pytest.mark.slow), "gpt2"])
def test_a_part_tells_pairs_tokens_and_shares_beside_trl(
    name: str, monkeypatch: pytest.MonkeyPatch, smollm2_path: Path
) -> None:
    """On the same pairs, with the same loss: a difference would end it."""
    pytest.importorskip("trl")
    monkeypatch.setattr(gpu, "peaks_of", lambda device, dtype: Peaks("mine", 1e12, 1e12, "made up"))
    said: list[str] = []
    found = compare(1, "float32", said.append, replace(SIZES, models={name: SIZES.models[name]}), CPU)
    dpo, decoding = found[name]["dpo"], found[name]["decoding"]
    assert min(dpo.values()) > 0
    assert dpo["speedup"] == pytest.approx(dpo["ours_pairs_per_second"] / dpo["trl_pairs_per_second"])
    assert decoding["tokens_per_second"] > 0
    assert 0 < decoding["share_of_bandwidth"] < 1
    assert any(line.startswith("DPO: ") for line in said)


def test_what_decoding_reads_is_weights_and_cache_once_a_step() -> None:
    """By hand: 3 steps after the first token, 3 rows whose caches hold 6, 7 and 8 tokens."""
    weights = LLAMA.body_weights + LLAMA.head_weights
    cache = (6 + 7 + 8) * 3 * 2 * LLAMA.depth * LLAMA.kv_heads * LLAMA.head_width
    assert bytes_read(LLAMA, SIZES, torch.bfloat16) == 2 * (3 * weights + cache)


def test_pairs_and_weights_are_drawn_alike_each_time() -> None:
    assert drawn_pairs(SIZES.profile, 41, 9) == drawn_pairs(SIZES.profile, 41, 9)
    first, second = (random_weights(LLAMA).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_listed_gpu_has_its_data_sheets_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    assert peaks_of(torch.device("cuda"), torch.bfloat16)[1:3] == (989e12, 3350e9)


def test_another_device_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two FLOPs an entry and step of the sum; a copy reads and writes."""
    monkeypatch.setattr(device_peaks, "seconds_of", lambda work: 0.5)
    assert peaks_of(CPU, torch.float32, side=10, numbers=100) == ("cpu", 4000, 800, "measured here")
