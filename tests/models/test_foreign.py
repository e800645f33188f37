"""A model that our decoder does not compute runs through transformers to the same numbers, or is refused."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.adapted import Adapted, write_adapted
from models.failure import ModelError
from models.foreign import load_adapted
from models.generation import generate
from models.logprobs import token_logps
from models.packing import pack
from tests.tiny import pair_rows

VOCABULARY = 97
ROWS = pair_rows(4, vocabulary=VOCABULARY, seed=3)
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.15,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LATENT: dict[str, Any] = {  # DeepSeek's attention: keys wider than values
    **{"kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8},
    **{"num_key_value_heads": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "n_routed_experts": 4},
    **{"num_experts_per_tok": 2, "moe_intermediate_size": 16},
}
KNOWN: dict[str, dict[str, Any]] = {
    "Olmo2": {},
    "Phi": {},  # a bias in the head
    "Phi3": {},
    "StableLm": {},
    "GPTNeoX": {},
    "Cohere": {},  # multiplies its logits
    "Granite": {"logits_scaling": 3.0, "attention_multiplier": 0.2},
    "Gemma3": {"head_dim": 8, "sliding_window": 32},
    "OPT": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "Mixtral": {"num_local_experts": 4},
    "Qwen3Moe": EXPERTS,
    "DeepseekV3": LATENT,
}
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A small random model of a class of transformers, saved by it."""
    import transformers

    def made(name: str, **changes: Any) -> Path:
        kind = getattr(transformers, f"{name}TextConfig", None) or getattr(transformers, f"{name}Config")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = getattr(transformers, f"{name}ForCausalLM")(kind(**{**SIZES, **changes}))
            for parameter in model.parameters():
                if parameter.ndim == 1:  # norms and biases do something too
                    parameter.data += 0.1 * torch.randn_like(parameter)
        model.save_pretrained(tmp_path / name)
        return tmp_path / name

    return made


def its_own(folder: Path) -> Any:
    """The model as transformers computes it."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()


@pytest.mark.parametrize("name", KNOWN)
def test_packed_texts_have_the_log_probs_of_texts_apart(name: str, make: Make) -> None:
    """Each response token's, against transformers on each text alone."""
    folder = make(name, **KNOWN[name])
    model = its_own(folder)
    expected = []
    for row in ROWS:
        for response in row.responses:
            with torch.no_grad():
                logps_TV = model(torch.tensor([row.prompt + response]), use_cache=False).logits[0].log_softmax(-1)
            expected += [logps_TV[len(row.prompt) - 1 + i, token] for i, token in enumerate(response)]
    with torch.no_grad():
        found_M = token_logps(load_adapted(folder), pack(ROWS), dtype=torch.float32)
    torch.testing.assert_close(found_M, torch.stack(expected), atol=1e-4, rtol=0)


def test_weights_that_are_no_numbers_are_refused(make: Make) -> None:
    """The tensor and its file are named."""
    folder = make("Olmo2")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = float("inf")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        ModelError, match=r"model\.safetensors: model\.layers\.1\.mlp\.up_proj\.weight has numbers in it"
    ):
        load_adapted(folder)


@pytest.mark.parametrize("name", ["Olmo2", "Gemma3", "Phi", "DeepseekV3"])
def test_greedy_text_is_that_of_transformers(name: str, make: Make) -> None:
    """With our cache and with theirs, prompt by prompt."""
    folder = make(name, **KNOWN[name])
    model, prompts = its_own(folder), [row.prompt for row in ROWS]
    found = generate(load_adapted(folder), prompts, end=0, limit=10, dtype=torch.float32)
    for prompt, answer in zip(prompts, found, strict=True):
        written = model.generate(torch.tensor([prompt]), max_new_tokens=10, do_sample=False, eos_token_id=0)[0]
        assert answer.tokens == tuple(written[len(prompt) :].tolist())


def test_bfloat16_is_close_whatever_the_layers(make: Make) -> None:
    """Also through experts and a biased head; a frozen copy gives the numbers of the original.

    On rows of which no token lies so near between two experts that a rounding sends it to the other.
    """
    batch = pack(pair_rows(4, vocabulary=VOCABULARY, shared=0, seed=3))
    for name in ("Mixtral", "Phi"):
        adapted = load_adapted(make(name, **KNOWN[name]))
        with torch.no_grad():
            exact, rounded, copied = (
                token_logps(decoder, batch, dtype=dtype)
                for decoder, dtype in (
                    (adapted, torch.float32),
                    (adapted, torch.bfloat16),
                    (adapted.in_dtype(torch.bfloat16), torch.bfloat16),
                )
            )
        torch.testing.assert_close(rounded, exact, atol=0.15, rtol=0)
        assert torch.equal(rounded, copied)


def test_of_experts_those_at_work_count(make: Make) -> None:
    """2 of 8: a quarter of their matrices, all of the router's and attention's."""
    a = load_adapted(make("Mixtral", num_local_experts=8)).architecture
    attention, router, expert = 32 * (32 + 16 + 16 + 32), 8 * 32, 3 * 32 * 48
    assert a.body_weights == 3 * (attention + router + 2 * expert)


@pytest.mark.parametrize(
    ("name", "changes", "context"),
    [
        ("Phi3", {"sliding_window": 48}, 48),
        ("Gemma3", {"head_dim": 8, "sliding_window": 32}, 32),
        ("Gemma3", {"head_dim": 8, "sliding_window": 32, "layer_types": ["full_attention"] * 3}, 256),
        ("Olmo3", {"sliding_window": 512}, 256),
        ("Olmo2", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, 256),
        (
            "Phi3",
            {
                "original_max_position_embeddings": 64,
                "rope_parameters": {
                    "rope_type": "longrope",
                    "rope_theta": 1e4,
                    "short_factor": [1.0] * 4,
                    "long_factor": [2.0] * 4,
                    "original_max_position_embeddings": 64,
                },
            },
            64,
        ),
    ],
)
def test_no_more_is_read_than_leaves_attention_whole(
    name: str, changes: dict[str, Any], context: int, make: Make
) -> None:
    """A window would cut, and a stretched rotary angle would hang on the longest text beside."""
    a = load_adapted(make(name, **changes)).architecture
    assert (a.context, a.full_context) == (context, 256 if context < 256 else None)


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("Mamba", {}, "attends in 0 of its 3 layers"),
        ("Gemma2", {"head_dim": 8}, "final_logit_softcapping cannot be computed here"),
        ("Falcon", {}, "'falcon' models attend in a way of their own"),
        ("Bloom", {"n_layer": 3, "n_head": 4}, "attends in 0 of its 3 layers"),
        ("GptOss", {"num_local_experts": 4, "head_dim": 8, "num_experts_per_tok": 2}, "attends with s_aux"),
        ("MiniMax", {}, "of its 3 layers"),
        ("RecurrentGemma", {}, "logits_soft_cap cannot be computed here"),
    ],
)
def test_what_cannot_run_on_packed_texts_is_refused(
    name: str, changes: dict[str, Any], reason: str, make: Make
) -> None:
    """In one line, on loading, before anything was trained."""
    folder = make(name, **changes)
    with pytest.raises(ModelError, match=reason) as refused:
        load_adapted(folder)
    assert "\n" not in str(refused.value)


def test_a_model_that_computes_otherwise_than_it_says_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the check is for: a model whose positions are not those it is given."""
    from transformers.models.olmo2 import modeling_olmo2

    class CountingRotaryEmbedding(modeling_olmo2.Olmo2RotaryEmbedding):
        def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> Any:
            counted = torch.arange(position_ids.shape[-1])[None]
            return super().forward(x, counted)

    folder = make("Olmo2")
    monkeypatch.setattr(modeling_olmo2, "Olmo2RotaryEmbedding", CountingRotaryEmbedding)
    with pytest.raises(ModelError, match=r"computes packed texts otherwise than texts apart \(logits differ by"):
        load_adapted(folder)


def test_a_vision_tower_is_neither_trained_nor_charged_but_saved_again(tmp_path: Path) -> None:
    """Of a model that also sees, what reads text is the decoder; the rest goes along unchanged."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = {**SIZES, "head_dim": 8, "sliding_window": 32}
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 28, "patch_size": 14}
    tokens = {"boi_token_index": 90, "eoi_token_index": 91, "image_token_index": 92, "mm_tokens_per_image": 4}
    config = Gemma3Config(text_config=text, vision_config=vision, **tokens)  # type: ignore[arg-type]
    Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path / "first")
    adapted = load_adapted(tmp_path / "first")
    assert not any("vision" in name for name, _ in adapted.named_parameters())
    attention, feed = 2 * 32 * 32 + 2 * 32 * 16, 3 * 32 * 48
    assert adapted.architecture.body_weights == 3 * (attention + feed)
    trained = adapted.hollow()
    trained.load_state_dict({name: weight + 0.01 for name, weight in adapted.state_dict().items()}, assign=True)
    write_adapted(trained, tmp_path / "second", torch.float32)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert before.keys() == after.keys()
    assert {name for name in before if torch.equal(before[name], after[name])} == {
        name for name in before if "vision" in name or "multi_modal" in name
    }


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "its weights are quantised"),
        ({"model_type": "nobodys"}, "'nobodys' model, which this transformers does not know: pip install -U"),
        (
            {"model_type": "nobodys", "auto_map": {"AutoModelForCausalLM": "modeling.Mine"}},
            "needs code from its repository, and that is never run",
        ),
        ({"hidden_size": 64}, "cannot load this 'olmo2' model"),
        ({"num_hidden_layers": 4}, "lacks the weights .*layers.3.* and"),
        ({"hidden_act": "nonsense"}, "cannot load this 'olmo2' model"),
        ({"num_attention_heads": "four"}, "cannot load this 'olmo2' model"),
    ],
)
def test_a_configuration_that_does_not_fit_is_one_line(changes: dict[str, Any], reason: str, make: Make) -> None:
    """Whatever transformers says to it."""
    folder = make("Olmo2")
    edit(folder, **changes)
    with pytest.raises(ModelError, match=reason) as refused:
        load_adapted(folder)
    assert "\n" not in str(refused.value)


def test_code_beside_a_model_is_never_run(make: Make) -> None:
    """Not even that of a type that transformers knows: its own is used."""
    folder = make("Olmo2")
    (folder / "modeling.py").write_text("raise SystemExit('ran')")
    edit(folder, auto_map={"AutoModelForCausalLM": "modeling.Mine", "AutoConfig": "modeling.Config"})
    assert isinstance(load_adapted(folder), Adapted)


def test_a_missing_shard_is_named(make: Make) -> None:
    """Before transformers is asked."""
    folder = make("Olmo2")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    with pytest.raises(ModelError, match=r"lacks model-00002-of-00002\.safetensors"):
        load_adapted(folder)


@pytest.mark.parametrize("name", ["Olmo2", "Qwen2"])
def test_without_the_extra_the_line_says_what_to_install(
    name: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a foreign model, and for one of ours that transformers was asked to compute."""
    folder = make(name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(ModelError, match=r"pip install 'prefbench\[hf\]'"):
        load_adapted(folder)


def test_loading_says_nothing(make: Make, capfd: pytest.CaptureFixture[str]) -> None:
    """No bars, no advice, on neither stream."""
    folder = make("Olmo2")
    capfd.readouterr()
    load_adapted(folder)
    assert capfd.readouterr() == ("", "")
