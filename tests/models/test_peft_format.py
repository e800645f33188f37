"""PEFT loads our adapters and computes what we do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor

from models.decoder import Decoder
from models.failure import ModelError
from models.logprobs import sum_logps
from models.lora import parse_lora
from models.low_rank import adapters, own_weights, with_adapter
from models.packing import pack
from models.peft_format import WEIGHTS, write_peft
from models.weights import load_folder_weights
from tests.models.published import CONFIGS, VOCABULARY, saved, some_tokens, their_logits
from tests.tiny import decoder_of, logits_of, pair_rows

NAMES = ("llama", "gpt2", "qwen2", "qwen3", "mistral", "gemma")
TARGETS = {"llama": ("all-linear", "q+v", "o+gate"), "gpt2": ("all-linear", "qkv", "o+up")}


def learned(base: Decoder, spec: str = "lora:r=4:alpha=6") -> Decoder:
    """The base with an adapter that is not zero."""
    policy, draw = with_adapter(base, parse_lora(spec)), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in own_weights(policy).values():
            weight.copy_(torch.randn(weight.shape, generator=draw) * 0.1)
    return policy


@pytest.mark.parametrize("name", [name for name in CONFIGS if name in NAMES])
def test_peft_loads_an_adapter_and_computes_the_same(name: str, tmp_path: Path) -> None:
    """On transformers' own model: logits within 1e-4."""
    theirs, tokens = saved(name, tmp_path / "base"), some_tokens()
    policy = learned(load_folder_weights(tmp_path / "base"))
    write_peft(policy, tmp_path / "adapter", str(tmp_path / "base"))
    adapted: Any = peft.PeftModel.from_pretrained(theirs, str(tmp_path / "adapter"))
    found = their_logits(adapted, tokens)
    torch.testing.assert_close(found, logits_of(policy, tokens), atol=1e-4, rtol=0)
    with adapted.disable_adapter():
        assert (their_logits(adapted, tokens) - found).abs().max() > 0.01


@pytest.mark.parametrize(("name", "target"), [(name, t) for name, targets in TARGETS.items() for t in targets])
def test_peft_finds_every_target_and_no_other(name: str, target: str, tmp_path: Path) -> None:
    """Its modules by name are ours, and it computes the same."""
    theirs, tokens = saved(name, tmp_path / "base"), some_tokens()
    policy = learned(load_folder_weights(tmp_path / "base"), f"lora:r=2:target={target}")
    write_peft(policy, tmp_path / "adapter", "somebody/base")
    adapted: Any = peft.PeftModel.from_pretrained(theirs, str(tmp_path / "adapter"))
    there = [n for n, _ in adapted.named_modules() if n.endswith("lora_A.default")]
    assert len(there) == sum(len(adapter) for adapter in adapters(policy).values())
    torch.testing.assert_close(their_logits(adapted, tokens), logits_of(policy, tokens), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_gradients_are_those_of_peft(name: str, tmp_path: Path) -> None:
    """Of a loss over packed pairs, against PEFT on each response apart: every tensor within 1e-4 relative."""
    theirs = saved(name, tmp_path / "base")
    policy = learned(load_folder_weights(tmp_path / "base"))
    write_peft(policy, tmp_path / "adapter", str(tmp_path / "base"))
    adapted: Any = peft.PeftModel.from_pretrained(theirs, str(tmp_path / "adapter"), is_trainable=True)
    rows = pair_rows(3, vocabulary=VOCABULARY)
    for weight in own_weights(policy).values():
        weight.requires_grad_(True)
    loss_of(sum_logps(policy, pack(rows), dtype=torch.float32)).backward()
    loss_of(torch.stack([logp(adapted, row.prompt, y) for row in rows for y in row.responses])).backward()
    wanted = {n: p.grad for n, p in adapted.named_parameters() if p.requires_grad}
    mine = dict(zip(sorted(wanted), (p.grad for _, p in sorted(named(policy).items())), strict=True))
    for tensor, gradient in wanted.items():
        assert (mine[tensor] - gradient).norm() <= 1e-4 * gradient.norm(), tensor


def loss_of(logps_R: Tensor) -> Tensor:
    chosen_B, rejected_B = logps_R.view(-1, 2).unbind(1)
    return -torch.nn.functional.logsigmoid(0.1 * (chosen_B - rejected_B)).sum()


def logp(model: Any, prompt: tuple[int, ...], response: tuple[int, ...]) -> Tensor:
    logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    summed: Tensor = logits.gather(1, torch.tensor(response)[:, None]).sum()
    return summed


def named(policy: Decoder) -> dict[str, torch.nn.Parameter]:
    """Our weights by the names that they are saved under."""
    from models import peft_format

    return dict(peft_format._named(policy))


def test_the_file_holds_the_adapter_alone(tmp_path: Path) -> None:
    """As many numbers as it has, in float32, and nothing of the base."""
    policy = learned(decoder_of())
    write_peft(policy, tmp_path, "base")
    numbers = sum(weight.numel() for weight in own_weights(policy).values())
    assert 4 * numbers < (tmp_path / WEIGHTS).stat().st_size < 4 * numbers + 10_000


def test_a_policy_without_an_adapter_has_none_to_write(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no adapter"):
        write_peft(decoder_of(), tmp_path / "adapter", "base")
    assert not (tmp_path / "adapter").exists()
