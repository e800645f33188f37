"""Descriptions of tokenizers, in the form of tokenizer.json, made from a vocabulary and its merges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models.tokens.cutting import LLAMA3_PATTERN, QWEN2_PATTERN
from models.tokens.origin import Description

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
WHOLE_BYTES = BYTES | {"use_regex": False}


def _split(pattern: str) -> dict[str, Any]:
    step = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [step, WHOLE_BYTES]}


# GGUF's name of a way to cut text → how tokenizer.json describes it.
CUTTERS: dict[str, dict[str, Any]] = {
    "gpt-2": BYTES,
    "smollm": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTES]},
    "llama-bpe": _split(LLAMA3_PATTERN),
    "qwen2": _split(QWEN2_PATTERN),
}
ALIKE = {"llama3": "llama-bpe", "llama-v3": "llama-bpe", "starcoder": "smollm", "deepseek-r1-qwen": "qwen2"}
COMPOSED = ("qwen2",)  # GGUF does not say so, and the published tokenizers do
WHOLE_WORDS = ("llama-bpe",)  # a word that is a token is taken whole


def byte_level_description(
    vocabulary: Mapping[str, int],
    merges: Sequence[Any],
    *,
    pre: str,
    special: Mapping[str, int],
    added: Mapping[str, int],
    begin: Mapping[str, int] | None = None,
) -> Description:
    """Byte-level BPE cut in one of GGUF's ways; `begin`: what is put before a text."""
    pre = ALIKE.get(pre, pre)
    model: dict[str, Any] = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None}
    model |= {"end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False}
    model |= {"ignore_merges": pre in WHOLE_WORDS, "vocab": dict(vocabulary), "merges": list(merges)}
    return described(
        model,
        added_tokens=added_tokens(special, added),
        normalizer={"type": "NFC"} if pre in COMPOSED else None,
        pre_tokenizer=CUTTERS[pre],
        post_processor=beginning_with(begin or {}) or BYTES | {"trim_offsets": False},
        decoder=BYTES,
    )


def sentencepiece_description(
    vocabulary: Mapping[str, int],
    merges: Sequence[Any],
    *,
    unknown: str | None,
    special: Mapping[str, int],
    added: Mapping[str, int],
    begin: Mapping[str, int],
    prefix_space: bool,
) -> Description:
    """BPE over characters with bytes for those that have no token, as Llama 2 and Mistral have it."""
    model: dict[str, Any] = {"type": "BPE", "dropout": None, "unk_token": unknown, "continuing_subword_prefix": None}
    model |= {"end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False}
    blank = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    steps = ([{"type": "Prepend", "prepend": "▁"}] if prefix_space else []) + [blank]
    back: list[dict[str, Any]] = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}]
    back += [{"type": "ByteFallback"}, {"type": "Fuse"}]
    back += [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix_space else []
    return described(
        model | {"vocab": dict(vocabulary), "merges": list(merges)},
        added_tokens=added_tokens(special, added),
        normalizer={"type": "Sequence", "normalizers": steps},
        pre_tokenizer=None,
        post_processor=beginning_with(begin),
        decoder={"type": "Sequence", "decoders": back},
    )


def described(model: dict[str, Any], **parts: Any) -> Description:
    """The whole, in the order that tokenizer.json has it."""
    return {"version": "1.0", "truncation": None, "padding": None, **parts, "model": model}


def added_tokens(special: Mapping[str, int], added: Mapping[str, int]) -> list[dict[str, Any]]:
    """Control tokens and those that are themselves in any text, by their ids."""
    both = [added_token(name, i, special=True) for name, i in special.items()]
    both += [added_token(name, i, special=False) for name, i in added.items() if name not in special]
    return sorted(both, key=lambda token: int(token["id"]))


def added_token(name: str, number: int, *, special: bool) -> dict[str, Any]:
    """One token of tokenizer.json's list."""
    how = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": name, **how, "special": special}


def beginning_with(begin: Mapping[str, int]) -> dict[str, Any] | None:
    """A post-processor that puts these tokens before a text; None for none."""
    if not begin:
        return None
    first = [{"SpecialToken": {"id": name, "type_id": 0}} for name in begin]
    return {
        "type": "TemplateProcessing",
        "single": [*first, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [*first, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {name: {"id": name, "ids": [i], "tokens": [name]} for name, i in begin.items()},
    }
