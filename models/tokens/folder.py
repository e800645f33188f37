"""Tokens from a folder in Hugging Face layout: tokenizer.json, or GPT-2's vocab.json and merges.txt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.failure import ModelError
from models.tokens.assembly import assemble, name_of
from models.tokens.cutting import cut_of
from models.tokens.descriptions import CUTTERS, added_token, byte_level_description
from models.tokens.origin import Description, Origin
from models.tokens.ranked import bytes_of
from models.tokens.tokens import Tokens

# What belongs to a tokenizer besides tokenizer.json, and is kept as it is.
KEPT = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
ALONE = "chat_template.json"  # where processors kept it
DAMAGE = (KeyError, TypeError, ValueError, AttributeError, IndexError, OSError, RecursionError)


def tokens_from_folder(folder: Path) -> Tokens:
    """The tokens of a model folder. ModelError where there are none, or they are damaged."""
    try:
        return assemble(_origin(folder), str(folder))
    except ModelError:
        raise
    except DAMAGE as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ModelError(f"{folder}: the tokenizer cannot be read ({reason}): copy it again") from error


def _origin(folder: Path) -> Origin:
    settings = _settings(folder)
    if (folder / "tokenizer.json").exists():
        description = read_json(folder / "tokenizer.json")
        return Origin(
            description=_with_late_tokens(description, settings),
            settings=settings,
            end_ids=_end_ids(folder),
            files=_kept_files(folder, settings),
        )
    if (folder / "vocab.json").exists():
        return _gpt2(folder, settings)
    spelled = (folder / "tokenizer.model").exists()
    what = "has just SentencePiece's tokenizer.model" if spelled else "has neither tokenizer.json nor vocab.json"
    way = (
        "save tokenizer.json with AutoTokenizer's save_pretrained"
        if spelled
        else "copy the tokenizer beside the weights"
    )
    raise ModelError(f"{folder} {what}: {way}")


def _settings(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json, and from other files what stands there now or stood there once."""
    settings = _object(folder / "tokenizer_config.json")
    mapped = _object(folder / "special_tokens_map.json")
    settings |= {key: value for key, value in mapped.items() if settings.get(key) is None and key.endswith("_token")}
    if (folder / "chat_template.jinja").exists():
        settings["chat_template"] = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    elif settings.get("chat_template") is None and (template := _object(folder / ALONE).get("chat_template")):
        settings["chat_template"] = template
    return settings


def _kept_files(folder: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """The tokenizer's own, and a chat template that stood alone in the form that is read today."""
    files = {name: (folder / name).read_text(encoding="utf-8") for name in KEPT if (folder / name).exists()}
    template = settings.get("chat_template")
    if (folder / ALONE).exists() and isinstance(template, str):
        files.setdefault("chat_template.jinja", template)
    return files


def _object(path: Path) -> dict[str, Any]:
    read = read_json(path) if path.exists() else {}
    if not isinstance(read, dict):
        raise ModelError(f"{path} holds no object: copy the model's folder again")
    return read


def _with_late_tokens(description: Description, settings: dict[str, Any]) -> Description:
    """With the tokens that only tokenizer_config.json adds, and the ends that it names among the vocabulary."""
    there = {t["content"] for t in description.get("added_tokens", [])}
    late = [
        added_token(entry["content"], int(number), special=bool(entry.get("special"))) | dict(entry)
        for number, entry in settings.get("added_tokens_decoder", {}).items()
        if entry["content"] not in there
    ]
    there |= {t["content"] for t in late}
    vocabulary = description["model"]["vocab"]
    named = [name for key in ("bos_token", "eos_token") if (name := name_of(settings.get(key)))]
    late += [added_token(name, vocabulary[name], special=True) for name in {*named} - there if name in vocabulary]
    return {**description, "added_tokens": [*description.get("added_tokens", []), *late]} if late else description


def _end_ids(folder: Path) -> tuple[int, ...]:
    """Ends of a text as the model's own settings number them."""
    for name in ("generation_config.json", "config.json"):
        ends = _object(folder / name).get("eos_token_id")
        if ends is not None:
            return tuple(i for i in (ends if isinstance(ends, list) else [ends]) if type(i) is int)
    return ()


def _gpt2(folder: Path, settings: dict[str, Any]) -> Origin:
    vocabulary = read_json(folder / "vocab.json")
    if "<|endoftext|>" not in vocabulary:
        raise ModelError(f"{folder}/vocab.json has no <|endoftext|>, so nothing would end a response")
    merges = _read_merges(folder / "merges.txt") if (folder / "merges.txt").exists() else merges_by_id(vocabulary)
    late = {name: i for name, i in _object(folder / "added_tokens.json").items() if name not in vocabulary}
    special = {"<|endoftext|>": vocabulary["<|endoftext|>"]}
    description = byte_level_description(vocabulary, merges, pre="gpt-2", special=special, added=late)
    named = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    return Origin(
        description=description,
        settings=named | settings | {"tokenizer_class": "PreTrainedTokenizerFast"},
        end_ids=_end_ids(folder),
    )


def _read_merges(path: Path) -> list[str]:
    """GPT-2's own form: a line of version, then a pair a line."""
    lines = path.read_text(encoding="utf-8").split("\n")
    return [line for line in lines[lines[0].startswith("#version") :] if line.strip()]


def merges_by_id(vocabulary: dict[str, int]) -> list[str]:
    """Every way to join two tokens to a third, in the order of the third's ids, where ids are ranks."""
    plain = sorted((i, token) for token, i in vocabulary.items() if bytes_of(token) is not None)
    return [
        f"{token[:cut]} {token[cut:]}"
        for _, token in plain
        for cut in range(1, len(token))
        if token[:cut] in vocabulary and token[cut:] in vocabulary
    ]


def byte_level(vocabulary: Mapping[str, int], *, pattern: str, end: int, special: Mapping[str, int]) -> Tokens:
    """Tokens of a byte-level vocabulary (token spelled in GPT-2's printable bytes → id) whose ids are its ranks."""
    pre = {cut.pattern: name for name, cutter in CUTTERS.items() if (cut := cut_of(cutter))}[pattern]
    merges = merges_by_id({name: i for name, i in vocabulary.items() if name not in special})
    description = byte_level_description(vocabulary, merges, pre=pre, special=special, added={})
    named = [name for name, i in special.items() if i == end]
    settings = {"eos_token": named[0]} if named else {}
    return assemble(Origin(description=description, settings=settings), "the vocabulary")


def read_json(path: Path) -> Any:
    """A file of a model's folder; ModelError when it is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read ({error}): copy the model's folder again") from error
