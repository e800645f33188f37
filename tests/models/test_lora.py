"""An adapter is read as it was meant or refused in one line, and is counted as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.architecture import Architecture
from models.failure import ModelError
from models.lora import Lora, parse_lora, projections
from models.low_rank import own_weights, with_adapter
from tests.tiny import GPT2, LLAMA, decoder_of

GOOD = {
    "lora": Lora(r=16, alpha=32, target=("all-linear",), lr=10),
    "lora:r=4": Lora(r=4),
    "lora:r=16:alpha=32:target=all-linear": Lora(),
    "lora:alpha=0.5:r=1:lr=1": Lora(r=1, alpha=0.5, lr=1),
    "lora:target=q+v": Lora(target=("q", "v")),
    "lora:target=q_proj,v_proj,q_proj": Lora(target=("q_proj", "v_proj")),
    " lora : r = 8 ": Lora(r=8),
}
BAD = {
    "": "no adapter named ''",
    "lorra:r=4": "no adapter named 'lorra'",
    "r=4": "no adapter named 'r=4'",
    "lora:rank=4": "no setting 'rank': did you mean 'r'",
    "lora:dropout=0.1": "no setting 'dropout'",
    "lora:aplha=3": "did you mean 'alpha'",
    "lora:": "no setting ''",
    "lora:r": "r has no value",
    "lora:r=": "r has no value",
    "lora:r=0": "r=0 is not above 0",
    "lora:r=-4": "r=-4 is not above 0",
    "lora:r=5000": "at most 4096",
    "lora:r=4.5": "r=4.5 is no whole number",
    "lora:r=1_6": "r=1_6 is no whole number",
    "lora:r=٤": "is no whole number",
    "lora:alpha=nan": "alpha=nan is no finite number",
    "lora:alpha=much": "alpha=much is no number",
    "lora:lr=0": "lr=0 is not above 0",
    "lora:lr=inf": "lr=inf is no finite number",
    "lora:r=4:r=8": "r is given twice",
    "lora:target=+": "without a target",
    "lora:target=q_prj": "did you mean 'q_proj'",
    "lora:target=all_linear": "did you mean 'all-linear'",
    "lora:target=lm_head": "'lm_head' is not known",
}


@pytest.mark.parametrize("text", GOOD)
def test_an_adapter_is_read_as_meant(text: str) -> None:
    """In any order, what is left out at its default."""
    assert parse_lora(text) == GOOD[text]


@pytest.mark.parametrize("text", BAD)
def test_an_adapter_that_cannot_be_read_is_refused(text: str) -> None:
    """In one line with the value, and what to write."""
    with pytest.raises(ModelError) as caught:
        parse_lora(text)
    assert BAD[text] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", GOOD)
def test_its_spec_asks_for_it_again(text: str) -> None:
    """What a record keeps makes the same adapter."""
    assert parse_lora(parse_lora(text).spec) == parse_lora(text)


def test_its_spec_says_every_setting() -> None:
    assert parse_lora("lora:r=4").spec == "lora:r=4:alpha=32:target=all-linear:lr=10"


def names(target: str, architecture: Architecture) -> list[str]:
    return [p.name for p in parse_lora(f"lora:r=2:target={target}").projections(architecture)]


@pytest.mark.parametrize(
    ("target", "architecture", "found"),
    [
        ("all-linear", LLAMA, ["q", "k", "v", "o", "gate", "up", "down"]),
        ("all-linear", GPT2, ["qkv", "o", "up", "down"]),
        ("v+q", LLAMA, ["q", "v"]),
        ("qkv", LLAMA, ["q", "k", "v"]),
        ("self_attn.o_proj,mlp.up_proj", LLAMA, ["o", "up"]),
        ("c_proj", GPT2, ["o", "down"]),
        ("attn.c_proj", GPT2, ["o"]),
        ("up", GPT2, ["up"]),
    ],
)
def test_targets_go_by_our_names_and_by_transformers(target: str, architecture: Architecture, found: list[str]) -> None:
    assert names(target, architecture) == found


@pytest.mark.parametrize(
    ("target", "architecture", "complaint"),
    [
        ("q", GPT2, "target 'q' is not in a gpt2 model: it has qkv, o, up, down"),
        ("c_attn", LLAMA, "target 'c_attn' is not in a llama model"),
        ("all-linear", replace(LLAMA, family="transformers"), "an adapter needs a model of gemma, gpt2"),
    ],
)
def test_a_target_that_a_model_lacks_is_refused(target: str, architecture: Architecture, complaint: str) -> None:
    """With what it has."""
    with pytest.raises(ModelError, match=complaint):
        names(target, architecture)


def test_a_rank_beyond_the_models_width_is_refused() -> None:
    with pytest.raises(ModelError, match="r=17 is no low rank in a model of width 16"):
        parse_lora("lora:r=17").projections(LLAMA)


@pytest.mark.parametrize("architecture", [LLAMA, GPT2, replace(LLAMA, qk_norm=True)], ids=["llama", "gpt2", "norms"])
@pytest.mark.parametrize("target", ["all-linear", "o+down"])
def test_its_weights_are_counted_as_they_are_made(target: str, architecture: Architecture) -> None:
    lora = parse_lora(f"lora:r=3:target={target}")
    made = own_weights(with_adapter(decoder_of(architecture), lora))
    assert lora.weights(architecture) == sum(weight.numel() for weight in made.values())


@pytest.mark.parametrize("architecture", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_projections_cover_every_matrix_once(architecture: Architecture) -> None:
    """Row after row, no gap and no overlap."""
    block = decoder_of(architecture).blocks[0]
    for matrix in ("qkv", "out", "up", "down"):
        parts, at = [p for p in projections(architecture) if p.matrix == matrix], 0
        for part in parts:
            assert (part.start, part.inputs) == (at, getattr(block, matrix).in_features)
            at += part.rows
        assert at == getattr(block, matrix).out_features
