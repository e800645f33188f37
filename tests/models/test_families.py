"""Each family computes, writes and learns what it does in transformers; what we would compute wrongly is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from harness.recipes.dpo import dpo_loss
from harness.recipes.recipe import Logps
from models.architecture import Architecture, RopeScaling
from models.decoder import Decoder
from models.failure import ForeignModelError, ModelError
from models.families import KNOWN, describe, is_native
from models.families.layout import arrange
from models.generation import generate
from models.logprobs import sum_logps
from models.packing import Row, pack
from models.weights import load_folder_weights
from tests.models.published import CONFIGS, VOCABULARY, saved, some_tokens, their_logits
from tests.tiny import LLAMA, decoder_of, logits_of, pair_rows

PROMPTS = [(3, 1, 4), (3, 1, 4, 1, 5, 9), (2,), (7, 7, 7, 7, 7, 7, 7)]
REFERENCE = ((-21.0, -19.0), (-14.0, -17.5), (-30.0, -12.0))  # log-probs of a reference, nats


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    """A random model saved by transformers gives the same logits here, within 1e-4 in float32."""
    theirs, tokens = saved(name, tmp_path), some_tokens()
    ours = logits_of(load_folder_weights(tmp_path), tokens)
    torch.testing.assert_close(ours, their_logits(theirs, tokens), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_answers_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    """Token for token, in a batch with a cache, where transformers is asked prompt by prompt."""
    theirs = saved(name, tmp_path)
    wanted = [
        theirs.generate(  # type: ignore[operator]  # PreTrainedModel has it by a mixin
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt)),
            do_sample=False,
            max_new_tokens=16,
            pad_token_id=0,
        )[0, len(prompt) :].tolist()
        for prompt in PROMPTS
    ]
    answers = generate(load_folder_weights(tmp_path), PROMPTS, end=0, limit=16, dtype=torch.float32)
    assert [list(answer.tokens) for answer in answers] == wanted


@pytest.mark.parametrize("name", CONFIGS)
def test_a_dpo_step_has_the_gradient_that_transformers_gives(name: str, tmp_path: Path) -> None:
    """Our packed rows against transformers on each prompt with each response apart: every tensor within 1e-4."""
    theirs = saved(name, tmp_path)
    ours = load_folder_weights(tmp_path).requires_grad_(True)
    rows = pair_rows(3, vocabulary=VOCABULARY)
    _dpo(sum_logps(ours, pack(rows), dtype=torch.float32).view(-1, 2)).backward()
    _dpo(torch.stack([torch.stack([_logp(theirs, row, y) for y in row.responses]) for row in rows])).backward()
    layout = KNOWN[ours.architecture.family].layout
    gradients = {n.removeprefix(layout.prefix): p.grad for n, p in theirs.named_parameters() if p.grad is not None}
    wanted = arrange(layout, ours.architecture, gradients)
    for tensor, parameter in ours.named_parameters():
        assert parameter.grad is not None
        assert (parameter.grad - wanted[tensor]).norm() < 1e-4 * wanted[tensor].norm(), tensor


def _dpo(policy_B2: Tensor) -> Tensor:
    reference_B2 = torch.tensor(REFERENCE)
    logps = Logps(
        policy_chosen_B=policy_B2[:, 0],
        policy_rejected_B=policy_B2[:, 1],
        reference_chosen_B=reference_B2[:, 0],
        reference_rejected_B=reference_B2[:, 1],
        chosen_tokens_B=torch.ones(len(policy_B2)),
        rejected_tokens_B=torch.ones(len(policy_B2)),
    )
    return dpo_loss(logps, beta=0.1).mean()


def _logp(theirs: PreTrainedModel, row: Row, response: tuple[int, ...]) -> Tensor:
    """Plainly: one text, all logits, the response's tokens picked out and summed."""
    text = torch.tensor([row.prompt + response])
    logps_TV = theirs(text).logits[0, :-1].log_softmax(-1)
    picked: Tensor = logps_TV.gather(1, text[0, 1:, None])[len(row.prompt) - 1 :, 0]
    return picked.sum()


def test_a_family_is_known_by_its_model_type() -> None:
    """What `config.json` calls it, so that others can ask."""
    assert set(KNOWN) == {"gemma", "gpt2", "llama", "mistral", "qwen2", "qwen3"}
    assert {config.model_type for config in CONFIGS.values()} == set(KNOWN), "a family that these tests do not try"


def config(name: str, **changes: Any) -> dict[str, Any]:
    return CONFIGS[name].to_dict() | changes


SMALL = {"vocab_size": 99, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
GEMMA_2B = {"head_dim": 256, "num_key_value_heads": 1, "hidden_act": "gelu", "hidden_activation": None}
# What the files on the Hub say and leave out, which is not what transformers writes today.
ON_THE_HUB: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "llama 2, TinyLlama": (
        {"model_type": "llama", "num_key_value_heads": 2, "rope_scaling": None, "pretraining_tp": 1},
        {"rope_base": 10_000.0, "rope_scaling": None, "head_width": 16, "kv_heads": 2, "tied": False},
    ),
    "SmolLM": (
        {"model_type": "llama", "rope_theta": 100_000, "tie_word_embeddings": True, "rope_interleaved": False},
        {"rope_base": 100_000, "tied": True, "kv_heads": 4},
    ),
    "Qwen 2.5": (
        {"model_type": "qwen2", "rope_theta": 1e6, "use_sliding_window": False, "sliding_window": 16},
        {"qkv_bias": True, "out_bias": False, "rope_base": 1e6, "context": 64, "full_context": None},
    ),
    "Qwen 3": (
        {"model_type": "qwen3", "head_dim": 128, "rope_theta": 1000000, "max_window_layers": 28},
        {"qk_norm": True, "qkv_bias": False, "head_width": 128},
    ),
    "Mistral 0.1": ({"model_type": "mistral", "sliding_window": 32}, {"context": 32, "full_context": 64}),
    "Mistral 0.3": ({"model_type": "mistral", "sliding_window": None}, {"context": 64, "full_context": None}),
    "Gemma": (
        {"model_type": "gemma", **GEMMA_2B},
        {"tied": True, "activation": "gelu_tanh", "norm_offset": 1.0, "scaled_embedding": True, "head_width": 256},
    ),
}


@pytest.mark.parametrize("name", ON_THE_HUB)
def test_configurations_on_the_hub_are_understood(name: str) -> None:
    """In the spelling of their day, and with what they leave out."""
    said, wanted = ON_THE_HUB[name]
    found = vars(describe({**SMALL, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, **said}))
    assert {field: found[field] for field in wanted} == wanted


def test_gpt2s_own_configuration_is_understood() -> None:
    """It says nothing of its feed-forward layer, nor that its head is tied."""
    sizes = {"vocab_size": 99, "n_ctx": 64, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4}
    found = describe({"model_type": "gpt2", "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new", **sizes})
    assert (found.hidden, found.tied, found.rotary, found.gated) == (128, True, False, False)


@pytest.mark.parametrize(
    ("name", "changes", "context", "full"),
    [
        ("mistral, window", {}, 40, 64),
        ("mistral", {"sliding_window": 64}, 64, None),
        ("mistral", {"sliding_window": 4096}, 64, None),
        ("qwen2", {"sliding_window": 40, "layer_types": None}, 64, None),
        (
            "qwen2",
            {"use_sliding_window": True, "sliding_window": 40, "max_window_layers": 2, "layer_types": None},
            40,
            64,
        ),
        (
            "qwen2",
            {"use_sliding_window": True, "sliding_window": 40, "max_window_layers": 3, "layer_types": None},
            64,
            None,
        ),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 40, "layer_types": ["sliding_attention"] * 3}, 40, 64),
    ],
)
def test_no_more_is_read_than_attention_reaches(
    name: str, changes: dict[str, Any], context: int, full: int | None
) -> None:
    """A window that cuts is the context, and what the model is said to take is kept beside it."""
    found = describe(config(name, **changes))
    assert (found.context, found.full_context) == (context, full)


@pytest.mark.parametrize("kind", ["old", "new"])
def test_rope_scaling_is_read_in_both_spellings(kind: str) -> None:
    """`rope_scaling` beside `rope_theta`, as transformers 4 wrote it, or all in `rope_parameters`."""
    said = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
    old = {"rope_parameters": None, "rope_theta": 500.0, "rope_scaling": said | {"type": "llama3"}}
    new = {"rope_parameters": said | {"rope_type": "llama3", "rope_theta": 500.0}}
    found = describe(config("llama", **(old if kind == "old" else new)))
    assert found.rope_base == 500.0
    assert found.rope_scaling == RopeScaling(kind="llama3", factor=8.0, low=1.0, high=4.0, original=16)


TURNED = {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}


@pytest.mark.parametrize("theta", [{}, {"rope_theta": 500.0}], ids=["without theta", "with theta"])
def test_rope_scaling_that_says_the_same_in_both_spellings_is_taken(theta: dict[str, float]) -> None:
    """As configurations have it that were written for readers of both kinds."""
    old = {"type": "linear", "factor": 2} | theta
    found = describe(config("llama", rope_parameters=TURNED, rope_scaling=old, rope_theta=500.0))
    assert (found.rope_base, found.rope_scaling) == (500.0, RopeScaling(kind="linear", factor=2.0))


@pytest.mark.parametrize(
    "old", [{"type": "linear", "factor": 4.0}, {"type": "yarn", "factor": 2.0}, {"rope_type": "default"}]
)
def test_rope_scaling_that_differs_in_both_spellings_is_refused(old: dict[str, Any]) -> None:
    """Which of them is meant cannot be known: both stand in the line."""
    damaged = config("llama", rope_parameters=TURNED, rope_scaling=old, rope_theta=500.0)
    assert is_native(damaged)
    with pytest.raises(
        ModelError, match=r"rope_parameters = \{.*500.*\} and rope_scaling = \{.*\}, which differ: take"
    ):
        describe(damaged)


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("llama", {"model_type": "mamba"}, "'mamba' models are not among gemma, gpt2, llama"),
        ("gemma", {"model_type": "gemma2"}, "'gemma2' models"),
        ("llama", {"model_type": None}, "None models"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "rope type 'yarn'"),
        ("llama", {"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "in each kind of layer"),
        ("llama", {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "a part of each head"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act = 'gelu', and only 'silu'"),
        ("qwen3", {"attention_bias": True}, "attention_bias = True"),
        ("gemma", {"use_bidirectional_attention": True}, "use_bidirectional_attention = True"),
        ("gemma", {"hidden_act": "relu"}, "hidden_act = 'relu'"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True"),
        ("gpt2", {"activation_function": "relu"}, "activation_function = 'relu'"),
    ],
)
def test_a_model_that_our_decoder_does_not_compute_is_foreign(name: str, changes: dict[str, Any], reason: str) -> None:
    """With the reason; transformers may compute it."""
    foreign = config(name, **changes)
    assert not is_native(foreign)
    with pytest.raises(ForeignModelError, match=reason):
        describe(foreign)


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3"])
@pytest.mark.parametrize(
    "value", [None, 0, -1, "32", 1.5, [1], {}, True, float("nan")], ids=lambda value: repr(value)[:8]
)
def test_a_size_that_no_model_has_is_one_line(name: str, value: Any) -> None:
    """Whatever stands in config.json: refused as our own model's damage, without a traceback."""
    for key in config(name).keys() & {"vocab_size", "num_hidden_layers", "n_layer", "hidden_size", "head_dim"}:
        if key != "head_dim" or value:  # without one it follows from the rest
            damaged = config(name, **{key: value})
            assert is_native(damaged)
            with pytest.raises(ModelError, match=r"copy (its configuration|config\.json|the model's folder) again"):
                describe(damaged)


def test_a_legacy_gemma_says_gelu_and_means_its_approximation() -> None:
    """As its first releases do, and transformers knows."""
    assert describe(config("gemma", hidden_act="gelu", hidden_activation=None)).activation == "gelu_tanh"


def test_quantised_weights_are_refused() -> None:
    """They cannot be trained."""
    with pytest.raises(ModelError, match="quantised, which cannot be trained: bring the model in 16 or 32 bits"):
        describe(config("llama", quantization_config={"quant_method": "gptq"}))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": "llama3", "factor": 0.0}, "rope scaling's factor is 0.0"),
        ({"kind": "llama3", "factor": float("nan")}, "factor is nan"),
        ({"kind": "llama3", "factor": 8.0, "low": 4.0, "high": 4.0}, r"mixes from 4\.0 to 4\.0 turns"),
    ],
)
def test_a_rope_scaling_that_computes_nothing_is_refused(changes: dict[str, Any], reason: str) -> None:
    """Before it makes every logit NaN."""
    with pytest.raises(ModelError, match=reason):
        RopeScaling(**changes)


def test_a_hollow_decoder_takes_weights_without_making_its_own() -> None:
    """The module that others restore checkpoints into."""
    decoder = decoder_of(LLAMA)
    hollow = decoder.hollow()
    assert {p.device.type for p in hollow.parameters()} == {"meta"}
    hollow.load_state_dict(decoder.state_dict(), assign=True)
    assert torch.equal(logits_of(hollow, (1, 2, 3)), logits_of(decoder, (1, 2, 3)))


@pytest.mark.parametrize("name", CONFIGS)
def test_flops_are_counted_for_the_matrices_that_there_are(name: str) -> None:
    """`body_weights` and `head_weights` are what the budget is charged by."""
    architecture = describe(config(name))
    with torch.device("meta"):
        decoder = Decoder(architecture)
    assert architecture.body_weights == sum(_matrix(p) for p in decoder.blocks.parameters())
    assert architecture.head_weights == decoder.head.numel()


def _matrix(parameter: Tensor) -> int:
    return parameter.numel() if parameter.ndim == 2 else 0


def test_activations_are_approximated_as_published() -> None:
    """GELU by tanh, not the exact one: they differ by more than logits may."""
    x = torch.linspace(-3, 3, 61)
    gelu = decoder_of(Architecture(**vars(LLAMA) | {"activation": "gelu_tanh"})).blocks[0].activate(x)
    torch.testing.assert_close(gelu, F.gelu(x, approximate="tanh"))
    assert (gelu - F.gelu(x)).abs().max() > 1e-4
