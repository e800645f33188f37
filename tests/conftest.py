"""The two models that tests share: a tiny random one in Hugging Face layout, and the embedded real one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from harness.cache import cache_root
from models import kernels
from models.decoder import Decoder
from models.sources import find_model
from models.tokens import Tokens, printable_bytes

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for the Hub


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests of a GPU say so where there is none."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where there is no C compiler, or on a GPU."""
    monkeypatch.setattr(kernels, "built", lambda: kernels.Built(None, "not here"))


@pytest.fixture(params=["kernels", "torch"])
def with_and_without_kernels(request: pytest.FixtureRequest) -> None:
    """A test runs twice: with what a C compiler made, and as where there is none."""
    if request.param == "torch":
        request.getfixturevalue("without_kernels")
    elif kernels.built().library is None:
        pytest.skip(kernels.built().said)


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test runs with so many of torch's."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


SPECIAL = {"<|endoftext|>": 256, "<|im_start|>": 257, "<|im_end|>": 258}
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 2 blocks whose tokens are single bytes and three special ones; `find_model` loads it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    config = LlamaConfig(
        vocab_size=256 + len(SPECIAL),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=0.15,  # large enough for its predictions to be far from uniform
        eos_token_id=SPECIAL["<|im_end|>"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    write_byte_tokenizer(folder)
    return folder


def write_byte_tokenizer(folder: Path) -> None:
    """A tokenizer.json of 256 single bytes and the special tokens, without merges, cut in SmolLM's way."""
    vocabulary = {char: byte for byte, char in printable_bytes().items()} | SPECIAL
    added = [
        {
            "id": number,
            "content": name,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for name, number in SPECIAL.items()
    ]
    digits = {"type": "Digits", "individual_digits": True}
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    description = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, bytes_]},
        "post_processor": None,
        "decoder": bytes_,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }
    (folder / "tokenizer.json").write_text(json.dumps(description), encoding="utf-8")
    settings = {"eos_token": "<|im_end|>", "chat_template": CHAT_TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


@pytest.fixture(scope="session")
def tiny_model(tiny_model_folder: Path) -> tuple[Decoder, Tokens]:
    """The tiny model, loaded: decoder (float32, frozen; copy it before training) and tokens."""
    return find_model(str(tiny_model_folder), tiny_model_folder).load()


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """The embedded model's GGUF file, fetched into the cache where it is not there yet."""
    return find_model("smollm2-135m", cache_root()).path


@pytest.fixture(scope="session")
def smollm2(smollm2_path: Path) -> tuple[Decoder, Tokens]:
    """The embedded model: decoder (float32, frozen; copy it before training) and tokens."""
    return find_model("smollm2-135m", cache_root()).load()
