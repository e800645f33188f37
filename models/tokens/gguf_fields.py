"""Tokens from GGUF's `tokenizer.…` fields, and back into them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.failure import ModelError
from models.tokens.assembly import assemble, beginning
from models.tokens.cutting import cut_of
from models.tokens.descriptions import (
    ALIKE,
    COMPOSED,
    CUTTERS,
    WHOLE_WORDS,
    byte_level_description,
    sentencepiece_description,
)
from models.tokens.origin import Description, Origin
from models.tokens.ranked import pairs_of, reached
from models.tokens.tokens import Tokens

WAY_OUT = "bring the model's folder in Hugging Face layout"
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # GGUF's types of tokens
ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}  # of a token: Hugging Face's word and GGUF's


def tokens_from_gguf(fields: Mapping[str, Any], path: Path) -> Tokens:
    """Tokens of a GGUF file's fields. ModelError for a kind of tokenizer that cannot be rebuilt exactly."""
    kind, pre = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre", "gpt-2")
    names, types = fields["tokenizer.ggml.tokens"], fields.get("tokenizer.ggml.token_type")
    types = types if types is not None else [NORMAL] * len(names)
    vocabulary = {name: i for i, (name, what) in enumerate(zip(names, types, strict=True)) if what != UNUSED}
    said = {
        "special": {names[i]: i for i, what in enumerate(types) if what in (CONTROL, UNKNOWN)},
        "added": {names[i]: i for i, what in enumerate(types) if what == USER},
        "begin": _begin(fields, names, default=kind == "llama" or ALIKE.get(pre, pre) in WHOLE_WORDS),
    }
    if kind == "gpt2" and ALIKE.get(pre, pre) in CUTTERS:
        description = byte_level_description(vocabulary, fields.get("tokenizer.ggml.merges", ()), pre=pre, **said)
    elif kind == "llama":
        if "tokenizer.ggml.scores" not in fields:
            raise ModelError(f"{path} has a llama tokenizer without scores, so how it joins tokens is lost: {WAY_OUT}")
        description = _sentencepiece(fields, vocabulary, types, said)
    else:
        raise ModelError(
            f"{path} has a {pre if kind == 'gpt2' else kind!r} tokenizer, and llama's, {', '.join(CUTTERS)} are known: "
            + WAY_OUT
        )
    turn_end = fields.get("tokenizer.ggml.eot_token_id")
    ends = (turn_end,) if turn_end is not None else ()
    return assemble(Origin(description=description, settings=_settings(fields, names), end_ids=ends), str(path))


def _begin(fields: Mapping[str, Any], names: Sequence[str], *, default: bool) -> dict[str, int]:
    number = fields.get("tokenizer.ggml.bos_token_id")
    if number is None or not fields.get("tokenizer.ggml.add_bos_token", default):
        return {}
    return {names[number]: int(number)}


def _settings(fields: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """What tokenizer_config.json would hold."""
    known = {role: fields.get(f"tokenizer.ggml.{theirs}_token_id") for role, theirs in ROLES.items()}
    settings = {f"{role}_token": names[i] for role, i in known.items() if i is not None and i < len(names)}
    template = fields.get("tokenizer.chat_template")
    plain = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    return plain | settings | ({"chat_template": template} if template else {})


def _sentencepiece(
    fields: Mapping[str, Any], vocabulary: Mapping[str, int], types: Sequence[int], said: Mapping[str, Any]
) -> Description:
    scores = fields["tokenizer.ggml.scores"]
    merged = {name: i for name, i in vocabulary.items() if types[i] == NORMAL}
    unknown = next((name for name, i in vocabulary.items() if types[i] == UNKNOWN), None)
    prefix = bool(fields.get("tokenizer.ggml.add_space_prefix", True))
    merges = merges_by_score(merged, scores)
    return sentencepiece_description(vocabulary, merges, unknown=unknown, prefix_space=prefix, **said)


def merges_by_score(vocabulary: Mapping[str, int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """Every way to join two tokens to a third, the best third first, as `transformers` has it."""
    best = sorted(vocabulary.items(), key=lambda item: -scores[item[1]])
    return [pair for token, _ in best for pair in _splits(token, vocabulary)]


def _splits(token: str, vocabulary: Mapping[str, int]) -> list[tuple[str, str]]:
    cuts = ((token[:n], token[n:]) for n in range(1, len(token)))
    known = [(left, right) for left, right in cuts if left in vocabulary and right in vocabulary]
    return sorted(known, key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))


def fields_of(tokens: Tokens, origin: Origin) -> dict[str, Any]:
    """GGUF's fields. ModelError where a reader of them could not have the same tokens."""
    description = origin.description
    reaching = any(t.get(key) for t in description["added_tokens"] for key in ("lstrip", "rstrip", "single_word"))
    said = None if reaching else _byte_level(description) or _scored(description)
    if said is None:
        raise ModelError("GGUF has no word for this model's tokenizer: export it with --to hf")
    names = _names(description)
    said |= {
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.token_type": _types(description, tokens, names),
        "tokenizer.ggml.eos_token_id": tokens.end,
        "tokenizer.ggml.add_bos_token": bool(beginning(description)),
    }
    for role, theirs in ROLES.items():
        number = tokens.special.get(tokens.names.get(f"{role}_token", ""))
        if role != "eos" and number is not None:
            said[f"tokenizer.ggml.{theirs}_token_id"] = number
    return said | ({"tokenizer.chat_template": tokens.chat_template} if tokens.chat_template else {})


def _byte_level(description: Description) -> dict[str, Any] | None:
    """For a way of cutting that GGUF has a name for; a reader of that name takes all else as it is there."""
    model, cut = description["model"], cut_of(description.get("pre_tokenizer"))
    if cut is None or "merges" not in model or model.get("byte_fallback") or model.get("unk_token"):
        return None
    for pre, cutter in CUTTERS.items():
        normalizer = {"type": "NFC"} if pre in COMPOSED else None
        whole = bool(model.get("ignore_merges")) == (pre in WHOLE_WORDS)
        if cut == cut_of(cutter) and description.get("normalizer") == normalizer and whole:
            merges = [f"{left} {right}" for left, right in pairs_of(model["merges"])]
            said = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre, "tokenizer.ggml.merges": merges}
            # No list without entries can be written, and transformers looks for scores where there are no merges.
            return said if merges else said | {"tokenizer.ggml.scores": [0.0] * len(_names(description))}
    return None


def _scored(description: Description) -> dict[str, Any] | None:
    """For SentencePiece's BPE, if its ids are in the order of its merges, so that scores by id say as much."""
    model = description["model"]
    prefix = _prefix_space(description)
    if model.get("type") != "BPE" or not model.get("byte_fallback") or prefix is None:
        return None
    vocabulary = model["vocab"]
    merges = pairs_of(model["merges"])
    results = [vocabulary[left + right] for left, right in merges]
    apart = {t["content"] for t in description["added_tokens"]}
    plain = {name: i for name, i in vocabulary.items() if name not in apart and not _BYTE.fullmatch(name)}
    if results != sorted(results) or reached(plain, vocabulary, merges) != plain:
        return None
    scores = [0.0] * len(_names(description))
    for i in plain.values():
        scores[i] = -float(i)
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.add_space_prefix": prefix,
    }


_BYTE = re.compile("<0x[0-9A-F]{2}>")


def _prefix_space(description: Description) -> bool | None:
    """Whether a blank is put before each text; None where the text is changed in another way than GGUF's readers do."""
    for prefix in (True, False):
        twin = sentencepiece_description({}, [], unknown=None, special={}, added={}, begin={}, prefix_space=prefix)
        if all(description.get(key) == twin[key] for key in ("normalizer", "pre_tokenizer")):
            return prefix
    return None


def _names(description: Description) -> list[str]:
    """Names by id; where no token has an id, one that says so."""
    by_id = {i: name for name, i in description["model"]["vocab"].items()}
    by_id |= {t["id"]: t["content"] for t in description["added_tokens"]}
    return [by_id.get(i, f"[PAD{i}]") for i in range(max(by_id) + 1)]


def _types(description: Description, tokens: Tokens, names: Sequence[str]) -> list[int]:
    known = set(description["model"]["vocab"]) | {t["content"] for t in description["added_tokens"]}
    added = {t["content"] for t in description["added_tokens"]}
    bytes_too, unknown = description["model"].get("byte_fallback"), description["model"].get("unk_token")

    def kind(name: str) -> int:
        if name in tokens.special:
            return UNKNOWN if name == unknown else CONTROL
        if name in added:
            return USER
        if bytes_too and _BYTE.fullmatch(name):
            return BYTE
        return NORMAL if name in known else UNUSED

    return [kind(name) for name in names]
