"""From a tokenizer's description to Tokens: the exact way is chosen, the end of a response and the beginning found."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import tiktoken

from models.failure import ModelError
from models.tokens.chat import Chat
from models.tokens.cutting import Cut, cut_of
from models.tokens.library import Library
from models.tokens.origin import Description, Origin
from models.tokens.ranked import Ranked, bytes_of, missing_from, ranks_of
from models.tokens.tokens import Speller, Tokens

NAMED = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


def assemble(origin: Origin, source: str) -> Tokens:
    """Tokens of a description. ModelError where nothing ends a response; ValueError and the like for damage."""
    names = {key: text for key in NAMED if (text := name_of(origin.settings.get(key)))}
    description = origin.description
    special = special_of(description, names, source)
    template = chosen_template(origin.settings.get("chat_template"))
    chat = Chat(template=template, special=tuple(special), names=names) if template else None
    return Tokens(
        speller=speller_of(description, special),
        end=_end(origin, special, names, chat, source),
        special=special,
        begin=beginning(description),
        chat_template=template,
        names=names,
        origin=origin,
    )


def speller_of(description: Description, special: Mapping[str, int]) -> Speller:
    """tiktoken where that is exact, else `tokenizers`."""
    return _ranked(description, special) or Library(description, special)


def _ranked(description: Description, special: Mapping[str, int]) -> Ranked | None:
    model, normalizer = description["model"], description.get("normalizer")
    cut = cut_of(description.get("pre_tokenizer"))
    added = [t for t in description.get("added_tokens", []) if t["content"] not in special]
    if cut is None or not _plain(description, special, added) or normalizer not in (None, {"type": "NFC"}):
        return None
    ranks = ranks_of(model, special)
    if ranks is None:
        return None
    if missing_from(ranks) and model.get("unk_token"):
        return None  # what cannot be spelt is not left out
    return _encoding(description, special, {t["content"]: t["id"] for t in added}, ranks, cut)


def _encoding(
    description: Description, special: Mapping[str, int], added: Mapping[str, int], ranks: dict[bytes, int], cut: Cut
) -> Ranked:
    others = {i: bytes_of(name) or name.encode() for name, i in description["model"]["vocab"].items()}
    known = {i: spelt for spelt, i in ranks.items()}
    named = {i: name.encode() for name, i in (dict(special) | dict(added)).items()}
    return Ranked(
        encoding=tiktoken.Encoding(
            name="from-vocabulary", pat_str=cut.pattern, mergeable_ranks=ranks, special_tokens={}
        ),
        spelt=others | known | named,
        elsewhere=re.compile(f"[{elsewhere}]") if (elsewhere := missing_from(ranks) + cut.elsewhere) else None,
        composed=description.get("normalizer") is not None,
        prefix_space=cut.prefix_space,
        added=added,
        added_special=tuple(special),
        description=description,
    )


def _plain(description: Description, special: Mapping[str, int], added: list[Mapping[str, Any]]) -> bool:
    """Whether the model is byte-level BPE without anything that tiktoken has not."""
    model = description["model"]
    odd = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
    reaching = ("lstrip", "rstrip", "single_word")
    tokens = description.get("added_tokens", [])
    changed = description.get("normalizer") is not None and any(t.get("normalized") for t in added)
    return (
        (model.get("type") or "BPE") == "BPE"
        and "merges" in model
        and not any(model.get(key) for key in odd)
        and not any(t.get(key) for t in tokens for key in reaching)
        and not changed
    )


def special_of(description: Description, names: Mapping[str, str], source: str) -> dict[str, int]:
    """Control tokens by name: those called special, and those that the settings name."""
    added = {t["content"]: t for t in description.get("added_tokens", [])}
    special = {name: t["id"] for name, t in added.items() if t["special"]}
    for name in names.values():
        if name in added and name not in special:
            special[name] = added[name]["id"]
    if any(type(i) is not int or i < 0 for i in special.values()) or "" in special:
        raise ModelError(f"{source}: a special token has no name or no number: copy the tokenizer again")
    return special


def _end(origin: Origin, special: Mapping[str, int], names: Mapping[str, str], chat: Chat | None, source: str) -> int:
    """The id that ends a response: of the ends that the model knows the one that its chat template writes, if any."""
    named = names.get("eos_token")
    if named is not None and named not in special:
        raise ModelError(
            f"{source}: the end token {named!r} is not among the tokenizer's special tokens: copy the tokenizer again"
        )
    known = [special[named]] if named is not None else []
    known += [i for i in origin.end_ids if i in special.values()]
    if not known and "<|endoftext|>" in special:
        known = [special["<|endoftext|>"]]
    if not known:
        raise ModelError(f"{source}: no token ends a response: name one as eos_token in tokenizer_config.json")
    ending = chat.ending() if chat and len(set(known)) > 1 else None
    return special[ending] if ending is not None and special[ending] in known else known[0]


def beginning(description: Description) -> tuple[int, ...]:
    """Ids that the tokenizer's post-processor puts before a single text."""
    step = description.get("post_processor")
    for part in (step or {}).get("processors", [step]):
        if part and part.get("type") == "TemplateProcessing":
            ids: list[int] = []
            for piece in part["single"]:
                if "SpecialToken" not in piece:
                    return tuple(ids)
                ids += part["special_tokens"][piece["SpecialToken"]["id"]]["ids"]
    return ()


def name_of(token: Any) -> str | None:
    """A token's text, from either way that tokenizer_config.json writes one."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def chosen_template(template: Any) -> str | None:
    """Of several named chat templates the default, or the only one."""
    if isinstance(template, list):
        by_name = {entry["name"]: entry["template"] for entry in template}
        template = by_name.get("default") or (next(iter(by_name.values())) if len(by_name) == 1 else None)
    return template if isinstance(template, str) and template.strip() else None
