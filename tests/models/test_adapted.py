"""A model behind transformers' own code is the same model: what the native decoder computes, and back into a folder."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.adapted import Adapted, write_adapted
from models.checkpoint import save_checkpoint
from models.decoder import Decoder
from models.foreign import load_adapted
from models.generation import generate
from models.logprobs import divergence, sum_logps
from models.packing import Row, pack
from models.weights import load_folder_weights
from tests.tiny import pair_rows

VOCABULARY = 259
ROWS = pair_rows(4, vocabulary=VOCABULARY)
PROMPTS = [row.prompt for row in ROWS]
FLOAT, HALF = torch.float32, torch.bfloat16


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-2 of 2 blocks, weights alone."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("models") / "tiny-gpt2"
    sizes: dict[str, Any] = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
    ends: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.15}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        GPT2LMHeadModel(GPT2Config(**sizes, **ends)).save_pretrained(folder)
    return folder


@pytest.fixture(params=["llama", "gpt2"])
def folder(request: pytest.FixtureRequest, tiny_model_folder: Path, gpt2_folder: Path) -> Path:
    """A model that both paths compute."""
    return tiny_model_folder if request.param == "llama" else gpt2_folder


@pytest.fixture
def native(folder: Path) -> Decoder:
    return load_folder_weights(folder)


@pytest.fixture
def adapted(folder: Path) -> Adapted:
    return load_adapted(folder)


def another(adapted: Adapted) -> Adapted:
    """The same model after some training."""
    twin = adapted.hollow()
    twin.load_state_dict(
        {name: t + 0.02 * torch.randn_like(t) for name, t in adapted.state_dict().items()}, assign=True
    )
    return twin.requires_grad_(False)


def logps(decoder: Decoder, dtype: torch.dtype = FLOAT) -> torch.Tensor:
    with torch.no_grad():
        return sum_logps(decoder, pack(ROWS), dtype=dtype)


def test_log_probs_are_those_of_the_native_path(native: Decoder, adapted: Adapted) -> None:
    """Packed pairs with a common beginning, in float32; within a rounding in bfloat16."""
    torch.testing.assert_close(logps(adapted), logps(native), atol=1e-4, rtol=0)
    torch.testing.assert_close(logps(adapted, HALF), logps(native, HALF), atol=0.15, rtol=0)


@pytest.mark.parametrize("keep", [(0, 1), (1, 0), (1, 1)])
def test_the_residual_stream_is_that_of_the_native_path(
    keep: tuple[int, ...], native: Decoder, adapted: Adapted
) -> None:
    """After each block that is asked for, once and in their order, as the probe of a shallow model asks."""
    batch = pack(ROWS)
    found, expected = (
        decoder(batch.tokens_N, batch.positions_N, batch.attend, dtype=FLOAT, keep=keep)
        for decoder in (adapted, native)
    )
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_it_costs_what_the_native_path_costs(native: Decoder, adapted: Adapted) -> None:
    """Weights of body and head, and what attention hangs on: so a budget in FLOPs buys the same steps."""

    def costs(decoder: Decoder) -> tuple[int, ...]:
        a = decoder.architecture
        return a.body_weights, a.head_weights, a.depth, a.attention_width, a.kv_heads, a.head_width, a.context

    assert costs(adapted) == costs(native)
    assert sum(p.numel() for p in adapted.parameters()) == sum(p.numel() for p in native.parameters())


@pytest.mark.parametrize("seed", [None, 0])
def test_it_writes_what_the_native_path_writes(seed: int | None, native: Decoder, adapted: Adapted) -> None:
    """Greedily and sampled, with a cache of keys and values."""
    found, expected = (
        generate(decoder, PROMPTS, end=0, limit=12, dtype=FLOAT, seed=seed) for decoder in (adapted, native)
    )
    assert found == expected


def test_kl_is_that_of_the_native_path(native: Decoder, adapted: Adapted, tmp_path: Path) -> None:
    """Exact, over the whole vocabulary, from the untrained model."""
    trained = another(adapted)
    write_adapted(trained, tmp_path, FLOAT)
    found = divergence(trained, adapted, pack(ROWS), dtype=FLOAT)
    expected = divergence(load_folder_weights(tmp_path), native, pack(ROWS), dtype=FLOAT)
    assert found.kl_R.min() > 0.01
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)


def dpo_gradient(decoder: Decoder) -> torch.Tensor:
    """Of the embedding, for one DPO step from a reference that is the model itself."""
    reference_R = logps(decoder)
    decoder.requires_grad_(True)
    margin_B2 = (sum_logps(decoder, pack(ROWS), dtype=FLOAT) - reference_R).view(-1, 2)
    loss = -torch.nn.functional.logsigmoid(0.1 * (margin_B2[:, 0] - margin_B2[:, 1])).mean()
    weight = decoder.body.get_input_embeddings().weight if isinstance(decoder, Adapted) else decoder.embedding.weight
    loss.backward()
    assert weight.grad is not None
    return weight.grad


def test_the_gradient_of_dpo_is_that_of_the_native_path(native: Decoder, adapted: Adapted) -> None:
    """Down to the embedding, through all blocks and the tied head."""
    expected = dpo_gradient(native)
    torch.testing.assert_close(dpo_gradient(adapted), expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-4)


def test_every_weight_is_trained_through_autocast(adapted: Adapted) -> None:
    """Masters in float32 get gradients in float32 though matrices are multiplied in bfloat16."""
    adapted.requires_grad_(True)
    sum_logps(adapted, pack(ROWS), dtype=HALF).sum().backward()
    assert all(p.grad is not None and p.grad.dtype == FLOAT and p.grad.any() for p in adapted.parameters())


def test_a_frozen_copy_in_bfloat16_gives_the_same_numbers(adapted: Adapted) -> None:
    """As casting at each use; the original keeps its float32."""
    twin = adapted.in_dtype(HALF)
    assert torch.equal(logps(twin, HALF), logps(adapted, HALF))
    assert {p.dtype for p in adapted.parameters()} == {FLOAT}
    assert twin.head.dtype == HALF
    assert twin.device == adapted.device


def test_a_checkpoint_comes_back(adapted: Adapted, tmp_path: Path) -> None:
    """Through the hollow module, with no weight kept twice, and without touching the one it was made from."""
    from safetensors.torch import load_file

    trained, before = another(adapted), logps(adapted)
    save_checkpoint(trained, tmp_path / "checkpoint.safetensors")
    state = load_file(tmp_path / "checkpoint.safetensors")
    back = adapted.hollow()
    assert {p.device.type for p in back.parameters()} == {"meta"}
    back.load_state_dict(state, assign=True)
    assert torch.equal(logps(back), logps(trained))
    assert torch.equal(logps(adapted), before)
    assert sum(t.numel() for t in state.values()) == sum(p.numel() for p in adapted.parameters())


@pytest.mark.parametrize("dtype", [FLOAT, HALF])
def test_transformers_loads_what_is_written(dtype: torch.dtype, adapted: Adapted, tmp_path: Path) -> None:
    """A trained model, in its own dtype, with the same logits; nothing in config.json tells of us."""
    from transformers import AutoModelForCausalLM

    trained = another(adapted)
    write_adapted(trained, tmp_path, dtype)
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto", attn_implementation="eager").eval()
    row = ROWS[0]
    tokens = row.prompt + row.responses[0]
    with torch.no_grad():
        logits_TV = model(torch.tensor([tokens])).logits[0].float().log_softmax(-1)
    places = range(len(row.prompt) - 1, len(tokens) - 1)
    expected = sum(logits_TV[place, tokens[place + 1]] for place in places)
    torch.testing.assert_close(logps(trained)[0], expected, atol=1e-4 if dtype == FLOAT else 0.5, rtol=0)
    assert model.dtype == dtype
    assert "prefbench" not in json.dumps(json.loads((tmp_path / "config.json").read_text()))


def test_hooks_are_gone_after_a_pass(adapted: Adapted) -> None:
    """Also where attention fails in the middle."""
    batch = pack(ROWS)

    def broken(*given: object) -> torch.Tensor:
        raise RuntimeError("no attention")

    adapted(batch.tokens_N, batch.positions_N, batch.attend, dtype=FLOAT, keep=(0, 1))
    with pytest.raises(RuntimeError, match="no attention"):
        adapted(batch.tokens_N, batch.positions_N, broken, dtype=FLOAT, keep=(0, 1))
    assert not any(module._forward_hooks for module in adapted.modules())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_its_speed_beside_the_native_path(tmp_path: Path) -> None:
    """Random weights in the shape of SmolLM2-135M: no slower than half the native path; prints both."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes: dict[str, Any] = {"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "head_dim": 64}
    sizes |= {"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True}
    LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(tmp_path)
    paths: dict[str, Decoder] = {"native": load_folder_weights(tmp_path), "transformers": load_adapted(tmp_path)}
    draw = random.Random(0)
    start = tuple(draw.randrange(49152) for _ in range(30))
    rows = [
        Row(prompt=start + some(draw, 40), responses=(some(draw, 50), some(draw, 50)))  # as the book's data has it
        for _ in range(6)
    ]
    for dtype in (FLOAT, HALF):
        for work in (train_on, answer):
            taken = {name: min(seconds(work, d, rows, dtype) for _ in range(3)) for name, d in paths.items()}
            speeds = ", ".join(f"{name} {len(rows) / s:.2f} rows/s" for name, s in taken.items())
            print(f"{work.__name__} in {dtype}: {speeds}, {taken['transformers'] / taken['native']:.2f} times as long")
            assert taken["transformers"] < 2 * taken["native"]


def some(draw: random.Random, count: int) -> tuple[int, ...]:
    return tuple(draw.randrange(49152) for _ in range(count))


def seconds(
    work: Callable[[Decoder, list[Row], torch.dtype], None], decoder: Decoder, rows: list[Row], dtype: torch.dtype
) -> float:
    started = time.perf_counter()
    work(decoder, rows, dtype)
    return time.perf_counter() - started


def train_on(decoder: Decoder, rows: list[Row], dtype: torch.dtype) -> None:
    decoder.requires_grad_(True)
    sum_logps(decoder, pack(rows), dtype=dtype).sum().backward()
    decoder.requires_grad_(False).zero_grad(set_to_none=True)


def answer(decoder: Decoder, rows: list[Row], dtype: torch.dtype) -> None:
    frozen = decoder if dtype == FLOAT else decoder.in_dtype(dtype)
    generate(frozen, [row.prompt for row in rows], end=0, limit=16, dtype=dtype)
